"""The command-line programs. What they are for is told without loading what they need to do it."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from common.chain import full_errors
from common.directories import config_directory


def _start(name: str) -> None:
    """Run the program of a primary configuration's name, or help with it."""
    if not ({"-h", "--help"} & set(sys.argv[1:]) and _helped(name)):
        importlib.import_module(name.replace("/", ".")).main()


def _helped(name: str) -> bool:
    """Whether Hydra could help; of what it cannot compose the program itself says what is wrong."""
    try:
        with full_errors(), _copied_once():
            hydra.main(version_base="1.3", config_path=str(config_directory()), config_name=name)(lambda _: None)()
    except Exception:
        return False
    return True


@contextlib.contextmanager
def _copied_once() -> Iterator[None]:
    """To list its groups, Hydra copies all it knows a hundred times, which is half of the time that help takes."""
    name, copies = "_parse_overrides_and_create_caching_repo", dict[Any, Any]()
    original = getattr(ConfigLoaderImpl, name, None)
    if original is None:  # another version, which may not need it
        yield
        return

    def once(self: Any, config_name: str | None, overrides: list[str]) -> Any:
        key = config_name, *overrides
        if key not in copies:
            copies[key] = original(self, config_name, overrides)
        return copies[key]

    setattr(ConfigLoaderImpl, name, once)
    try:
        yield
    finally:
        setattr(ConfigLoaderImpl, name, original)


kdrl_train = partial(_start, "kdrl/train")
kdrl_evaluate = partial(_start, "kdrl/evaluate")
kdrl_play = partial(_start, "kdrl/play")
kdrl_export = partial(_start, "kdrl/export")
kdseg_train = partial(_start, "kdseg/train")
kdseg_evaluate = partial(_start, "kdseg/evaluate")
kdseg_check = partial(_start, "kdseg/check")
kdseg_predict = partial(_start, "kdseg/predict")
kdseg_export = partial(_start, "kdseg/export")
