"""Contestants in processes of their own: what one allocates, or how, is not another's. They take turns."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.pairing import Times

ROOT = Path(__file__).parents[2]
_MARK = "> "  # libraries print too

Told = dict[str, float]
"""What a turn tells: at least its ``seconds`` and, of its processor, ``processor``."""


class Contestant:
    """A module of this folder, started and waiting for its turns.

    Args:
        module: Its name; its ``main`` ends in :func:`serve`.
        arguments: Its command line.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.told: list[Told] = []
        self._hear()

    def turn(self) -> Times:
        """Have it take a turn."""
        assert self._process.stdin is not None
        self._process.stdin.write("turn\n")
        self._process.stdin.flush()
        self.told.append(self._hear())
        return self.told[-1]["seconds"], self.told[-1]["processor"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _hear(self) -> Told:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_MARK):
                told: Told = json.loads(line[len(_MARK) :])
                return told
        raise RuntimeError(f"{self._process.args!r} ended with status {self._process.wait()}")


def serve(turn: Callable[[], Told]) -> None:
    """Take a turn whenever asked, until nobody asks any more."""
    _tell({})
    for _ in sys.stdin:
        _tell(turn())


def _tell(told: dict[str, Any]) -> None:
    print(f"{_MARK}{json.dumps(told)}", flush=True)
