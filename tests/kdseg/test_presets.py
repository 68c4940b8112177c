from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.errors import InputError
from common.runs.folder import Run
from kdseg.domains.augmentation import Pipeline
from kdseg.domains.folder import FolderData
from kdseg.domains.presets import Preset, preset
from kdseg.train import main as train

PRESETS = get_args(Preset)
TIMES = 60
Image = NDArray[np.uint8]


@pytest.fixture
def stain() -> tuple[Image, Image]:
    """A light picture with a dark, bluish corner, and a mask of the corner."""
    image = np.full((32, 32, 3), (230, 200, 220), dtype=np.uint8)
    image[:8, :16] = (60, 40, 120)
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[:8, :16] = 1
    return image, mask


def results(name: str, stain: tuple[Image, Image], upright: bool = False) -> list[tuple[Image, Image, Image]]:
    pipeline = Pipeline(preset(name, upright))
    pipeline.check_clean()
    return [pipeline.both(*stain, seed=(number,)) for number in range(TIMES)]


@pytest.mark.parametrize("name", PRESETS)
def test_masks_stay_true_to_their_images(name: str, stain: tuple[Image, Image]) -> None:
    for _, mask, clean in results(name, stain):
        assert set(np.unique(mask)) == {0, 1}
        np.testing.assert_array_equal(clean[mask == 1], np.broadcast_to(stain[0][0, 0], (128, 3)))


@pytest.mark.parametrize("name", PRESETS)
def test_upright_images_keep_their_top(name: str, stain: tuple[Image, Image]) -> None:
    for _, mask, _ in results(name, stain, upright=True):
        assert mask[:8].sum() == 128
    assert any(mask[:8].sum() < 128 for _, mask, _ in results(name, stain))


def test_what_each_preset_changes(stain: tuple[Image, Image]) -> None:
    def share(name: str, holds: Callable[[NDArray[Any], NDArray[Any]], bool]) -> float:
        """How often something holds of the mean colours of corner and background."""
        found = [(image[mask == 1].mean(0), image[mask == 0].mean(0)) for image, mask, _ in results(name, stain)]
        return sum(holds(corner, rest) for corner, rest in found) / TIMES

    def is_bluish(corner: NDArray[Any], rest: NDArray[Any]) -> bool:
        return bool(corner.argmax() == 2)

    def is_grey(corner: NDArray[Any], rest: NDArray[Any]) -> bool:
        return float(np.ptp(corner)) < 2

    def is_inverted(corner: NDArray[Any], rest: NDArray[Any]) -> bool:
        return bool(corner.mean() > rest.mean())

    assert share("mild", is_bluish) == share("photographic", is_bluish) == 1
    assert share("colour", is_bluish) < 0.9
    assert 0.1 < share("colour", is_grey) < 0.5
    assert share("colour", is_inverted) == share("mild", is_inverted) == 0
    assert 0.2 < share("colour_invert", is_inverted) < 0.6


def test_an_unknown_preset_is_named(small_nuclei: Path) -> None:
    with pytest.raises(
        InputError, match="augmentation='colourr' is not known; use one of: mild, colour, colour_invert"
    ):
        FolderData(small_nuclei, "fluorescence", augmentation="colourr")  # type: ignore[arg-type]


def test_clean_images_come_beside_the_same_augmented_ones(small_nuclei: Path) -> None:
    data = FolderData(small_nuclei, "fluorescence", augmentation="colour", batch_size=4, crop_size=32)
    plain = next(iter(data.train_dataloader()))
    data.train_dataset.show_clean()
    batch = next(iter(data.train_dataloader()))
    assert "clean" not in plain
    torch.testing.assert_close({**batch, "clean": None}, {**plain, "clean": None}, rtol=0, atol=0)
    assert batch["clean"].shape == batch["image"].shape
    assert not torch.equal(batch["image"], batch["clean"])


def test_a_preset_is_the_setting_of_its_transforms_and_the_view_is_the_row(
    tmp_path: Path, call: Callable[..., Any], tiny: list[str]
) -> None:
    short = [*tiny, "trainer.max_steps=1", "evaluation.every=0"]
    spelt = ",".join(
        "{" + ",".join(f"{key}: {value}" for key, value in entry.items()) + "}" for entry in preset("colour")
    )
    found = {}
    for name, more in {
        "teacher": ["data.augmentation=colour"],
        "spelt": [f"data.augmentation=[{spelt}]"],
        "mild": [],
        "same": ["data.augmentation=colour", "method=kd", f"teacher={tmp_path / 'teacher'}"],
        "clean": ["data.augmentation=colour", "method=kd", f"teacher={tmp_path / 'teacher'}", "teacher_view=clean"],
    }.items():
        outcome = call(train, *short, *more, f"run_dir={tmp_path / name}")
        assert (outcome.status, outcome.err) == (0, "")
        identity = Run(tmp_path / name).identity()
        assert identity is not None
        found[name] = identity
    assert found["spelt"].key == found["teacher"].key
    assert found["mild"].setting_key != found["teacher"].setting_key == found["clean"].setting_key
    assert found["clean"].row == {**found["same"].row, "teacher_view": "clean"}


def test_a_pipeline_without_clean_images_is_refused(tmp_path: Path, call: Callable[..., Any], tiny: list[str]) -> None:
    assert call(train, *tiny, "trainer.max_steps=1", f"run_dir={tmp_path / 'teacher'}").status == 0
    early = "data.augmentation=[{transform: ToGray},{transform: HorizontalFlip}]"
    asked = ["method=kd", f"teacher={tmp_path / 'teacher'}", "teacher_view=clean", f"run_dir={tmp_path / 'student'}"]
    outcome = call(train, *tiny, early, *asked)
    assert outcome.status == 2
    assert "ToGray changes pixels before HorizontalFlip moves them" in outcome.err
    assert not (tmp_path / "student").exists()
