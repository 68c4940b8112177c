"""A run that was interrupted, however it was, ends as one that was not: on both tasks, through their own programs."""

import dataclasses
import errno
import functools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import kdrl.train
import kdseg.train
from common.runs.checkpoint import Checkpoints
from common.runs.folder import Run
from common.runs.keeper import Keeper
from common.runs.records import SELECTIONS
from common.runs.status import Status
from tests.nuclei import SMALL_NETWORK
from tests.policies import SMALL_POLICY

Call = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Program:
    """A training program and arguments that make it a matter of seconds.

    Everything that has a state is in it: an averager that waits for a loss, rules that choose weights, terms with
    memories, episodes that are the teacher's, a learning curve, workers, accumulated gradients.
    """

    main: Callable[[], None]
    arguments: tuple[str, ...]
    method: tuple[str, ...]
    module: Any
    steps: int


PROGRAMS = {
    "policies": Program(
        kdrl.train.main,
        (
            *(*SMALL_POLICY, "total_timesteps=384", "ppo.n_epochs=2", "checkpoint_every=64"),
            *("evaluation.every=128", "evaluation.progress_episodes=1"),
        ),
        ("method=kddg_sdd", "driver=mixed", "averaging=swad", "selection=[validated,oracle]"),
        kdrl.train,
        384,
    ),
    "segmentation": Program(
        kdseg.train.main,
        (
            *("data=nuclei", "data.target=fluorescence", "data.sources=[purple_on_white]", "data.batch_size=4"),
            *("data.crop_size=32", *SMALL_NETWORK, "trainer.max_steps=9"),
            *("trainer.accelerator=cpu", "+trainer.accumulate_grad_batches=2", "evaluation.every=3"),
            "checkpoint_every=2",
        ),
        ("method=ai_kd", "averaging=swad", "selection=[validated,oracle]"),
        kdseg.train,
        9,
    ),
}


def with_data(task: str, data: Path) -> Program:
    program = PROGRAMS[task]
    more = (f"data.root={data}",) if task == "segmentation" else ()
    return dataclasses.replace(program, arguments=(*program.arguments, *more))


@dataclasses.dataclass
class Case:
    """A task's program with a run that was left alone."""

    program: Program
    call: Call
    teacher: Run
    whole: Run

    def train(self, folder: Path, *more: str) -> Any:
        taught = (*self.program.method, f"teacher={self.teacher.path}", "seed=1")
        return self.call(self.program.main, *self.program.arguments, *taught, f"run_dir={folder}", *more)

    def finish(self, folder: Path) -> Any:
        """The same command again, and the same end."""
        outcome = self.train(folder)
        assert (outcome.status, outcome.err) == (0, "")
        assert_same(Run(folder), self.whole)
        return outcome


