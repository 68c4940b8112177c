"""The command-line programs. What they are for is told without loading what they need to do it."""

import importlib
import sys

import hydra

from common.chain import full_errors
from common.directories import config_directory


def kdrl_train() -> None:
    """``kdrl-train``."""
    _start("kdrl/train")


def kdrl_evaluate() -> None:
    """``kdrl-evaluate``."""
    _start("kdrl/evaluate")


def kdrl_play() -> None:
    """``kdrl-play``."""
    _start("kdrl/play")


def kdseg_train() -> None:
    """``kdseg-train``."""
    _start("kdseg/train")


def kdseg_evaluate() -> None:
    """``kdseg-evaluate``."""
    _start("kdseg/evaluate")


def kdseg_check() -> None:
    """``kdseg-check``."""
    _start("kdseg/check")


def kdseg_predict() -> None:
    """``kdseg-predict``."""
    _start("kdseg/predict")


def kdrl_export() -> None:
    """``kdrl-export``."""
    _start("kdrl/export")


def kdseg_export() -> None:
    """``kdseg-export``."""
    _start("kdseg/export")


def _start(name: str) -> None:
    """Run the program of a primary configuration's name, or help with it."""
    if not ({"-h", "--help"} & set(sys.argv[1:]) and _helped(name)):
        importlib.import_module(name.replace("/", ".")).main()


def _helped(name: str) -> bool:
    """Whether Hydra could help; of what it cannot compose the program itself says what is wrong."""
    try:
        with full_errors():
            hydra.main(version_base="1.3", config_path=str(config_directory()), config_name=name)(lambda _: None)()
    except Exception:
        return False
    return True
