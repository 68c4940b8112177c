"""Averaged weights beside the last ones, through the programs of both tasks: kept, recorded, judged, taught with."""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import kdrl.evaluate
import kdrl.train
import kdseg.evaluate
import kdseg.train
from common.report.main import main as report
from common.runs.folder import Run
from common.runs.records import Record
from tests.nuclei import SMALL_NETWORK
from tests.policies import SMALL_POLICY

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),
    pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers"),
]

KINDS = ("averaged", "last")
NO_AVERAGE = "has no averaged weights; use last, or train it with averaging=wakd\n"
MISTAKES = [
    (["averaging=swad", "evaluation.every=0"], "averaging=swad needs a validation loss on source domains, which"),
    (["averaging=wakd", "averaging.start=1.0"], "averaging.start=1.0 must be in [0, 1)"),
    (["averaging=ema", "averaging.decay=1"], "averaging.decay=1 must be in [0, 1)"),
    (["averaging=wakd", "averaging.buffers=none"], "averaging.buffers='none'"),
    (["averaging=wakd", "+averaging.decay=0.5"], "averaging.decay is not known"),
    (["averaging=swa"], "averaging=swa is not known; use one of: "),
    (
        ["+averaging._target_=torch.nn.Identity"],
        "averaging._target_='torch.nn.Identity' is refused; use one of: common.averaging.WAKD",
    ),
    (["teacher_weights=best"], "teacher_weights='best'"),
]


@dataclasses.dataclass(frozen=True)
class Programs:
    """A task's programs, and arguments that make them a matter of seconds."""

    train: Callable[[], object]
    evaluate: Callable[[], object]
    short: tuple[str, ...]
    judged: tuple[str, ...]
    often: str
    late: tuple[str, str]


PROGRAMS = {
    "policies": Programs(
        kdrl.train.main,
        kdrl.evaluate.main,
        (
            *(*SMALL_POLICY, "total_timesteps=256", "ppo.n_steps=32", "ppo.batch_size=64"),
            *("evaluation.every=128", "evaluation.progress_episodes=1"),
        ),
        ("episodes=1", "num_envs=1", "looks=[]", "device=cpu"),
        "evaluation.every=128",
        ("evaluation.every=999", "which a run of 256 steps with evaluation.every=999 does not have"),
    ),
    "segmentation": Programs(
        kdseg.train.main,
        kdseg.evaluate.main,
        (
            *("data=nuclei", "data.target=fluorescence", "data.batch_size=4", "data.crop_size=16"),
            *(*SMALL_NETWORK, "trainer.max_steps=4", "trainer.accelerator=cpu"),
            "evaluation.every=2",
        ),
        (),
        "evaluation.every=1",
        ("evaluation.every=9", "which a run of 4 steps with evaluation.every=9 does not have"),
    ),
}


@dataclasses.dataclass
class Case:
    """A task, with plain runs of two seeds, one of them averaged, and students of that one.

    Attributes:
        programs: The task's.
        plain: Plain training, seed 0; of seed 1 beside it.
        teacher: The same with averaging.
        student: Taught by the teacher's averaged weights; beside it one that was taught by its last.
    """

    programs: Programs
    call: Callable[..., Any]
    plain: Run
    teacher: Run
    student: Run

    def train(self, folder: Path, *more: str) -> Any:
        return self.call(self.programs.train, *self.programs.short, *more, f"run_dir={folder}")

    def evaluate(self, run: Run, *more: str) -> Any:
        return self.call(self.programs.evaluate, f"run={run.path}", *self.programs.judged, *more)