@pytest.fixture(scope="module")
def cases(call: Call, small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """A task's case, made when it is first asked for."""

    @functools.cache
    def made(task: str) -> Case:
        program, folder = with_data(task, small_nuclei), tmp_path_factory.mktemp(task)
        outcome = call(program.main, *program.arguments, "method=erm", "seed=100", f"run_dir={folder / 'teacher'}")
        assert (outcome.status, outcome.err) == (0, "")
        case = Case(program, call, Run(folder / "teacher"), Run(folder / "whole"))
        outcome = case.train(case.whole.path)
        assert (outcome.status, outcome.err) == (0, "")
        return case

    return made


@pytest.fixture(params=PROGRAMS)
def case(request: pytest.FixtureRequest, cases: Callable[[str], Case]) -> Case:
    return cases(request.param)


# What no task has a part in is tried on the quicker one.
IN_EITHER = pytest.mark.parametrize("case", ["policies"], indirect=True)


def assert_same(ours: Run, theirs: Run) -> None:
    """Weights, records and items bit for bit; seconds may differ."""
    assert ours.finished
    assert {path.stem for path in ours.checkpoints.iterdir()} == set(SELECTIONS)
    for path in ours.checkpoints.iterdir():
        assert path.read_bytes() == (theirs.checkpoints / path.name).read_bytes(), path.name
    records = [[dataclasses.replace(row, seconds=0.0) for row in run.records()] for run in (ours, theirs)]
    assert records[0] == records[1]
    mine, their = ours.items(), theirs.items()
    assert mine.keys() == their.keys()
    assert [key for key in mine if not np.array_equal(mine[key], their[key])] == []


class KilledError(BaseException):
    """The process is gone: nothing of ours may catch this, and nothing is saved after it."""


def dies_after(monkeypatch: pytest.MonkeyPatch, saves: int, method: str = "save") -> None:
    """Let the training die when it has saved so many times."""
    original = getattr(Keeper, method)
    left = [saves]

    def save(keeper: Keeper, *arguments: Any) -> Any:
        result = original(keeper, *arguments)
        left[0] -= 1
        if left[0] == 0:
            raise KilledError
        return result

    monkeypatch.setattr(Keeper, method, save)


def killed(case: Case, folder: Path, saves: int) -> None:
    """Train until it is killed; from the beginning only once, since a folder can be copied."""
    kept = case.whole.path.with_name(f"killed-{saves}")
    begins = not folder.exists()
    if begins and kept.exists():
        shutil.copytree(kept, folder)
        return
    with pytest.MonkeyPatch.context() as patch:
        dies_after(patch, saves)
        with pytest.raises(KilledError):
            case.train(folder)
    if begins:
        shutil.copytree(folder, kept)


def test_killed_after_a_checkpoint(case: Case, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    killed(case, run.path, 3)
    status = run.status()
    assert status is not None and status.stage == "training" and 0 < status.steps < status.of == case.program.steps
    # Whatever was recorded after the checkpoint is recorded once.
    run.append(case.whole.records()[:1])
    outcome = case.finish(run.path)
    assert f"it goes on from step {status.steps}" in outcome.out


def test_killed_again_and_again_and_before_the_first_checkpoint(case: Case, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        dies_after(patch, 1, "remember")
        with pytest.raises(KilledError):
            case.train(run.path)
    assert not run.checkpoints.exists()
    for saves in (1, 1, 2):
        killed(case, run.path, saves)
    case.finish(run.path)


@pytest.mark.parametrize(
    ("case", "number", "status", "where"),
    [("policies", signal.SIGINT, 130, "remember"), ("segmentation", signal.SIGTERM, 143, "record")],
    indirect=["case"],
)
def test_a_signal_saves_at_once_and_says_how_to_go_on(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, where: str
) -> None:
    """Between two checkpoints, and during an evaluation along the way."""
    original = getattr(Keeper, where)
    left = [3]

    def signalled(keeper: Keeper, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), number)
        return original(keeper, *arguments)

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, where, signalled)
        outcome = case.train(run.path, "checkpoint_every=100000")
    assert outcome.status == status
    state = run.status()
    assert state is not None and 0 < state.steps < state.of
    assert outcome.err == f"interrupted; saved at step {state.steps}: the same command goes on from there\n"
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    case.finish(run.path)


@pytest.mark.parametrize(("case", "where"), [("policies", "measure"), ("segmentation", "rows")], indirect=["case"])
def test_killed_or_interrupted_while_it_is_tested(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    run = Run(tmp_path / "run")

    def dies(*arguments: Any, **named: Any) -> Any:
        if where == "rows":
            os.kill(os.getpid(), signal.SIGINT)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(case.program.module, where, dies)
        if where == "measure":
            # Of the teacher it is asked before.
            patch.setattr(type(_training(case)), "begin", lambda _: None)
            with pytest.raises(KilledError):
                case.train(run.path)
        else:
            outcome = case.train(run.path)
            assert (outcome.status, outcome.err) == (
                130,
                "interrupted; it is trained: the same command tests it\n",
            )
    status = run.status()
    assert status is not None and status.stage == "trained"
    outcome = case.finish(run.path)
    assert "it is trained already and will be tested" in outcome.out


def _training(case: Case) -> Any:
    module = case.program.module
    kind = getattr(module, "PolicyTraining", None) or module.SegmentationTraining
    return kind.__new__(kind)


@IN_EITHER
def test_records_that_were_written_before_the_end_came_are_not_written_twice(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    original = Run.set_status

    def dies(self: Run, status: Status) -> None:
        if status.stage == "finished":
            raise KilledError
        original(self, status)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "set_status", dies)
        with pytest.raises(KilledError):
            case.train(run.path)
    assert len(run.records()) == len(case.whole.records()) and not run.finished
    case.finish(run.path)


@IN_EITHER
def test_a_damaged_state_is_named_and_the_one_before_it_is_used(case: Case, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    killed(case, run.path, 3)
    newest = max(run.checkpoints.glob("state-*.pt"), key=lambda path: int(path.stem.removeprefix("state-")))
    newest.write_bytes(newest.read_bytes()[:-1])
    outcome = case.finish(run.path)
    assert f"{newest} is damaged (its checksum is wrong)" in outcome.out


@IN_EITHER
def test_a_full_disk_is_one_line_and_loses_nothing_that_was_saved(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    original, left = Path.write_bytes, [1]

    def full(path: Path, content: bytes) -> int:
        if path.suffix == ".pt":
            left[0] -= 1
            if left[0] < 0:
                original(path, content[:10])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return original(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        outcome = case.train(run.path)
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert outcome.err.startswith("error: No space left on device (")
    assert outcome.err.endswith("; make room, and the same command goes on\n")
    assert Checkpoints(run).load()[0] is not None
    case.finish(run.path)


@IN_EITHER
def test_options_that_came_since_are_no_other_configuration(case: Case, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    killed(case, run.path, 1)
    before = yaml.safe_load(run.config_path.read_text())
    del before["teacher_shares"], before["teacher_domains"]
    run.config_path.write_text(yaml.safe_dump(before))
    case.finish(run.path)


@IN_EITHER
def test_another_configuration_is_refused_by_its_keys_or_moves_the_run_aside(case: Case, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    killed(case, run.path, 1)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "lock"}
    outcome = case.train(run.path, "seed=2", "averaging.start=0.25")
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert "holds an interrupted run of another configuration: seed=2 (there: 1)" in outcome.err
    assert "averaging.start=0.25 (there: 0.0)" in outcome.err
    assert "or resume=never to move it aside" in outcome.err
    assert {path: path.read_bytes() for path in before} == before
    left = run.status()
    assert left is not None and left.steps > 0
    outcome = case.train(run.path, "averaging.start=0.25", "resume=never")
    assert outcome.status == 0 and "it is kept in" in outcome.out
    aside = Run(tmp_path / "run.interrupted-1")
    assert aside.status() == left and not aside.finished and run.finished


@IN_EITHER
def test_a_teacher_with_other_weights_makes_another_run(case: Case, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    killed(case, run.path, 1)
    other = case.call(
        case.program.main, *case.program.arguments, "method=erm", "seed=101", f"run_dir={tmp_path / 'other'}"
    )
    assert other.status == 0
    outcome = case.train(run.path, f"teacher={tmp_path / 'other'}")
    assert outcome.status == 2 and "teachers.0=" in outcome.err


@IN_EITHER
def test_a_finished_run_is_protected(case: Case) -> None:
    before = {path: path.read_bytes() for path in case.whole.path.rglob("*") if path.is_file()}
    for more, what in (((), "this very run"), (("seed=2",), "a finished run"), (("resume=never",), "this very run")):
        outcome = case.train(case.whole.path, *more)
        assert outcome.status == 2 and f"already holds {what}" in outcome.err
    assert {path: path.read_bytes() for path in case.whole.path.rglob("*") if path.is_file()} == before


@IN_EITHER
def test_a_folder_in_use_is_refused(case: Case, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    killed(case, run.path, 1)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with run.lock():
        outcome = case.train(run.path)
        assert outcome.status == 2
        assert outcome.err.startswith(f"error: run_dir={run.path} is in use by process {os.getpid()} on ")
    assert {path for path in run.path.rglob("*") if path.is_file()} == set(before)
    case.finish(run.path)
    # A folder that does not exist yet is taken before anything is in it.
    with Run(tmp_path / "new").lock():
        assert "is in use by" in case.train(tmp_path / "new").err


@IN_EITHER
def test_an_interrupted_run_is_no_teacher_unless_asked_for(case: Case, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    killed(case, run.path, 2)
    taught = ["method=kd", f"teacher={run.path}", f"run_dir={tmp_path / 'student'}"]
    outcome = case.call(case.program.main, *case.program.arguments, *taught)
    assert outcome.status == 2 and f"teacher={run.path} is not finished (training, " in outcome.err
    assert not (tmp_path / "student").exists()
    outcome = case.call(case.program.main, *case.program.arguments, *taught, "unfinished=true")
    assert (outcome.status, outcome.err) == (0, "")
    identity = Run(tmp_path / "student").identity()
    status = run.status()
    assert identity is not None and status is not None
    assert identity.row["teachers"][0]["unfinished_at"] == status.steps


# --- what only one task has ------------------------------------------------------------------------------------------


def test_episodes_that_the_engine_cannot_save_begin_anew_and_the_records_say_so(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, folder = PROGRAMS["policies"], tmp_path / "run"
    arguments = [*program.arguments, "env.look=generated", f"run_dir={folder}"]
    with monkeypatch.context() as patch:
        dies_after(patch, 3)
        with pytest.raises(KilledError):
            call(program.main, *arguments)
    outcome = call(program.main, *arguments)
    assert (outcome.status, outcome.err) == (0, "")
    run = Run(folder)
    status = run.status()
    assert status is not None and status.resumed == "inexact"
    assert {row.resumed for row in run.records() if row.split != "progress"} == {"inexact"}
    assert run.records()[0].resumed == ""  # of before


def test_data_that_have_changed_make_another_run(
    call: Call, small_nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, data = PROGRAMS["segmentation"], tmp_path / "data"
    shutil.copytree(small_nuclei, data)
    arguments = [*program.arguments, f"data.root={data}", f"run_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        dies_after(patch, 1)
        with pytest.raises(KilledError):
            call(program.main, *arguments)
    moved = data.rename(tmp_path / "moved")
    arguments[-2] = f"data.root={moved}"
    picture = sorted((moved / "purple_on_white" / "images").iterdir())[0]
    original = picture.read_bytes()
    Image.open(picture).rotate(180).save(picture)
    outcome = call(program.main, *arguments)
    assert outcome.status == 2 and "domains.files.purple_on_white=" in outcome.err
    picture.write_bytes(original)
    outcome = call(program.main, *arguments)
    assert (outcome.status, outcome.err) == (0, "")  # the same files elsewhere are the same data


def test_a_run_that_trained_no_step_is_not_finished(call: Call, small_nuclei: Path, tmp_path: Path) -> None:
    program = with_data("segmentation", small_nuclei)
    outcome = call(program.main, *program.arguments, "+trainer.max_time=00:00:00:00", f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 2 and "no step was trained" in outcome.err
    assert not Run(tmp_path / "run").finished
