"""What ``kdrl-evaluate`` and ``kdseg-evaluate`` measure beside the scores, from the folder of a run alone."""

import dataclasses
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdrl.evaluate
import kdrl.measures
import kdrl.train
import kdseg.evaluate
import kdseg.measures
import kdseg.train
from common.evaluation.conditions import Condition
from common.report.main import main as report
from common.runs.folder import Run
from common.runs.records import Record
from tests.nuclei import SMALL_NETWORK
from tests.policies import SMALL_POLICY

Call = Callable[..., Any]
TRAIN: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "policies": (
        kdrl.train.main,
        SMALL_POLICY,
    ),
    "segmentation": (
        kdseg.train.main,
        (
            *("data=nuclei", "data.target=fluorescence", "data.batch_size=4", "data.crop_size=32"),
            *(*SMALL_NETWORK, "trainer.max_steps=6", "trainer.accelerator=cpu"),
            "evaluation.every=0",
        ),
    ),
}
JUDGE: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "policies": (kdrl.evaluate.main, ("device=cpu", "episodes=2", "num_envs=2", "looks=[]", "most=2")),
    "segmentation": (kdseg.evaluate.main, ("device=cpu", "most=4")),
}
ALL = (
    *("measures=[corruptions,attacks,unknown,analysis]", "corruptions.names=[fog,elastic_transform]"),
    *("corruptions.severities=[2]", "attacks.names=[pgd]", "attacks.radii=[1,8]", "attacks.steps=2"),
)


@dataclasses.dataclass
class Case:
    """A task, and a run with a teacher."""

    task: str
    call: Call
    run: Run

    def judge(self, run: Run, *more: str) -> Any:
        main, shared = JUDGE[self.task]
        return self.call(main, f"run={run.path}", *shared, *more)

    def copy(self, folder: Path) -> Run:
        shutil.copytree(self.run.path, folder)
        return Run(folder)


@pytest.fixture(scope="module", autouse=True)
def _few_frames() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kdrl.measures, "FRAMES", 40)
        yield


