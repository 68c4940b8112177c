"""Settings of every test: one thread a process, no display; and the programs as a user calls them."""

import contextlib
import copy
import dataclasses
import functools
import gc
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from tests.nuclei import corners_of_nuclei

matplotlib.use("Agg")
torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What the imports made stays to the end: nobody looks for garbage in it again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def no_power_cut() -> Iterator[None]:
    """Nothing is flushed to disk by this process: what is saved outlives it without, and thousands of flushes wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_folder_of_loggers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stable-Baselines3 makes a folder beside all others for each logger that nobody configured: hundreds here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(tmp_path_factory.mktemp("loggers")))
        yield


@pytest.fixture(scope="session", autouse=True)
def configurations_are_parsed_once() -> Iterator[None]:
    """Files of the configuration, of which each of a thousand command lines here reads some fifteen."""
    load = OmegaConf.load

    @functools.cache
    def parsed(text: str) -> Any:
        return load(io.StringIO(text))

    def loaded(file: Any) -> Any:
        if not isinstance(file, io.TextIOBase):
            return load(file)
        try:
            return copy.deepcopy(parsed(file.read()))
        except yaml.YAMLError:  # which says where, if it knows the file
            file.seek(0)
            return load(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", loaded)
        yield


@pytest.fixture(scope="session")
def small_nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corners_of_nuclei(tmp_path_factory.mktemp("nuclei"))


@dataclasses.dataclass
class Outcome:
    """How a program ended, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def call() -> Callable[..., Outcome]:
    """Runs a program's ``main`` with command-line arguments in this process."""

    def run(main: Callable[[], None], *arguments: object) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        status: int | str | None = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["program", *map(str, arguments)])
            GlobalHydra.instance().clear()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main()
                except SystemExit as stop:
                    status = stop.code
                finally:
                    GlobalHydra.instance().clear()
        assert status is None or isinstance(status, int), status
        return Outcome(status or 0, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def workplace(small_nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that looks like a checkout, as far as the examples reach into one, with smaller images."""
    (tmp_path / "tests" / "data").mkdir(parents=True)
    os.symlink(small_nuclei, tmp_path / "tests" / "data" / "nuclei")
    monkeypatch.chdir(tmp_path)
    return tmp_path
