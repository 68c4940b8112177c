"""Labels that make no sense are refused or said before anything is trained, with what to write instead."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kdseg.train
from common.errors import InputError
from kdseg.domains.folder import FolderData

SIDE = 16
Call = Callable[..., Any]


def write(root: Path, masks: dict[str, Sequence[int]], images: Any = np.uint8) -> Path:
    """Domains of four images each, whose masks have columns of the given values."""
    rng = np.random.default_rng(0)
    for domain, values in masks.items():
        mask = np.resize(np.array(values, np.uint8), (SIDE, SIDE))
        for number in range(4):
            for kind, pixels in (("images", rng.integers(0, 255, (SIDE, SIDE, 3)).astype(images)), ("masks", mask)):
                path = root / domain / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (
            [0, 255],
            {"class_names": ["background", "nucleus"]},
            "hold class 0 and 255, which is ignored, so there is nothing to tell apart; if 255 is a class, say what"
            " they stand for: 'data.mask_values={0:background,255:nucleus}'",
        ),
        ([0, 255], {}, "'data.mask_values={0:class_0,255:class_1}'"),
        (
            [0, 128, 255],
            {},
            "hold the values 0, 128, 255, which are no class indices 0, 1, …; say what they stand for:"
            " 'data.mask_values={0:class_0,128:class_1,255:class_2}', or num_classes=129 if they are",
        ),
        ([0, 128, 255], {"num_classes": 3}, "holds class 128, but there are 3 classes .* 'data.mask_values={0:class_0"),
        ([0, 85, 170], {}, "hold the values 0, 85, 170"),
        ([1], {}, "hold class 1 alone"),
        ([0], {"num_classes": 3}, "hold class 0 alone"),
        ([255], {"num_classes": 3}, "every pixel of the sources' masks is 255, which is ignored"),
        (list(range(0, 250, 10)), {}, r"hold the values 0, 10, 20, 30, 40, 50, 60, 70, … \(25 values\)"),
        ([0, 1], {"class_names": ["a", "a"]}, "class_names=\\['a', 'a'\\] has 'a' twice"),
        ([0, 1], {"value_range": [3, 3]}, "value_range=.* must be what is black, then what is white"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_write(
    values: list[int], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message.replace("(0", "\\(0").replace("{", "\\{")) as caught:
        FolderData(write(tmp_path, {"day": values, "night": [0, 1]}), "night", **options)
    assert "\n" not in str(caught.value)


def test_what_the_message_says_to_write_works(tmp_path: Path) -> None:
    root = write(tmp_path, {"day": [0, 128, 255], "night": [0, 255]})
    data = FolderData(root, "night", mask_values={0: "background", 128: "edge", 255: "nucleus"})
    assert data.class_names == ["background", "edge", "nucleus"]
    assert set(np.unique(data.train_dataset.sample(0).mask)) == {0, 1, 2}
    assert data.notes == ["night: no pixel is edge"]
    plain = FolderData(root, "night", num_classes=129)
    assert data.fingerprints() != plain.fingerprints()


@pytest.mark.parametrize(
    ("masks", "options", "notes"),
    [
        ({"day": [0, 1], "night": [0, 1]}, {}, []),
        (
            {"day": [0, 1], "night": [0, 1]},
            {"num_classes": 3},
            ["no source has a pixel of class_2: it cannot be learnt"],
        ),
        ({"day": [0, 1], "dusk": [1], "night": [0]}, {}, ["dusk: every labelled pixel is class_1", "night: every"]),
        ({"day": [0, 1, 2], "dusk": [0, 1], "night": [0, 1, 2]}, {}, ["dusk: no pixel is class_2"]),
        ({"day": [0, 1, 255, 255], "night": [0, 1]}, {}, ["day: 50 % of the pixels are ignored (255)"]),
        ({"day": [0, 1], "night": [255]}, {}, ["night: every pixel is ignored (255)"]),
    ],
)
def test_what_makes_little_sense_is_said(
    masks: dict[str, Sequence[int]], options: dict[str, Any], notes: list[str], tmp_path: Path
) -> None:
    data = FolderData(write(tmp_path, masks), "night", **options)
    assert len(data.notes) == len(notes)
    for note, start in zip(data.notes, notes, strict=True):
        assert note.startswith(start)


def test_images_of_more_bits_are_scaled_by_one_range(tmp_path: Path) -> None:
    root = write(tmp_path, {"day": [0, 1], "night": [0, 1]})
    for number in range(4):
        Image.fromarray(np.full((SIDE, SIDE), 1000 * number, np.uint16)).save(root / f"day/images/{number}.png")
    with pytest.raises(InputError, match=r"end at 3000 of 65535, .* nearly black; give data.value_range=\[0,4095\]"):
        FolderData(root, "night")
    data = FolderData(root, "night", value_range=(0, 4000), validation_fraction=0)
    values = sorted(int(data.train_dataset.sample(index).image.max()) for index in range(4))
    assert values == [0, 64, 128, 191]
    assert FolderData(root, "night", value_range=(0, 65535)).notes == []
    cut = FolderData(root, "night", value_range=(0, 1500))
    assert cut.notes == ["day: 50 % of the values lie outside data.value_range and are cut off"]


def test_what_was_found_and_passed_over_is_printed_and_kept(call: Call, tmp_path: Path, tiny: list[str]) -> None:
    root = write(tmp_path / "data", {"day": [0, 1], "night": [0, 1]})
    (root / "day/images/.DS_Store").touch()
    (root / "day/images/Thumbs.db").touch()
    (root / "day/masks/old").mkdir()
    os.symlink(tmp_path / "nowhere", root / "night/images/9.png")
    turned = Image.open(root / "day/images/0.png")
    exif = turned.getexif()
    exif[274] = 6
    turned.save(root / "day/images/0.png", exif=exif)
    options = [option for option in tiny if not option.startswith(("data", "run_dir"))]
    outcome = call(
        *(kdseg.train.main, "data=folder", f"data.root={root}", "data.target=night", "data.batch_size=2"),
        *("data.crop_size=16", *options, f"run_dir={tmp_path / 'run'}"),
    )
    assert outcome.status == 0, outcome.err
    line = (
        "day: 4 images of 16x16 pixels; 3 PNG, 8-bit RGB; 1 PNG, 8-bit RGB, turned as its EXIF orientation (6) says;"
        " masks PNG, 8-bit grey; class_0 50 %, class_1 50 %; passed over in images: 1 hidden (.DS_Store); passed over"
        " in images: 1 of another type (Thumbs.db); passed over in masks: 1 folders (old)"
    )
    assert line in outcome.out
    assert "night: 4 images" in outcome.out and "passed over in images: 1 broken links (9.png)" in outcome.out
    kept = json.loads((tmp_path / "run" / "data.json").read_text())
    assert kept["notes"] == [] and kept["domains"]["day"]["image_kinds"]["PNG, 8-bit RGB"] == 3
    assert kept["domains"]["day"]["classes"] == {"class_0": 0.5, "class_1": 0.5}
    assert "masks: 1 folders (old)" in kept["domains"]["day"]["passed_over"]
