"""``kdseg-check``: what is there, what looks wrong, and a picture of it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdseg import FolderData
from kdseg.check import LINE, SIDE, contact_sheet, suspicious, whole
from kdseg.check import main as check

Call = Callable[..., Any]


@pytest.fixture
def root(small_nuclei: Path, tmp_path: Path) -> Path:
    """Four domains, of which some images have been spoilt."""
    folder = tmp_path / "data"
    shutil.copytree(small_nuclei, folder)
    (folder / "metadata.csv").unlink()
    return folder


def pictures(root: Path, domain: str) -> list[Path]:
    return sorted((root / domain / "images").iterdir())


def test_every_image_is_counted_once(root: Path) -> None:
    data = FolderData(root, target="fluorescence", class_names=["background", "nucleus"])
    domains = whole(data)
    assert {name: sum(map(len, parts)) for name, parts in domains.items()} == {
        name: len(pictures(root, name))
        for name in ("grey_brightfield", "purple_on_purple", "purple_on_white", "fluorescence")
    }


def test_what_looks_wrong_is_named(call: Call, root: Path, tmp_path: Path) -> None:
    purple, white, grey = (pictures(root, name) for name in ("purple_on_purple", "purple_on_white", "grey_brightfield"))
    Image.fromarray(np.full((48, 48, 3), 7, np.uint8)).save(purple[0])
    Image.fromarray(np.full((48, 48), 255, np.uint8)).save(root / "purple_on_purple" / "masks" / purple[1].name)
    shutil.copy(purple[2], white[0])
    for path in grey:
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(root / "grey_brightfield" / "masks" / path.name)
    done = call(check, f"data.root={root}", "data.target=fluorescence", "data.class_names=[background,nucleus]")
    assert done.status == 0
    said = {line.removeprefix("suspicious: ") for line in done.out.splitlines() if line.startswith("suspicious: ")}
    alone = f"{len(grey)} of {len(grey)} masks hold a single class, such as grey_brightfield/{grey[0].stem}"
    assert said == {
        f"grey_brightfield: {alone}",
        f"purple_on_purple/{purple[0].stem}: the image is of one colour",
        f"purple_on_purple/{purple[1].stem}: no pixel of the mask is labelled",
        f"purple_on_white/{white[0].stem} is the same image as purple_on_purple/{purple[2].stem}, with another mask",
    }
    assert "nothing looks suspicious" not in done.out


def test_good_data_look_good_and_can_be_looked_at(call: Call, nuclei: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    done = call(check, "data=nuclei", f"data.root={nuclei}", "data.target=fluorescence", f"out={out}", "images=3")
    assert done.status == 0 and "nothing looks suspicious" in done.out and "11.16" in done.out
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (LINE + 4 * (LINE + 2 * SIDE + 6), max(3 * (SIDE + 4), 480), 3)
    first = np.asarray(
        Image.open(pictures(nuclei, "grey_brightfield")[0]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    )
    np.testing.assert_array_equal(sheet[2 * LINE : 2 * LINE + SIDE, :SIDE], first)


def test_a_sheet_has_as_many_pictures_as_there_are(root: Path) -> None:
    for domain in ("purple_on_white", "fluorescence"):
        for path in pictures(root, domain)[3:]:
            path.unlink()
            (root / domain / "masks" / path.name).unlink()
    data = FolderData(root, target="fluorescence", sources=["purple_on_white"], class_names=["background", "nucleus"])
    sheet = np.asarray(contact_sheet(whole(data), data.class_names, 5))
    row = sheet[2 * LINE : 2 * LINE + 48]
    assert [bool((row[:, column * (SIDE + 4) : column * (SIDE + 4) + 48] < 250).any()) for column in range(5)] == [
        True
    ] * 3 + [False] * 2
    assert list(suspicious(whole(data))) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["data.target=nowhere"], "nowhere"),
        (["out=sheet.jpg"], "out=sheet.jpg must end in .png"),
        (["images=0"], "images=0 must be in [1, 32]"),
        (["data.root=nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line(call: Call, nuclei: Path, more: list[str], said: str) -> None:
    given = {"data.root": f"data.root={nuclei}", "data.target": "data.target=fluorescence"}
    given |= {one.split("=")[0]: one for one in more}
    done = call(check, *given.values())
    assert done.status == 2 and said in done.err
    assert done.err.startswith("error: ") and len(done.err.splitlines()) == 1
