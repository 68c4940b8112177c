"""The programs of this installation, as a benchmark calls them."""

import os
import subprocess
import sys
from pathlib import Path


def command_of(program: str, *arguments: str) -> list[str]:
    """The command line of a program of this installation."""
    return [str(Path(sys.executable).with_name(program)), *arguments]


def call(program: str, *arguments: str) -> None:
    """Run a program of this installation on one thread."""
    command = command_of(program, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
