"""Seconds until a program says what it is for, and until the package is imported.

Run: ``python -m benchmarks.speed.startup``.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.speed.pairing import Result, figure

COMMANDS = {
    "import kdrl": [sys.executable, "-c", "import kdrl"],
    "import torch": [sys.executable, "-c", "import torch"],
    "kdrl-train --help": [str(Path(sys.executable).parent / "kdrl-train"), "--help"],
}


def measure(rounds: int = 5, names: Iterable[str] = COMMANDS) -> dict[str, Result]:
    """Of every command, after one start that brings its files into memory."""
    return {name: figure([_seconds(COMMANDS[name]) for _ in range(1 + rounds)][1:]) for name in names}


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(json.dumps(measure(), indent=1))


if __name__ == "__main__":
    main()
