"""Cross-fitting: teachers that leave a fold out, and the check that they did."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import kdseg.train
from common.errors import InputError
from common.teacher import CrossFittedTeacher
from kdseg.domains.folder import FolderData
from kdseg.domains.procgen import ProcgenData
from kdseg.train import SegmentationTraining
from tests.kdseg.test_resume import settings

GROUPS: dict[str, Any] = {"group_column": "mosaic_idx", "name_column": "img_id", "domain_column": "domain"}


def groups_of(data: FolderData | ProcgenData) -> set[str]:
    return {item.group for item in data.train_dataset.items}


def test_the_folds_are_a_partition_by_groups(nuclei: Path) -> None:
    whole = FolderData(nuclei, "fluorescence", **GROUPS)
    without = [FolderData(nuclei, "fluorescence", fold=(number, 3), **GROUPS) for number in range(3)]
    left_out = [groups_of(whole) - groups_of(data) for data in without]
    assert set.union(*left_out) == groups_of(whole) and sum(map(len, left_out)) == len(groups_of(whole))
    assert sum(len(data.train_dataset) for data in without) == 2 * len(whole.train_dataset)
    for data in without:  # what it is judged on is the same
        assert [len(part.dataset) for part in data.test_parts] == [len(part.dataset) for part in whole.test_parts]


def test_levels_are_the_groups_of_frames() -> None:
    options: dict[str, Any] = {"level_count": 6, "train_frames": 48, "validation_frames": 0, "test_frames": 1}
    whole, without = (ProcgenData(sources=["themed"], fold=fold, **options) for fold in (None, (1, 2)))
    assert groups_of(without) < groups_of(whole) and len(without.train_dataset) < 48


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ((3, 3), r"fold=\[3,3\]: 3 folds are numbered from 0 to 2"),
        ((0, 1), r"fold.*must be in \[2, 1000\]"),
        ((-1, 2), "must not be negative"),
    ],
)
def test_folds_that_there_are_not(nuclei: Path, fold: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FolderData(nuclei, "fluorescence", fold=fold)


def test_teachers_are_refused_that_have_seen_what_they_are_to_label(
    call: Callable[..., Any], small_nuclei: Path, tmp_path: Path
) -> None:
    for name, more in (("a", ["data.fold=[0,2]"]), ("b", ["data.fold=[1,2]"]), ("all", [])):
        made = settings(tmp_path / name, small_nuclei, "trainer.max_steps=1", "evaluation.every=0", *more)
        kdseg.train.train(made)

    def student(*names: str) -> SegmentationTraining:
        teachers = ",".join(str(tmp_path / name / "run") for name in names)
        made = settings(tmp_path / "student", small_nuclei, f"teacher=[{teachers}]", "method=cross_fitted")
        return SegmentationTraining(made, Console(quiet=True))

    teacher = student("a", "b").distillation.teacher
    assert isinstance(teacher, CrossFittedTeacher) and teacher.folds is not None
    assert set(teacher.folds.tolist()) == {0, 1}
    for names, number in ((("b", "a"), 0), (("a", "all"), 1), (("all", "all"), 0)):
        with pytest.raises(
            InputError, match=rf"was trained on \d+ of the \d+ images of fold {number}, .*\[{number},2\]"
        ):
            student(*names)


def test_complementary_teachers_label_what_they_have_not_seen(
    call: Callable[..., Any], small_nuclei: Path, tmp_path: Path
) -> None:
    sources = ["grey_brightfield", "purple_on_purple", "purple_on_white"]
    for name in sources:
        others = ",".join(other for other in sources if other != name)
        made = settings(
            tmp_path / name, small_nuclei, "trainer.max_steps=1", "evaluation.every=0", f"data.sources=[{others}]"
        )
        kdseg.train.train(made)
    console = Console(quiet=True)
    paths = [str(tmp_path / name / "run") for name in sources]
    asked = [
        "data.sources=null",
        "method=kd",
        "trainer.max_steps=1",
        "teacher_domains=unseen",
        "teacher_shares=validation",
    ]
    made = settings(tmp_path / "student", small_nuclei, f"teacher=[{','.join(paths)}]", *asked)
    training = SegmentationTraining(made, console)
    teacher, data = training.distillation.teacher, training.data
    assert teacher is not None and teacher.answering is not None and teacher.shares is not None
    domains = [domain.name for domain in data.train_dataset.domains for _ in domain.items]
    assert teacher.answering.tolist() == [[name == domain for name in sources] for domain in domains]
    assert training.identity().row["teacher_domains"] == "unseen"
    assert (training.identity().row["combine"], training.identity().row["shares"]) == ("probability", "validation")
    made = settings(tmp_path / "student", small_nuclei, f"teacher=[{','.join(paths[:2])}]", *asked)
    with pytest.raises(InputError, match=r"every teacher has seen purple_on_white; .* 'data.sources=\[grey_bri"):
        SegmentationTraining(made, console)
