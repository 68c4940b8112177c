"""Where a training shows itself: the same numbers, pictures and scores in every logger, on both tasks."""

import contextlib
import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import kdrl.train
import kdseg.train
from common.errors import InputError
from common.runs.folder import Run
from common.watch import Watch, check_loggers, make_watch, name_of
from tests.disks import files_of
from tests.nuclei import SMALL_NETWORK

Call = Callable[..., Any]
PROGRAMS = {"seg": kdseg.train.main, "rl": kdrl.train.main}
ALL = "logger=[tensorboard,csv,wandb]"


@pytest.fixture
def tiny(request: pytest.FixtureRequest, small_nuclei: Path) -> dict[str, list[str]]:
    return {
        "seg": [
            *("data=nuclei", f"data.root={small_nuclei}", "data.target=fluorescence", "data.batch_size=4"),
            *("data.crop_size=32", *SMALL_NETWORK, "trainer.max_steps=6"),
            *("trainer.accelerator=cpu", "evaluation.every=3", "trainer.log_every_n_steps=1"),
        ],
        "rl": [
            *("env=leaper", "env.num_envs=8", "env.threads=0", "total_timesteps=256", "ppo.n_steps=16"),
            *("ppo.batch_size=64", "network.features_dim=32", "evaluation.episodes=4", "device=cpu"),
            *("evaluation.looks=[themed]", "evaluation.every=128", "evaluation.progress_episodes=4"),
        ],
    }


def table(run: Run) -> dict[tuple[int, str], float]:
    with (run.path / "scalars.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(int(row["step"]), row["name"]): float(row["value"]) for row in rows}
    assert len(found) == len(rows)  # nothing is there twice
    return found


def events(run: Run) -> EventAccumulator:
    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found


@pytest.mark.parametrize("task", PROGRAMS)
def test_every_logger_is_told_the_same(
    call: Call, tmp_path: Path, tiny: dict[str, list[str]], task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = Run(tmp_path / "run")
    done = call(PROGRAMS[task], *tiny[task], "averaging=ema", f"run_dir={run.path}", ALL)
    assert done.status == 0, done.err
    rows, board = table(run), events(run)
    # The run's own record is there whole: the curve, the scores of the last and of the averaged weights.
    for record in run.records():
        assert rows[record.steps, name_of(record)] == record.value
    assert any(name.endswith("/averaged") for _, name in rows)
    shown = {(event.step, tag): event.value for tag in board.Tags()["scalars"] for event in board.Scalars(tag)}
    assert rows.keys() <= shown.keys()
    for place, value in rows.items():
        assert shown[place] == pytest.approx(value, rel=1e-6, nan_ok=True)
    losses = [value for (_, name), value in rows.items() if name in ("train/loss", "train/value_loss")]
    assert losses and np.isfinite(losses).all()
    pictures = board.Tags()["images"]
    assert len([tag for tag in pictures if tag.startswith("test/")]) >= 2
    assert "_hparams_/session_start_info" in board.summary_metadata
    offline = list((run.path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(offline) == 1 and offline[0].stat().st_size > 10_000
    assert run.finished


@pytest.mark.parametrize("task", PROGRAMS)
def test_loggers_change_nothing_of_a_run(call: Call, tmp_path: Path, tiny: dict[str, list[str]], task: str) -> None:
    silent, shown = Run(tmp_path / "silent"), Run(tmp_path / "shown")
    for run, logger in ((silent, "logger=[]"), (shown, "logger=[tensorboard,csv]")):
        done = call(PROGRAMS[task], *tiny[task], f"run_dir={run.path}", logger)
        assert done.status == 0, done.err
    assert [(row.metric, row.domain, row.value) for row in silent.records()] == [
        (row.metric, row.domain, row.value) for row in shown.records()
    ]
    identities = [json.loads(run.identity_path.read_text()) for run in (silent, shown)]
    assert identities[0] == identities[1]
    assert not (silent.path / "tensorboard").exists() and not (silent.path / "scalars.csv").exists()


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    watch = make_watch(["csv", "tensorboard"], tmp_path)
    for step in (1, 2, 3):
        watch.scalars({"a": step / 3, "b": float("nan")}, step)
    watch.close()
    return tmp_path


def test_what_was_shown_after_the_step_that_a_run_goes_on_from_is_forgotten(filled: Path) -> None:
    with (filled / "scalars.csv").open("a") as file:
        file.write("4,a")  # killed while writing
    watch = make_watch(["csv", "tensorboard"], filled, after=2)
    watch.scalars({"a": 30.0}, 3)
    watch.close()
    assert (filled / "scalars.csv").read_text().splitlines() == [
        *("step,name,value", f"1,a,{1 / 3!r}", "1,b,nan", f"2,a,{2 / 3!r}", "2,b,nan", "3,a,30.0"),
    ]
    shown = EventAccumulator(str(filled / "tensorboard"))
    shown.Reload()
    assert [(event.step, round(event.value, 3)) for event in shown.Scalars("a")] == [(1, 0.333), (2, 0.667), (3, 30.0)]


def fill(watch: Watch) -> None:
    for step in range(2000):
        watch.scalars({"loss": 1.0}, step)
    watch.close()


def test_a_disk_that_takes_no_more_is_raised_and_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    watch = make_watch(["tensorboard"], tmp_path, 0)
    with files_of(4096), pytest.raises(OSError, match="File too large"):
        fill(watch)
    with contextlib.suppress(OSError):
        watch.close()
    assert printed == []
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert [args.exc_type for args in printed] == [ZeroDivisionError]


def test_names_that_are_no_logger(call: Call, tmp_path: Path, tiny: dict[str, list[str]]) -> None:
    done = call(kdseg.train.main, *tiny["seg"], f"run_dir={tmp_path / 'run'}", "logger=tensorbored")
    assert done.status == 2 and "'tensorbored' is not known; use one of: tensorboard, csv, wandb" in done.err
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_loggers(["tensorboard", "csv"])
    with pytest.raises(InputError, match=r"^logger=wandb needs the extra 'wandb': pip install 'kdshift\[wandb\]'$"):
        check_loggers(["wandb"])


def test_weights_and_biases_without_an_account(tmp_path: Path) -> None:
    # In a process of its own: the library keeps what it was told first.
    told = f"""
from pathlib import Path
from common.errors import InputError
from common.watch import make_watch
try:
    make_watch(["csv", "wandb"], Path({str(tmp_path)!r}))
except InputError as error:
    print(error)
"""
    known = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, env={**known, "HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    line = done.stdout.strip()
    assert (
        line.startswith("logger=wandb: ") and line.endswith("; log in, or set WANDB_MODE=offline") and "\n" not in line
    )