@pytest.fixture(scope="module", params=TRAIN)
def case(
    request: pytest.FixtureRequest, call: Call, small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    main, shared = TRAIN[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    data = (f"data.root={small_nuclei}",) if request.param == "segmentation" else ()
    for name, more in (("teacher", ("method=erm",)), ("run", ("method=kd", f"teacher={folder / 'teacher'}"))):
        outcome = call(main, *shared, *data, *more, f"run_dir={folder / name}")
        assert (outcome.status, outcome.err) == (0, "")
    return Case(request.param, call, Run(folder / "run"))


@pytest.fixture(scope="module")
def measured(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = case.copy(tmp_path_factory.mktemp("measured") / "run")
    outcome = case.judge(run, *ALL)
    assert (outcome.status, outcome.err) == (0, "")
    return run


# What no task has a part in is tried on the quicker one.
IN_EITHER = pytest.mark.parametrize("case", ["segmentation"], indirect=True)


def values(run: Run, condition: str, metric: str) -> dict[tuple[str, bool], float]:
    return {
        (row.domain, row.seen): row.value
        for row in run.measures()
        if (row.condition, row.metric) == (condition, metric)
    }


def timeless(rows: list[Record]) -> list[Record]:
    return [dataclasses.replace(row, seconds=0.0) for row in rows]


def test_everything_is_measured_seen_and_unseen(case: Case, measured: Run) -> None:
    main = "miou" if case.task == "segmentation" else "return"
    conditions = ["none", "fog/2", "elastic_transform/2"]
    for condition in (*(f"corruption/{one}" for one in conditions), *(f"attack/pgd-2/{one}" for one in (0, 1, 8))):
        found = values(measured, condition, main)
        assert {seen for _, seen in found} == {True, False}, condition
    strange = {row.condition for row in measured.measures() if row.condition.startswith("unknown/")}
    of_frames = {"unknown/plain", "unknown/generated", "unknown/coinrun"}
    assert strange == ({"unknown/images"} if case.task == "segmentation" else of_frames)
    for score in ("max_softmax", "energy", "entropy", "odin"):
        for condition in strange:
            assert all(0 <= one <= 1 for one in values(measured, condition, f"auroc/{score}").values())
    agreed = values(measured, "analysis", "teacher_agreement")
    assert {seen for _, seen in agreed} == {True, False} and all(0 <= one <= 1 for one in agreed.values())
    assert len(values(measured, "analysis", "flatness")) == len(agreed)
    assert values(measured, "analysis/features", "probe/domains")
    identity = measured.identity()
    assert identity is not None
    assert {row.identity for row in measured.measures()} == {identity.key}


def test_no_attack_is_no_attack_and_more_is_worse(case: Case, measured: Run) -> None:
    metric = "pixel_accuracy" if case.task == "segmentation" else "same_action"
    none, small, large = (values(measured, f"attack/pgd-2/{radius}", metric) for radius in (0, 1, 8))
    if case.task == "policies":
        assert set(none.values()) == {1.0}
        return
    assert all(none[place] >= small[place] >= large[place] for place in none)
    tested = {
        (row.domain, row.seen): row.value
        for row in measured.records()
        if (row.split, row.metric) == ("test", "miou") and (row.domain, row.seen) in none and row.n <= 4
    }
    clean = values(measured, "corruption/none", "miou")
    assert tested
    for place, value in tested.items():
        assert clean[place] == pytest.approx(value, abs=1e-3)


def test_what_is_there_is_not_measured_again(case: Case, measured: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = measured.measures_path.read_bytes()
    monkeypatch.setattr(Run, "append_measures", lambda run, rows: pytest.fail("measured again"))
    assert case.judge(measured, *ALL).status == 0
    assert measured.measures_path.read_bytes() == before


@IN_EITHER
def test_an_interrupted_evaluation_goes_on(
    case: Case, measured: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = case.copy(tmp_path / "run")
    append = Run.append_measures
    count = 0

    def interrupted(self: Run, records: Any) -> None:
        nonlocal count
        append(self, records)
        count += 1
        if count == 5:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "append_measures", interrupted)
        outcome = case.judge(run, *ALL)
    assert outcome.status == 130
    assert 0 < len(run.measures()) < len(measured.measures())
    with run.measures_path.open("a") as file:
        file.write('{"torn')
    assert case.judge(run, *ALL).status == 0
    assert timeless(run.measures()) == timeless(measured.measures())


@IN_EITHER
def test_measures_of_a_new_folder_go_there(case: Case, tmp_path: Path) -> None:
    outcome = case.judge(case.run, f"out={tmp_path / 'out'}", "measures=[analysis]")
    assert (outcome.status, outcome.err) == (0, "")
    assert Run(tmp_path / "out").measures()
    assert not case.run.measures_path.exists()


def test_the_report_still_reads_the_run(case: Case, measured: Run, tmp_path: Path) -> None:
    outcome = case.call(report, measured.path, "--out", tmp_path)
    assert (outcome.status, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("measures=[rain]",), "measures"),
        (("corruptions.names=[rain]",), "corruptions.names='rain' is not known; use one of: gaussian_noise"),
        (("corruptions.severities=[6]",), "corruptions.severities"),
        (("corruptions.severities=[]",), "corruptions.severities"),
        (("attacks.names=[cw]",), "attacks.names"),
        (("attacks.radii=[-1]",), "attacks.radii"),
        (("attacks.steps=0",), "attacks.steps"),
        (("most=0",), "most"),
    ],
)
def test_bad_input_is_told_in_one_line(case: Case, arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    run = case.copy(tmp_path / "run")
    outcome = case.judge(run, "measures=[corruptions]", *arguments)
    assert outcome.status == 2
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1
    assert told in outcome.err
    assert not run.measures_path.exists()


def test_what_only_one_task_has_is_refused_by_the_other(case: Case, tmp_path: Path) -> None:
    if case.task == "policies":
        outcome = case.judge(case.run, "measures=[attacks]", "attacks.names=[segpgd]")
        assert "attacks.names: segpgd is of maps; use fgsm or pgd" in outcome.err
        outcome = case.call(kdrl.evaluate.main, f"run=[{case.run.path},{case.run.path}]", "measures=[analysis]")
        assert "are taken of one run, and there are 2; give one run" in outcome.err
    else:
        outcome = case.judge(case.run, "measures=[analysis]", "target=purple_on_white")
        assert "on other data do not belong into" in outcome.err and "give out=DIR" in outcome.err
    assert outcome.status == 2


def test_a_folder_that_cannot_be_written_to(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = case.copy(tmp_path / "run")
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != run.path)  # root may write anywhere
    outcome = case.judge(run, "measures=[analysis]")
    assert outcome.status == 2
    assert "which cannot be written to; give out=DIR" in outcome.err


def test_corruptions_do_not_depend_on_the_run() -> None:
    image, mask = np.full((40, 40, 3), 90, np.uint8), np.zeros((40, 40), np.uint8)
    change = kdseg.measures.Corrupting(Condition("corruption", "gaussian_noise", "3"))
    first, second, other = (change(image, mask, seed)[0] for seed in ((0, 0, 7), (5, 2, 7), (0, 0, 8)))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_the_middle_of_a_large_image_is_corrupted_and_compared() -> None:
    image = np.random.default_rng(0).integers(0, 256, (520, 700, 3), dtype=np.uint8)
    mask = image[..., 0] // 128
    as_it_is = kdseg.measures.Corrupting(Condition("corruption", "none"))(image, mask, (0, 0, 7))
    assert np.array_equal(as_it_is[0], image[4:516, 94:606]) and np.array_equal(as_it_is[1], mask[4:516, 94:606])
    changed = kdseg.measures.Corrupting(Condition("corruption", "brightness", "3"))(image, mask, (0, 0, 7))
    assert changed[0].shape == (512, 512, 3) and np.array_equal(changed[1], as_it_is[1])
    assert not np.array_equal(changed[0], as_it_is[0])
