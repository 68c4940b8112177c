"""Networks from runs' folders, of this release and of the first: to evaluate, and as teachers."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from common.configuration import read_settings
from common.errors import InputError
from common.runs.folder import Run
from common.runs.records import append_records
from common.runs.status import Status
from common.runs.weights import keep_teachers, save_weights
from kdseg import FolderData
from kdseg.configured import make_data
from kdseg.restore import build_network, load_network, load_teacher
from kdseg.settings import TrainSettings
from tests.rows import make_record

OLD = Path(__file__).parents[1] / "data" / "runs-0.1.0" / "kdseg.yaml"
ROW = make_record(target="fluorescence", domain="fluorescence", split="test", steps=1000)
IMAGES = torch.randn(2, 3, 32, 32)


@pytest.fixture
def old(tmp_path: Path) -> Run:
    """A finished run as the first release left it: no identity, no status, a network with ``_target_``."""
    run = Run(tmp_path / "old")
    run.path.mkdir()
    shutil.copy(OLD, run.config_path)
    settings = read_settings(OLD, TrainSettings, "seg")
    save_weights(build_network(settings.network, 2), run)
    append_records(run.record_path, [ROW])
    return run


@pytest.fixture(scope="module")
def data(nuclei: Path) -> FolderData:
    return FolderData(nuclei, target="fluorescence", class_names=["background", "nucleus"])


def test_a_run_of_the_first_release_is_evaluated_and_teaches(old: Run, data: FolderData, nuclei: Path) -> None:
    network, settings = load_network(old)
    assert not network.training
    assert make_data(settings.data | {"root": str(nuclei)}).class_names == settings.classes
    teacher, notes = load_teacher([str(old.path)], data)
    assert notes == []
    assert torch.equal(teacher(IMAGES), network(IMAGES))


def test_what_a_run_keeps_of_its_teachers_can_be_loaded(old: Run, data: FolderData, tmp_path: Path) -> None:
    student, new = Run(tmp_path / "student"), Run(tmp_path / "new")
    shutil.copytree(old.path, new.path)
    new.set_status(Status("finished", 1000, 1000))
    keep_teachers(student, [old, new])
    expected, _ = load_teacher([str(old.path)], data)
    for number in range(2):
        kept, notes = load_teacher([str(student.path / "teachers" / str(number))], data)
        assert notes == [] and torch.equal(kept(IMAGES), expected(IMAGES))


def test_an_interrupted_run_is_no_teacher_unless_asked_for(old: Run, data: FolderData) -> None:
    old.set_status(Status("training", 100, 1000))
    with pytest.raises(InputError) as caught:
        load_teacher([str(old.path)], data)
    assert str(caught.value).startswith(f"teacher={old.path} is not finished (training, 100 of 1,000 steps): ")
    load_teacher([str(old.path)], data, unfinished=True)


def change(run: Run, **values: object) -> None:
    config = yaml.safe_load(run.config_path.read_text())
    for key, value in values.items():
        place, _, name = key.rpartition("__")
        (config[place] if place else config)[name] = value
    run.config_path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"classes": ["background", "wall"]}, "has 2 classes (background, wall), the data 2 (background, nucleus)"),
        ({"data__std": "wide"}, "data.std='wide'"),
        ({"data__sources": 3}, "data.sources=3"),
        ({"classes": None}, "names no classes"),
        ({"network__encoder_name": "tu-hf-hub:x/y"}, "network.encoder_name='tu-hf-hub:x/y' is no encoder's name"),
        (
            {"network__encoder_name": "tu-local-dir:/tmp"},
            "network.encoder_name='tu-local-dir:/tmp' is no encoder's name",
        ),
        ({"network__encoder_name": "tu-resnet81"}, "is not known to timm (near it: tu-resnet"),
        ({"network__checkpoint_path": "x.pth"}, "network.checkpoint_path cannot be set here; remove it"),
        ({"network__pretrained": True}, "network.pretrained cannot be set here; remove it"),
        ({"network__pretrained_cfg": {"file": "x"}}, "network.pretrained_cfg cannot be set here; remove it"),
        ({"network__classes": 4}, "network.classes cannot be set here; remove it"),
        ({"network__in_channels": 4}, "network.in_channels cannot be set here; remove it"),
    ],
)
def test_what_cannot_teach_is_refused(old: Run, data: FolderData, values: dict[str, object], expected: str) -> None:
    change(old, **values)
    with pytest.raises(InputError) as caught:
        load_teacher([str(old.path)], data)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("stated", [None, ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])], ids=["usual", "stated"])
def test_a_teacher_of_another_normalisation_is_asked_under_its_own(old: Run, nuclei: Path, stated: Any) -> None:
    """Also where its configuration does not say which it had: that is the usual one."""
    if stated is not None:
        change(old, data__mean=stated[0], data__std=stated[1])
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if stated is None else stated
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network, _ = load_network(old)
    theirs, ours = (
        (pixels - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
        for mean, std in ((mean, std), ((0.5, 0.4, 0.3), (0.25, 0.5, 1.0)))
    )
    names = ["background", "nucleus"]
    student = FolderData(nuclei, target="fluorescence", class_names=names, mean=(0.5, 0.4, 0.3), std=(0.25, 0.5, 1.0))
    teacher, notes = load_teacher([str(old.path)], student)
    assert notes == []
    torch.testing.assert_close(teacher(ours), network(theirs), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(teacher(ours), network(ours), atol=0.05)


def test_a_teacher_that_saw_the_target_is_told_of(old: Run, data: FolderData) -> None:
    change(old, data__sources=["fluorescence"])
    assert load_teacher([str(old.path)], data)[1] == [
        f"teacher={old.path} was trained on the target domain fluorescence"
    ]
