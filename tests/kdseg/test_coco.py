"""COCO annotations: what they say of pixels, and files that say nothing that can be used."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from numpy.typing import NDArray
from PIL import Image

from common.errors import InputError
from kdseg.domains.coco import Regions, class_names, read_annotations
from kdseg.domains.folder import FolderData

NUCLEI = Path(__file__).parents[1] / "data" / "nuclei"
DOMAINS = ("fluorescence", "purple_on_white")
SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]


def run_lengths(mask: NDArray[np.bool_], compressed: bool) -> dict[str, Any]:
    size = list(mask.shape)
    if compressed:
        return {"size": size, "counts": pycocotools.mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()}
    flat = mask.T.ravel()
    turns = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]])))
    return {"size": size, "counts": np.diff(np.concatenate([[0], turns])).tolist()}


def nuclei(root: Path, compressed: bool, names_from_domain: bool = False) -> Path:
    """Two domains of real images, whose masks are run lengths in a file of each."""
    for domain in DOMAINS:
        folder = root / domain
        (folder / "images" / "left").mkdir(parents=True)
        images, annotations = [], []
        for number, path in enumerate(sorted((NUCLEI / domain / "images").iterdir())):
            place = f"left/{path.name}" if number % 2 else path.name
            (folder / "images" / place).write_bytes(path.read_bytes())
            mask = np.asarray(Image.open(NUCLEI / domain / "masks" / path.name)).astype(bool)
            place = f"images/{place}" if names_from_domain else place
            size = {"height": mask.shape[0], "width": mask.shape[1]}
            images.append({"id": number, "file_name": place, "licence": None, **size})
            if mask.any():
                encoded = run_lengths(mask, compressed)
                annotations.append({"image_id": number, "category_id": 7, "segmentation": encoded, "iscrowd": 1})
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 7, "name": "nucleus"}],
            "info": {},
        }
        (folder / "annotations.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("compressed", [True, False])
def test_run_lengths_of_real_masks_are_those_masks(tmp_path: Path, compressed: bool) -> None:
    data = FolderData(nuclei(tmp_path, compressed, names_from_domain=compressed), "fluorescence", layout="coco")
    assert data.class_names == ["background", "nucleus"]
    for part in data.test_parts:
        for place, item in enumerate(part.dataset.items):
            mask = np.asarray(Image.open(NUCLEI / part.domain / "masks" / f"{item.name.removeprefix('left/')}.png"))
            np.testing.assert_array_equal(part.dataset.sample(place).mask, mask)
    assert data.found["fluorescence"].mask_kinds == {"COCO regions": 12}


def test_more_files_are_one(tmp_path: Path) -> None:
    folder = nuclei(tmp_path, True) / "fluorescence"
    whole = json.loads((folder / "annotations.json").read_text())
    (folder / "annotations").mkdir()
    for part in (0, 1):
        images = [image for image in whole["images"] if image["id"] % 2 == part]
        annotations = [one for one in whole["annotations"] if one["image_id"] % 2 == part]
        content = {**whole, "images": images, "annotations": annotations}
        (folder / "annotations" / f"{part}.json").write_text(json.dumps(content))
    expected = read_annotations(folder).images
    (folder / "annotations.json").unlink()
    found = read_annotations(folder).images
    assert {name: one.regions for name, one in found.items()} == {name: one.regions for name, one in expected.items()}
    content["categories"] = [{"id": 7, "name": "cell"}]
    (folder / "annotations" / "1.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"1\.json calls category 7 'cell'; another file differs"):
        read_annotations(folder)


def content_of(*shapes: tuple[str, Any], height: int = 6, width: int = 8) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "annotations": [
            {"image_id": 1, "category_id": 1 + (name == "b"), "segmentation": shape} for name, shape in shapes
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Regions]:
    def write(*shapes: tuple[str, Any]) -> Regions:
        (tmp_path / "annotations.json").write_text(json.dumps(content_of(*shapes)))
        return read_annotations(tmp_path).images["a.png"]

    return write


def test_polygons_by_hand(written: Callable[..., Regions]) -> None:
    labels = written(("a", SQUARE)).labels(["background", "a", "b"])
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 1:4] = 1
    np.testing.assert_array_equal(labels, expected)


def test_parts_of_a_region_are_one(written: Callable[..., Regions]) -> None:
    labels = written(("b", [*SQUARE, [5, 3, 8, 3, 8, 6, 5, 6]])).labels(["b", "background"])
    expected = np.ones((6, 8), np.uint8)
    expected[1:3, 1:4] = expected[3:6, 5:8] = 0
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("turned", [False, True])
def test_the_smaller_region_lies_on_top(written: Callable[..., Regions], turned: bool) -> None:
    large = ("a", run_lengths(np.ones((6, 8), bool), True))
    shapes = [("b", SQUARE), large]
    labels = written(*(shapes[::-1] if turned else shapes)).labels(["background", "a", "b"])
    expected = np.ones((6, 8), np.uint8)
    expected[1:3, 1:4] = 2
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_are_read_as_the_library_reads_them(written: Callable[..., Regions], seed: int) -> None:
    mask = np.random.default_rng(seed).random((6, 8)) < [0, 0.02, 0.5, 0.9, 1][seed]
    for compressed in (False, True):
        labels = written(("a", run_lengths(mask, compressed))).labels(["background", "a"])
        np.testing.assert_array_equal(labels, mask)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"size": [6, 8], "counts": [1, 2]}, "run-length encoding that does not cover its 8x6 pixels"),
        ({"size": [6, 8], "counts": ""}, "run-length encoding that does not cover"),
        ({"size": [6, 8], "counts": "\x00\x01"}, "run-length encoding that does not cover"),
        ({"size": [6, 8], "counts": "oooooooooo"}, "run-length encoding that does not cover"),
        ({"size": [8, 6], "counts": [48]}, "run-length encoding that does not cover"),
        ([[1, 1, 4, 1, 4, 3, 1]], "polygon that is none of this image"),
        ([[0, 0, 1e9, 0, 0, 1e9]], "polygon that is none of this image"),
    ],
)
def test_shapes_that_are_none(written: Callable[..., Regions], shape: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.png of .*annotations\.json has a {message}"):
        written(("a", shape)).labels(["background", "a"])


def change(content: dict[str, Any], place: str, value: Any) -> None:
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in path:
        content = content[part]  # type: ignore[index]
    content[last] = value  # type: ignore[index]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("annotations.0.segmentation", None, "annotation 0 .* has no segmentation; a box alone"),
        ("annotations.0.segmentation", [], r"is not a file of COCO annotations \(annotations\.0\.segmentation"),
        ("annotations.0.segmentation", [[1, 2, "x", 4, 5, 6]], "is not a file of COCO annotations"),
        ("annotations.0.segmentation", {"size": [6, 8], "counts": [-1, 49]}, "is not a file of COCO annotations"),
        ("annotations.0.image_id", 5, "annotation 0 .* is of an image 5 that is not listed"),
        ("annotations.0.category_id", 9, "annotation 0 .* is of a category 9 that is not listed"),
        ("images.0.height", 10**9, "images.0.height: Input should be less than or equal to 65536"),
        ("categories", [], "categories: List should have at least 1 item"),
        ("images", None, "images: Input should be a valid array"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, place: str, value: Any, message: str) -> None:
    content = content_of(("a", copy.deepcopy(SQUARE)))
    change(content, place, value)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        read_annotations(tmp_path)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has neither annotations\.json nor annotations/\*\.json"):
        read_annotations(tmp_path)
    (tmp_path / "annotations.json").write_text("{")
    with pytest.raises(InputError, match="is not a file of COCO annotations"):
        read_annotations(tmp_path)


def test_names_of_classes() -> None:
    assert class_names(None, ["b", "a", "b"]) == ["background", "b", "a"]
    assert class_names(None, ["background", "a"]) == ["background", "a"]
    assert class_names(["a", "background", "c"], ["a"]) == ["a", "background", "c"]
    with pytest.raises(InputError, match=r"^class_names=\['a'\] has no 'background'; name all of: background, a$"):
        class_names(["a"], ["a"])


def test_images_and_annotations_that_lack_each_other(tmp_path: Path) -> None:
    folder = nuclei(tmp_path, True) / "fluorescence"
    image = next(path for path in sorted((folder / "images").iterdir()) if path.is_file())
    image.rename(folder / "images" / "other.png")
    with pytest.raises(InputError, match=r"other\.png has no mask of that name in .*annotations; .*unlabelled=true"):
        FolderData(tmp_path, "fluorescence", layout="coco")
    (folder / "images" / "other.png").unlink()
    with pytest.raises(
        InputError, match=rf"^{image.name} of .*annotations\.json has no image of that name in .*images"
    ):
        FolderData(tmp_path, "fluorescence", layout="coco")
    with pytest.raises(InputError, match=r"^mask_values is for masks in files; with layout=coco"):
        FolderData(tmp_path, "fluorescence", layout="coco", mask_values={0: "background", 1: "nucleus"})


def test_polygons_without_the_library_are_one_line(
    monkeypatch: pytest.MonkeyPatch, written: Callable[..., Regions]
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(InputError, match=r"pip install 'kdshift\[coco\]'$"):
        written(("a", SQUARE)).labels(["background", "a"])
    full = written(("a", run_lengths(np.ones((6, 8), bool), True)))
    assert full.labels(["background", "a"]).all()  # run lengths need none
