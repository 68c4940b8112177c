"""AuG-KD through the programs of both tasks: the teacher's data are never read, and any interruption is made good."""

import dataclasses
import functools
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdrl.anchors
import kdrl.train
import kdseg.train
from common.augkd.anchor_learning import AnchorLearning
from common.augkd.data_free import DataFreeLearning
from common.augkd.folder import ArtefactFolder
from common.augkd.stages import Stage
from common.report.main import main as report
from common.runs.folder import Run
from common.runs.records import LAST
from common.runs.weights import weights_path
from tests.nuclei import SMALL_NETWORK
from tests.policies import SMALL_POLICY

Call = Callable[..., Any]
SMALL = (
    *("method.terms.augkd.preparation.latent=4", "method.terms.augkd.preparation.width=2"),
    *("method.terms.augkd.preparation.data_free_rounds=3", "method.terms.augkd.preparation.anchor_rounds=3"),
    "method.terms.augkd.preparation.batch_size=4",
)
PROGRAMS: dict[str, tuple[Callable[[], None], tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "policies": (
        kdrl.train.main,
        (*(*SMALL_POLICY, "evaluation.looks=[themed]", "checkpoint_every=64"),),
        ("env.look=themed",),
        ("env.look=plain",),
    ),
    "segmentation": (
        kdseg.train.main,
        (
            *("data=nuclei", "data.batch_size=4", "data.crop_size=32", *SMALL_NETWORK),
            *("trainer.max_steps=4", "trainer.accelerator=cpu", "evaluation.every=0", "checkpoint_every=2"),
            "data.target=purple_on_purple",
        ),
        ("data.sources=[fluorescence]",),
        ("data.sources=[purple_on_white]",),
    ),
}


@dataclasses.dataclass
class Case:
    """A task, a teacher whose own domain is out of reach, and a student's run that was left alone."""

    task: str
    call: Call
    teacher: Run
    whole: Run
    data: tuple[str, ...]

    def train(self, folder: Path, *more: str) -> Any:
        main, shared, _, own = PROGRAMS[self.task]
        taught = ("method=augkd", f"teacher={self.teacher.path}", *SMALL)
        return self.call(main, *shared, *own, *self.data, *taught, f"run_dir={folder}", *more)


@pytest.fixture(scope="module", autouse=True)
def _few_frames() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kdrl.anchors, "FRAMES", 64)
        yield


