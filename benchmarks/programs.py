"""The programs of this installation, as a benchmark calls them, and their configuration."""

import copy
import functools
import os
import subprocess
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from common.directories import config_directory


def command_of(program: str, *arguments: str) -> list[str]:
    """The command line of a program of this installation."""
    return [str(Path(sys.executable).with_name(program)), *arguments]


def call(program: str, *arguments: str) -> None:
    """Run a program of this installation on one thread."""
    command = command_of(program, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def configured(task: str, *overrides: str) -> DictConfig:
    """The training program's own configuration (``kdrl`` or ``kdseg``), so that defaults are never copied here."""
    return copy.deepcopy(_composed(task, overrides))


@functools.cache
def _composed(task: str, overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
        return compose(f"{task}/train", overrides=list(overrides))