@pytest.fixture(scope="module", params=PROGRAMS)
def case(
    request: pytest.FixtureRequest,
    call: Callable[..., Any],
    small_nuclei: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    programs, folder = PROGRAMS[request.param], tmp_path_factory.mktemp(request.param)
    if request.param == "segmentation":
        programs = dataclasses.replace(programs, short=(*programs.short, f"data.root={small_nuclei}"))
    # The teacher lies away from the others, whose report it must not enter.
    teacher, runs = Run(folder / "teacher"), folder / "runs"
    case = Case(programs, call, Run(runs / "erm-0"), teacher, Run(runs / "kd-0"))
    for seed in (0, 1):
        assert case.train(runs / f"erm-{seed}", f"seed={seed}").status == 0
    assert case.train(teacher.path, "averaging=wakd", "checkpoint_every=1").status == 0
    for seed, weights in enumerate(("auto", "last")):
        taught = ("method=kd", f"teacher={teacher.path}", f"teacher_weights={weights}", f"seed={seed}")
        outcome = case.train(runs / f"kd-{seed}", *taught, "averaging=wakd")
        assert (outcome.status, outcome.err) == (0, "")
        said = " ".join(outcome.out.split())
        assert f"teacher: {'averaged' if weights == 'auto' else 'last'} weights of" in said
        assert ", averaged weights" in said
    return case


def rows(run: Run, split: str, selection: str) -> list[Record]:
    return [record for record in run.records() if (record.split, record.selection) == (split, selection)]


def test_averaging_leaves_the_last_weights_as_they_are_without(case: Case) -> None:
    assert [path.name for path in case.plain.checkpoints.iterdir()] == ["last.safetensors"]
    assert {record.selection for record in case.plain.records()} == {"last"}
    ours, theirs = (run.checkpoints / "last.safetensors" for run in (case.teacher, case.plain))
    assert ours.read_bytes() == theirs.read_bytes()
    for split in ("progress", "validation", "test"):
        mine, their = (
            [(row.domain, row.metric, row.steps, row.value) for row in rows(run, split, "last")]
            for run in (case.teacher, case.plain)
        )
        assert mine == their


def test_a_run_has_both_choices_of_weights(case: Case) -> None:
    checkpoints = case.student.checkpoints
    assert {path.name for path in checkpoints.iterdir()} == {"last.safetensors", "averaged.safetensors"}
    last, averaged = (load_file(checkpoints / f"{name}.safetensors") for name in ("last", "averaged"))
    assert last.keys() == averaged.keys()
    assert not any(torch.equal(last[name], averaged[name]) for name in last if last[name].is_floating_point())
    for split in ("validation", "test"):
        # The way is of the weights that are trained.
        one, two = (
            [row for row in rows(case.student, split, selection) if row.metric != "weight_distance"]
            for selection in ("last", "averaged")
        )
        assert [(r.domain, r.seen, r.metric, r.n) for r in one] == [(r.domain, r.seen, r.metric, r.n) for r in two]


@pytest.mark.parametrize("weights", ["auto", "averaged", "last"])
def test_evaluation_reproduces_both(case: Case, tmp_path: Path, weights: str) -> None:
    selection = "last" if weights == "last" else "averaged"
    outcome = case.evaluate(case.student, f"weights={weights}", f"out={tmp_path / 'again'}")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"weights: {selection}\n" in outcome.out
    again = Run(tmp_path / "again")
    found = list(again.records())
    splits = {record.split for record in found}
    assert "test" in splits
    assert found == [r for r in case.student.records() if r.split in splits and r.selection == selection]
    theirs = case.student.items()
    for key, array in again.items().items():  # under the plain keys, since there is one choice
        np.testing.assert_array_equal(array, theirs.get(f"{key}|{selection}", theirs[key]))


def test_the_teacher_that_taught_is_kept(case: Case) -> None:
    for seed, name in enumerate(("averaged", "last")):
        kept = case.student.path.with_name(f"kd-{seed}") / "teachers" / "0" / "checkpoints"
        assert [path.name for path in kept.iterdir()] == [f"{name}.safetensors"]
        assert (kept / f"{name}.safetensors").read_bytes() == (
            case.teacher.checkpoints / f"{name}.safetensors"
        ).read_bytes()


def test_the_report_compares_averaged_weights_with_an_interval(case: Case, tmp_path: Path) -> None:
    report([str(case.plain.path.parent), "--out", str(tmp_path / "report")])
    lines = (tmp_path / "report" / "report.csv").read_text().splitlines()
    labels = {row["method"]: row for row in csv.DictReader(lines)}
    # One student was taught by the teacher's averaged weights, the other by its last: they are no two seeds of a row.
    taught = [f"{name} [teacher.weights={weights}]" for name in ("kd", "kd (averaged)") for weights in KINDS]
    assert {"erm", *taught} <= labels.keys()
    assert all(labels[label]["difference_low"] != "" and labels[label]["seeds"] == "1" for label in taught)


@pytest.mark.parametrize("averaging", ["swad", "sma"])
def test_averagers_that_validate_do_not_disturb_training(case: Case, averaging: str, tmp_path: Path) -> None:
    arguments = (f"averaging={averaging}", "averaging.start=0", "averaging.buffers=reestimate")
    outcome = case.train(tmp_path / "run", *arguments, case.programs.often)
    assert (outcome.status, outcome.err) == (0, "")
    run = Run(tmp_path / "run")
    assert len(rows(run, "test", "averaged")) == len(rows(run, "test", "last")) > 0
    ours, theirs = (one.checkpoints / "last.safetensors" for one in (run, case.plain))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_written(
    case: Case, arguments: list[str], expected: str, tmp_path: Path
) -> None:
    refused(case.train(tmp_path / "run", *arguments), expected)
    assert not (tmp_path / "run").exists()


def test_a_validation_that_never_comes_is_refused(case: Case, tmp_path: Path) -> None:
    every, expected = case.programs.late
    refused(case.train(tmp_path / "run", "averaging=sma", every), expected)
    assert not (tmp_path / "run").exists()


def test_averaged_weights_of_a_run_without_any_are_refused(case: Case, tmp_path: Path) -> None:
    refused(case.evaluate(case.plain, "weights=averaged"), NO_AVERAGE)
    taught = ("method=kd", f"teacher={case.plain.path}", "teacher_weights=averaged")
    refused(case.train(tmp_path / "run", *taught), NO_AVERAGE)
    assert not (tmp_path / "run").exists()


def refused(outcome: Any, expected: str) -> None:
    assert outcome.status == 2
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1 and expected in outcome.err
