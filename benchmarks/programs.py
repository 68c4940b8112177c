"""The programs of this installation, as a benchmark calls them."""

import os
import subprocess
import sys
from pathlib import Path


def call(program: str, *arguments: str) -> None:
    """Run a program of this installation on one thread."""
    command = [str(Path(sys.executable).parent / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