@pytest.fixture(scope="module")
def cases(call: Call, small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """A task's case, made when it is first asked for."""

    @functools.cache
    def made(task: str) -> Case:
        main, shared, theirs, _ = PROGRAMS[task]
        folder = tmp_path_factory.mktemp(task)
        data: tuple[str, ...] = ()
        if task == "segmentation":
            root = folder / "all"
            shutil.copytree(small_nuclei, root)
            data = (f"data.root={root}",)
        outcome = call(main, *shared, *theirs, *data, "method=erm", "seed=100", f"run_dir={folder / 'teacher'}")
        assert (outcome.status, outcome.err) == (0, "")
        if task == "segmentation":
            shutil.rmtree(root / "fluorescence")  # the teacher's data are gone
        case = Case(task, call, Run(folder / "teacher"), Run(folder / "whole"), data)
        outcome = case.train(case.whole.path)
        assert (outcome.status, outcome.err) == (0, ""), outcome.err
        assert "the teacher's confidence on the student's domain: real" in outcome.out
        return case

    return made


@pytest.fixture(params=PROGRAMS)
def case(request: pytest.FixtureRequest, cases: Callable[[str], Case]) -> Case:
    return cases(request.param)


# What no task has a part in is tried on the quicker one.
IN_EITHER = pytest.mark.parametrize("case", ["segmentation"], indirect=True)


def assert_same(ours: Run, theirs: Run) -> None:
    """The same student, records but for seconds and memory, and samples."""
    assert ours.finished
    assert weights_path(ours, LAST).read_bytes() == weights_path(theirs, LAST).read_bytes()
    records = [
        [
            dataclasses.replace(row, seconds=0.0)
            for row in run.records()
            if not row.metric.endswith(("seconds", "bytes"))
        ]
        for run in (ours, theirs)
    ]
    assert records[0] == records[1]
    mine, their = ours.items(), theirs.items()
    assert [key for key in mine if not np.array_equal(mine[key], their[key])] == []


def test_a_run_keeps_its_artefact_its_costs_and_its_samples(case: Case) -> None:
    folder = ArtefactFolder(case.whole.anchor)
    assert list(folder.stages) == ["data_free", "anchor"]
    assert (case.whole.anchor / "samples.png").stat().st_size > 1000
    recorded = {row.metric: row for row in case.whole.records() if row.split == "progress"}
    kind = "entropy" if case.task == "policies" else "energy"
    for name in ("data_free/seconds", "anchor/seconds", "anchor/peak_mebibytes", f"{kind}/after the anchor"):
        assert np.isfinite(recorded[f"augkd/{name}"].value)
    assert 0 <= recorded.pop("augkd/teacher_right").value <= 1
    assert all(row.steps == 0 for name, row in recorded.items() if name.startswith("augkd/"))
    status = case.whole.status()
    assert status is not None
    assert status.seconds >= sum(facts.seconds for facts in folder.stages.values())
    assert any(key.startswith("anchor_images|") for key in case.whole.items())


@pytest.mark.parametrize(
    ("case", "kind", "at"), [("policies", DataFreeLearning, 2), ("segmentation", AnchorLearning, 3)], indirect=["case"]
)
def test_an_interrupted_stage_goes_on_bit_for_bit(
    case: Case, kind: type[Stage], at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = kind.round

    def interrupted(stage: Any, sample: Any) -> str:
        note = take(stage, sample)
        if stage.done == at:
            signal.raise_signal(signal.SIGINT)
        return note

    with monkeypatch.context() as patch:
        patch.setattr(kind, "round", interrupted)
        outcome = case.train(tmp_path / "run")
    assert outcome.status == 130
    assert outcome.err == f"interrupted in {kind.name}, round {at}: the same command goes on from there\n"
    outcome = case.train(tmp_path / "run")
    assert (outcome.status, outcome.err) == (0, "")
    assert_same(Run(tmp_path / "run"), case.whole)


@IN_EITHER
def test_what_is_interrupted_after_the_stages_does_not_prepare_again(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(kdseg.train.SegmentationTraining, "fit", lambda self, keeper: signal.raise_signal(signal.SIGTERM))
        assert case.train(tmp_path / "run").status == 143
    for kind in (DataFreeLearning, AnchorLearning):
        monkeypatch.setattr(kind, "round", lambda stage, sample: pytest.fail(f"{stage.name} is done again"))
    assert case.train(tmp_path / "run").status == 0
    assert_same(Run(tmp_path / "run"), case.whole)


@IN_EITHER
def test_an_artefact_is_taken_from_another_run(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (DataFreeLearning, AnchorLearning):
        monkeypatch.setattr(kind, "round", lambda stage, sample: pytest.fail(f"{stage.name} is done again"))
    outcome = case.train(tmp_path / "run", f"anchor={case.whole.path}")
    assert (outcome.status, outcome.err) == (0, "")
    ours, theirs = Run(tmp_path / "run"), case.whole
    assert weights_path(ours, LAST).read_bytes() == weights_path(theirs, LAST).read_bytes()
    mine, their = ours.identity(), theirs.identity()
    assert mine is not None
    assert their is not None
    assert mine.teachers == (*their.teachers, ArtefactFolder(theirs.anchor).digest())


@IN_EITHER
def test_without_an_anchor_there_is_one_stage(case: Case, tmp_path: Path) -> None:
    more = ("method.terms.augkd.anchored=false", "method.terms.augkd.start=fresh", f"anchor={case.whole.path}")
    outcome = case.train(tmp_path / "run", *more)
    assert (outcome.status, outcome.err) == (0, "")
    assert list(ArtefactFolder(Run(tmp_path / "run").anchor).stages) == ["data_free"]
    assert "after the anchor" not in outcome.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("anchor={teacher}",),
            "anchor={teacher}: {teacher}/anchor holds no finished data-free stage; give a run of method=augkd",
        ),
        (
            ("method=kd", "anchor={whole}"),
            "anchor={whole}: method=kd has no use for it; remove it, or use method=augkd",
        ),
        (("method.terms.augkd.preparation.invariant=2",), "invariant=2"),
        (("method.terms.augkd.preparation.latent=0",), "latent=0"),
        (("method.terms.augkd.start=warm",), "start='warm' is not known; use one of: data_free, fresh"),
        (("anchor={whole}", "method.terms.augkd.preparation.latent=5"), "was prepared otherwise: latent=5 (there: 4)"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(case: Case, arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    names = {"teacher": case.teacher.path, "whole": case.whole.path}
    filled = [argument.format(**names) for argument in arguments]
    outcome = case.train(tmp_path / "run", *filled)
    if filled[0] == "method=kd":
        main, shared, _, own = PROGRAMS[case.task]
        more = (f"teacher={case.teacher.path}", f"run_dir={tmp_path / 'other'}")
        outcome = case.call(main, *shared, *own, *case.data, *more, *filled)
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert told.format(**names) in outcome.err
    assert not (tmp_path / "run").exists()


@IN_EITHER
def test_another_student_begins_afresh(case: Case, tmp_path: Path) -> None:
    smaller = "network.decoder_channels=[4,4,4]"
    outcome = case.train(tmp_path / "a", f"anchor={case.whole.path}", smaller)
    assert outcome.status == 2
    assert f"anchor={case.whole.path} is of another student" in outcome.err
    assert "use start=fresh" in outcome.err
    assert not (tmp_path / "a").exists()
    more = ("method.terms.augkd.start=fresh", smaller)
    assert case.train(tmp_path / "b", f"anchor={case.whole.path}", *more).status == 0


def test_the_page_shows_samples(case: Case, tmp_path: Path) -> None:
    outcome = case.call(report, case.whole.path, "--out", tmp_path)
    assert outcome.status == 0, outcome.err
    page = next(tmp_path.rglob("*.html")).read_text()
    assert "From the teacher's domain" in page
