"""Settings of every test: one thread a process, no display; and the programs as a user calls them."""

import contextlib
import dataclasses
import gc
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

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
