"""Programs one after the other, each in a process of its own; what is finished is not run again."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from common.errors import InputError
from common.runs.folder import Run
from common.runs.interruption import SIGNALS

FULL_ERROR = "HYDRA_FULL_ERROR"

Chain = Sequence[tuple[Path, list[str]]]
"""Each run's folder and the command that trains it."""


@contextlib.contextmanager
def full_errors() -> Iterator[None]:
    """Inside, Hydra raises its errors instead of printing its own, longer messages."""
    given = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        os.environ.pop(FULL_ERROR)
        if given is not None:
            os.environ[FULL_ERROR] = given


def train_chain(chain: Chain, run: Callable[[list[str]], int]) -> int:
    """Train the runs that are not finished, one after the other.

    Args:
        chain: The runs.
        run: Runs a command and gives its exit status.

    Returns:
        The exit status of the first that failed, or 0.
    """
    for number, (path, command) in enumerate(chain, 1):
        place = f"{number} of {len(chain)}"
        if Run(path).finished:
            print(f"{place}: {path} is finished", flush=True)
            continue
        print(f"{place}: {' '.join(command)}", flush=True)
        if status := run(command):
            return status
    return 0


def run_program(command: list[str]) -> int:
    """Run a program of this installation, or one given by its path, and give its exit status.

    Raises:
        InputError: there is no such program.
    """
    # The program that belongs to this installation, whether or not it is on the path.
    beside = Path(sys.executable).parent / command[0]
    program = str(beside) if beside.exists() else shutil.which(command[0])
    if program is None:
        raise InputError(f"{command[0]} is not a program here; use kdrl-train or kdseg-train")
    # Set while a program of ours composes its configuration: it would ask this one for tracebacks.
    environment = {name: value for name, value in os.environ.items() if name != FULL_ERROR}
    # A group of its own: a signal reaches it once, through us, and it is given the time to save what it has.
    with subprocess.Popen([program, *command[1:]], process_group=0, env=environment) as process:
        before = {number: signal.signal(number, lambda number, _: process.send_signal(number)) for number in SIGNALS}
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
