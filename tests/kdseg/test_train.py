"""``kdseg-train`` and ``kdseg-evaluate`` on real images, from the command line to the run's folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torchmetrics.functional.classification import multiclass_jaccard_index

from common.evaluation.segmentation import confusion_matrix, mean_iou
from common.report.main import main as report
from common.runs.folder import Run
from common.runs.items import item_key
from common.runs.records import Record
from kdseg.configured import make_data
from kdseg.evaluate import main as evaluate
from kdseg.restore import load_network
from kdseg.train import main as train

Call = Callable[..., Any]
SOURCES = ["grey_brightfield", "purple_on_purple", "purple_on_white"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def teacher(runs: Path, call: Call, tiny: list[str]) -> Run:
    """A run of plain training."""
    outcome = call(train, *tiny, "method=erm", f"run_dir={runs / 'teacher'}")
    assert (outcome.status, outcome.err) == (0, "")
    assert "mIoU" in outcome.out
    return Run(runs / "teacher")


@pytest.fixture(scope="module")
def student(runs: Path, call: Call, tiny: list[str], teacher: Run) -> Run:
    """A run with every term there is, taught by the other."""
    outcome = call(train, *tiny, "method=kddg_sdd", f"teacher={teacher.path}", f"run_dir={runs / 'student'}")
    assert (outcome.status, outcome.err) == (0, "")
    assert "teacher: mIoU" in outcome.out
    return Run(runs / "student")


def rows(run: Run, split: str) -> list[Record]:
    return [record for record in run.records() if record.split == split]


def timeless(run: Run) -> list[Record]:
    return [dataclasses.replace(record, seconds=0.0) for record in run.records()]


def test_a_run_leaves_a_complete_folder(student: Run, teacher: Run) -> None:
    found = {path.relative_to(student.path).as_posix() for path in student.path.rglob("*") if path.is_file()}
    logs = {path for path in found if path.startswith("tensorboard/")}
    assert logs
    assert found - logs == {
        *(
            "config.yaml",
            "identity.json",
            "status.json",
            "images.json",
            "data.json",
            "record.jsonl",
            "items.npz",
            "lock",
        ),
        "checkpoints/last.safetensors",
        *(f"teachers/0/{name}" for name in ("config.yaml", "identity.json", "status.json")),
        "teachers/0/checkpoints/last.safetensors",
    }
    kept = Run(student.path / "teachers" / "0")
    assert kept.config_path.read_text() == teacher.config_path.read_text()
    assert (kept.checkpoints / "last.safetensors").read_bytes() == (
        teacher.checkpoints / "last.safetensors"
    ).read_bytes()


def test_the_configuration_is_kept_resolved(student: Run, teacher: Run) -> None:
    config = yaml.safe_load(student.config_path.read_text())
    assert "${" not in student.config_path.read_text()
    assert config["teacher"] == str(teacher.path)
    assert config["classes"] == ["background", "nucleus"]
    assert config["data"]["sources"] == SOURCES
    assert list(config["method"]["terms"]) == ["kddg", "sd_dropout"]


def test_records_hold_the_learning_curve_validation_and_test(student: Run) -> None:
    records = list(student.records())
    assert {(r.task, r.method, r.seed, r.target, r.selection) for r in records} == {
        ("seg", "kddg_sdd", 0, "fluorescence", "last")
    }
    assert all(r.source == SOURCES and r.seen is (r.domain != "fluorescence") for r in records)
    assert all(r.versions["torch"] and r.seconds > 0 for r in records)
    curve = [(r.steps, r.domain, r.metric) for r in records if r.split == "progress" and r.metric == "miou"]
    assert curve == [(step, domain, "miou") for step in (3, 6) for domain in [*SOURCES, "fluorescence"]]
    calibration = [f"{name}{one}" for one in ("", "_scaled") for name in ("ece", "ece_equal_mass", "nll", "brier")]
    metrics = ["miou", "dice", "pixel_accuracy", "iou/background", "iou/nucleus", *calibration, "temperature"]
    assert [(r.domain, r.metric) for r in rows(student, "validation")] == [(d, m) for d in SOURCES for m in metrics]
    assert [(r.domain, r.metric) for r in rows(student, "test")] == [
        (d, m) for d in ["fluorescence", *SOURCES] for m in metrics
    ]
    assert {r.steps for r in rows(student, "test")} == {6}
    assert records[-1].split == "test"
    assert student.finished
    last = {r.domain: r.value for r in records if r.split == "progress" and r.steps == 6 and r.metric == "miou"}
    assert {r.domain: r.value for r in rows(student, "test") if r.metric == "miou"} == pytest.approx(last)


def test_items_hold_what_later_statistics_need(student: Run, nuclei: Path) -> None:
    items = student.items()
    parts = [("fluorescence", False), *((domain, True) for domain in SOURCES)]
    names = ("confusion", "item", "group", "calibration", "image", "mask", "prediction")
    assert set(items) == {"class_names"} | {item_key(name, *part) for name in names for part in parts}
    assert items["class_names"].tolist() == ["background", "nucleus"]
    images = {path.stem for path in (nuclei / "fluorescence" / "images").iterdir()}
    assert set(items["item|fluorescence|unseen"]) == images
    for domain, seen in parts:
        one = {name: items[item_key(name, domain, seen)] for name in names}
        count = len(one["item"])
        assert one["confusion"].shape == (count, 2, 2)
        assert one["confusion"].dtype == np.int64
        assert len(one["group"]) == count
        assert one["image"].dtype == one["mask"].dtype == one["prediction"].dtype == np.uint8
        assert one["image"].shape == (*one["mask"].shape, 3)
        assert one["prediction"].shape == one["mask"].shape
        assert 0 < len(one["mask"]) <= min(count, 4 if seen else 8)
        # The scores in the records are those of the matrices, pooled.
        value = next(r.value for r in rows(student, "test") if r.domain == domain and r.metric == "miou")
        assert value == float(mean_iou(one["confusion"].sum(axis=0)))


def test_confusions_are_those_of_torchmetrics_on_the_same_predictions(student: Run) -> None:
    network, settings = load_network(student)
    items = student.items()
    data = make_data(settings.data)
    for part in data.test_parts:
        predictions, masks = [], []
        for position in range(len(part.dataset)):  # one by one: no batch can mix the images up
            entry = part.dataset[position]
            with torch.no_grad():
                predictions.append(network(entry["image"][None]).argmax(dim=1).flatten())
            masks.append(entry["mask"].flatten())
        expected = multiclass_jaccard_index(
            torch.cat(predictions), torch.cat(masks), 2, average="macro", ignore_index=255
        )
        each = items[item_key("confusion", part.domain, part.seen)]
        for confusion, predicted, mask in zip(each, predictions, masks, strict=True):
            alone = confusion_matrix(mask.numpy(), predicted.numpy(), classes=2)
            # Kernels round otherwise for a batch: a pixel on the edge may change sides.
            assert np.abs(confusion - alone).sum() <= 8
        pooled = each.sum(axis=0)
        assert float(mean_iou(pooled)) == pytest.approx(expected.item(), abs=1e-4)
        assert pooled.sum() == sum(int((mask != 255).sum()) for mask in masks)


def test_evaluation_gives_the_numbers_of_training(
    student: Run, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a run is judged from anywhere
    outcome = call(evaluate, f"run={student.path}", f"out={tmp_path / 'again'}")
    assert (outcome.status, outcome.err) == (0, "")
    again = Run(tmp_path / "again")
    assert list(again.records()) == rows(student, "test")
    theirs = student.items()
    ours = again.items()
    assert set(ours) == set(theirs)
    assert [key for key in ours if not np.array_equal(ours[key], theirs[key])] == []


def test_evaluation_without_out_only_prints(student: Run, call: Call, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in student.path.rglob("*") if path.is_file()}
    outcome = call(evaluate, f"run={student.path}")
    assert (outcome.status, outcome.err) == (0, "")
    assert "fluorescence" in outcome.out
    assert list(tmp_path.iterdir()) == []
    assert {path: path.read_bytes() for path in student.path.rglob("*") if path.is_file()} == before


def test_a_domain_that_was_trained_on_is_evaluated_as_seen(student: Run, call: Call, tmp_path: Path) -> None:
    outcome = call(evaluate, f"run={student.path}", "target=purple_on_white", f"out={tmp_path / 'again'}")
    assert (outcome.status, outcome.err) == (0, "")
    again = Run(tmp_path / "again")
    assert {row.seen for row in again.records()} == {True}
    before = {(row.domain, row.metric): (row.n, row.value) for row in rows(student, "test") if row.seen}
    assert {(row.domain, row.metric): (row.n, row.value) for row in again.records()} == before


def test_the_report_reads_a_run(student: Run, teacher: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report([str(student.path), str(teacher.path), "--out", str(tmp_path / "report")])
    assert "kddg_sdd" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["erm", "kddg_sdd"])
def test_the_same_seed_gives_the_same_run(
    method: str, teacher: Run, student: Run, call: Call, tiny: list[str], tmp_path: Path
) -> None:
    first = teacher if method == "erm" else student
    second = Run(tmp_path / "second")
    outcome = call(train, *tiny, f"method={method}", f"teacher={teacher.path}", f"run_dir={second.path}")
    assert outcome.status == 0
    if method == "erm":
        # The teacher that is of no use is named as such, and changes nothing.
        assert "asks no teacher" in outcome.out
        assert not (second.path / "teachers").exists()
    assert timeless(second) == timeless(first)
    assert (second.checkpoints / "last.safetensors").read_bytes() == (
        first.checkpoints / "last.safetensors"
    ).read_bytes()
    theirs = first.items()
    assert all(np.array_equal(value, theirs[key]) for key, value in second.items().items())


def test_sources_narrow_what_is_trained_on_and_several_teachers_answer_together(
    teacher: Run, student: Run, call: Call, tiny: list[str], tmp_path: Path
) -> None:
    run = Run(tmp_path / "narrow")
    outcome = call(
        train,
        *tiny,
        "data.sources=[purple_on_white]",
        "method=kd",
        f"teacher=[{teacher.path},{student.path}]",
        "seed=1",
        "evaluation.every=0",
        f"run_dir={run.path}",
    )
    assert (outcome.status, outcome.err) == (0, "")
    records = list(run.records())
    assert {tuple(r.source) for r in records} == {("purple_on_white",)}
    assert {r.seed for r in records} == {1}
    assert {(r.domain, r.seen) for r in records} == {("purple_on_white", True), ("fluorescence", False)}
    assert {r.metric for r in records if r.split == "progress"} == {"weight_distance"}  # every=0: no curve
    assert (run.path / "teachers" / "1" / "checkpoints" / "last.safetensors").exists()


def test_a_teacher_that_saw_the_target_is_pointed_out(
    teacher: Run, call: Call, tiny: list[str], tmp_path: Path
) -> None:
    outcome = call(
        train,
        *tiny,
        "data.target=purple_on_white",
        "method=kd",
        f"teacher={teacher.path}",
        "trainer.max_steps=1",
        f"run_dir={tmp_path / 'run'}",
    )
    assert outcome.status == 0
    assert "was trained on the target domain purple_on_white" in " ".join(outcome.out.split())


@pytest.mark.parametrize(
    ("threshold", "steps", "idle"),
    [(None, 40, ()), (1 - 1e-12, 4, ("the filter of kddg touched nothing in any step",))],
)
def test_whether_the_filter_acted_is_said_at_the_end(
    teacher: Run,
    call: Call,
    tiny: list[str],
    tmp_path: Path,
    threshold: float | None,
    steps: int,
    idle: tuple[str, ...],
) -> None:
    """With the settings as they are it acts within a minute of training."""
    given = [] if threshold is None else [f"strength.threshold={threshold}"]
    arguments = [*given, "method=kddg", f"teacher={teacher.path}", f"trainer.max_steps={steps}", "evaluation.every=0"]
    outcome = call(train, *tiny, *arguments, f"run_dir={tmp_path / 'run'}")
    assert (outcome.status, outcome.err) == (0, "")
    status = Run(tmp_path / "run").status()
    assert status is not None and status.idle == idle
    assert ("touched nothing" in outcome.out) == bool(idle)
    (share,) = (row.value for row in Run(tmp_path / "run").records() if row.metric == "kddg/fraction_filtered")
    assert f" s, the filter taking {100 * share:.1f} % of the positions; testing" in " ".join(outcome.out.split())


def test_a_multirun_makes_a_run_for_each_value(
    call: Call, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [argument for argument in tiny if not argument.startswith("data.target=")]
    outcome = call(train, "-m", *arguments, "trainer.max_steps=1", "data.target=fluorescence,purple_on_purple")
    assert (outcome.status, outcome.err) == (0, "")
    for target in ("fluorescence", "purple_on_purple"):
        (found,) = (tmp_path / "runs" / "kdseg" / "nuclei" / target).iterdir()
        run = Run(found / "seed0")
        assert run.finished
        assert {record.target for record in run.records()} == {target}


def test_training_that_diverges_stops_and_its_folder_makes_way_for_the_next(
    call: Call, tiny: list[str], tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    arguments = [*tiny, f"run_dir={run.path}"]
    # The first step makes the weights infinite, with the decay alone for those that have no gradient.
    huge = ["optimizer._target_=torch.optim.SGD", "optimizer.lr=1e38", "optimizer.weight_decay=1e6"]
    outcome = call(train, *arguments, *huge, "checkpoint_every=1")
    assert outcome.status == 3
    assert outcome.err.startswith("error: the loss is nan at step 1; training stopped, no weights were saved")
    assert outcome.err.count("\n") == 1
    assert not run.finished
    assert not list(run.path.rglob("*.safetensors"))  # those after the step were not finite

    outcome = call(train, *arguments)
    assert outcome.status == 2 and "holds an interrupted run of another configuration: optimizer." in outcome.err
    outcome = call(train, *arguments, "resume=never")
    assert outcome.status == 0
    assert run.finished
    aside = tmp_path / "run.interrupted-1"
    assert aside.name in "".join(outcome.out.split())
    assert yaml.safe_load((aside / "config.yaml").read_text())["optimizer"]["lr"] == 1e38


def test_weights_that_the_last_step_spoils_are_not_tested(call: Call, tiny: list[str], tmp_path: Path) -> None:
    huge = ["optimizer._target_=torch.optim.SGD", "optimizer.lr=1e38", "optimizer.weight_decay=1e6"]
    outcome = call(train, *tiny, *huge, "trainer.max_steps=1", f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 3
    assert outcome.err == "error: weights are not finite after the last step, 1; nothing was tested\n"
    assert not Run(tmp_path / "run").finished


def test_a_checkpoint_survives_training_that_diverges_later(call: Call, tiny: list[str], tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    # Divergence through a schedule of the task's weight: nothing at first, huge later.
    outcome = call(
        train,
        *tiny,
        f"run_dir={run.path}",
        "checkpoint_every=1",
        "optimizer._target_=torch.optim.SGD",
        "method.task_weight={_target_:common.schedule.LinearSchedule,start:0.0,end:1e12}",
    )
    assert outcome.status == 3
    assert "the last checkpoint of finite weights is in" in outcome.err
    network, _ = load_network(run)
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())
