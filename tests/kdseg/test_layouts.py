"""Folders as others lay them out: suffixes, nesting, one folder for both, the VOC devkit, and splits from a table."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kdseg.evaluate
import kdseg.train
from common.errors import InputError
from common.runs.folder import Run
from kdseg.domains.folder import FolderData
from kdseg.domains.layouts import Layout

Call = Callable[..., Any]
NUCLEI = Path(__file__).parents[1] / "data" / "nuclei"
DOMAINS = ("fluorescence", "purple_on_white")


def names(domain: str) -> list[str]:
    return sorted(path.stem for path in (NUCLEI / domain / "images").iterdir())


def copied(root: Path, image: str, mask: str) -> Path:
    """Two domains of real images, laid out as ``{domain}`` and ``{name}`` in two texts say."""
    for domain in DOMAINS:
        for name in names(domain):
            for folder, place in (("images", image), ("masks", mask)):
                path = root / place.format(domain=domain, name=name)
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(NUCLEI / domain / folder / f"{name}.png", path)
    return root


LAYOUTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "suffix": ("{domain}/images/{name}.png", "{domain}/masks/{name}_mask.png", {"mask_suffix": "_mask"}),
    "one folder": (
        "{domain}/{name}.png",
        "{domain}/{name}_mask.png",
        {"image_folder": ".", "mask_folder": ".", "mask_suffix": "_mask"},
    ),
    "both suffixes": (
        "{domain}/data/{name}_image.png",
        "{domain}/data/{name}_label.png",
        {"image_folder": "data", "mask_folder": "data", "image_suffix": "_image", "mask_suffix": "_label"},
    ),
    "images beside the folder of masks": (
        "{domain}/{name}.png",
        "{domain}/masks/{name}.png",
        {"image_folder": "."},
    ),
    "nested": ("{domain}/images/a/b/{name}.png", "{domain}/masks/a/b/{name}.png", {"nested": True}),
    "nested, one folder": (
        "{domain}/case/{name}.png",
        "{domain}/case/{name}_mask.png",
        {"image_folder": ".", "mask_folder": ".", "mask_suffix": "_mask", "nested": True},
    ),
    "voc": ("{domain}/JPEGImages/{name}.png", "{domain}/SegmentationClass/{name}.png", {"layout": "voc"}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_images_in_any_layout_are_the_same_data(tmp_path: Path, name: str) -> None:
    image, mask, options = LAYOUTS[name]
    data = FolderData(copied(tmp_path, image, mask), "fluorescence", **options)
    plain = FolderData(copied(tmp_path / "plain", *LAYOUTS["suffix"][:2]), "fluorescence", mask_suffix="_mask")

    def digests(data: FolderData) -> list[set[Any]]:
        return [{*part.dataset.domains[0].digest(0)} for part in data.test_parts]

    every = [item.name for part in data.test_parts for item in part.dataset.items]
    prefix = {"nested": "a/b/", "nested, one folder": "case/"}.get(name, "")
    assert every[: len(names("fluorescence"))] == [f"{prefix}{one}" for one in names("fluorescence")]
    assert digests(data)[0] == digests(plain)[0]
    assert data.found["fluorescence"].classes == plain.found["fluorescence"].classes
    assert data.found["fluorescence"].passed_over == []


def test_folders_within_are_passed_over_unless_asked_for(tmp_path: Path) -> None:
    root = copied(tmp_path, "{domain}/images/{name}.png", "{domain}/masks/{name}.png")
    extra = root / "fluorescence" / "images" / "more"
    extra.mkdir()
    shutil.copy(NUCLEI / "fluorescence" / "images" / f"{names('fluorescence')[0]}.png", extra / "x.png")
    assert Layout().find(root, "fluorescence").passed_over == ["images: 1 folders (more)"]
    with pytest.raises(InputError, match=r"more/x\.png has no mask of that name in .*data\.unlabelled=true"):
        Layout(nested=True).find(root, "fluorescence")
    (extra / "x.png").rename(extra / ".x.png")
    (extra / ".cache").mkdir()
    assert Layout(nested=True).find(root, "fluorescence").passed_over == ["images: 2 hidden (.cache, .x.png)"]


def test_masks_of_another_ending_are_passed_over(tmp_path: Path) -> None:
    root = copied(tmp_path, "{domain}/images/{name}.png", "{domain}/masks/{name}_mask.png")
    first = names("fluorescence")[0]
    shutil.copy(NUCLEI / "fluorescence" / "masks" / f"{first}.png", root / "fluorescence" / "masks" / "x_edge.png")
    found = Layout(mask_suffix="_mask").find(root, "fluorescence")
    assert found.passed_over == ["masks: 1 not ending in _mask (x_edge.png)"]
    with pytest.raises(InputError, match=r"masks holds no mask; it has .* not ending in _seg .*_seg\.png"):
        Layout(mask_suffix="_seg").find(root, "fluorescence")


def test_one_folder_needs_something_to_tell_masks_by() -> None:
    with pytest.raises(
        InputError, match=r"^image_folder and mask_folder are both '\.', .* mask_suffix, such as _mask$"
    ):
        Layout(image_folder=".", mask_folder=".")


def voc(root: Path) -> Path:
    """VOC, with lists in which every fifth image is for validation, and images for detection alone."""
    image, mask, _ = LAYOUTS["voc"]
    copied(root, image, mask)
    for domain in DOMAINS:
        lists = root / domain / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        every = names(domain)
        (lists / "train.txt").write_text("\n".join(one for place, one in enumerate(every) if place % 5 and place != 1))
        (lists / "val.txt").write_text("\n".join(every[::5]) + "\n")
        shutil.copy(NUCLEI / domain / "images" / f"{every[0]}.png", root / domain / "JPEGImages" / "detection.png")
    return root


def test_lists_of_voc_are_the_split(tmp_path: Path) -> None:
    data = FolderData(voc(tmp_path), "fluorescence", layout="voc")
    every = names("purple_on_white")
    assert [item.name for item in data.validation_parts[0].dataset.items] == every[::5]
    expected = [one for place, one in enumerate(every) if place % 5 and place != 1]
    assert [item.name for item in data.train_dataset.items] == expected
    assert len(data.test_parts[0].dataset) == len(names("fluorescence"))
    assert data.found["fluorescence"].passed_over == ["JPEGImages: 1 without a mask (detection)"]
    more = FolderData(tmp_path, "fluorescence", layout="voc", unlabelled=True)
    assert more.unlabelled_count == 1 and not more.found["fluorescence"].passed_over
    shutil.copy(tmp_path / DOMAINS[1] / "ImageSets/Segmentation/val.txt", tmp_path / "val.txt")
    (tmp_path / DOMAINS[1] / "ImageSets/Segmentation/train.txt").write_text(every[0])
    with pytest.raises(InputError, match=f"val.txt lists '{every[0]}', which is for training"):
        FolderData(tmp_path, "fluorescence", layout="voc")


@pytest.fixture
def split(tmp_path: Path) -> Path:
    root = copied(tmp_path / "data", "{domain}/images/{name}.png", "{domain}/masks/{name}.png")
    lines = ["name,domain,part,field"]
    parts = ["Train", "val", "test", "unused"]
    for domain in DOMAINS:
        lines += [f"{one}.png,{domain},{parts[place % 4]},{place}" for place, one in enumerate(names(domain))]
    (root / "metadata.csv").write_text("\n".join(lines))
    return root


def test_a_column_is_the_split(split: Path) -> None:
    data = FolderData(split, "fluorescence", split_column="part", domain_column="domain")
    every = names("purple_on_white")
    assert [item.name for item in data.train_dataset.items] == every[::4]
    assert [item.name for item in data.validation_parts[0].dataset.items] == every[1::4]
    assert [item.name for item in data.test_parts[1].dataset.items] == every[2::4]
    assert [item.name for item in data.test_parts[0].dataset.items] == names("fluorescence")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_column": "fold"}, r"split_column='fold' is not a column; it has: name, domain, part, field"),
        ({"split_column": "field"}, r"metadata\.csv: field '\d+' is no part; write one of: train, "),
        (
            {"split_column": "part", "group_column": "domain"},
            "the split has group 'purple_on_white' both in training .* set group_column=null$",
        ),
    ],
)
def test_splits_that_do_not_fit(split: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FolderData(split, "fluorescence", domain_column="domain", **options)


def test_a_source_that_is_not_trained_on_is_named(split: Path) -> None:
    table = split / "metadata.csv"
    table.write_text(table.read_text().replace("Train", "test"))
    with pytest.raises(
        InputError, match="leaves domain 'purple_on_white' no image to train on; take it out of sources"
    ):
        FolderData(split, "fluorescence", split_column="part", domain_column="domain")


def test_a_run_of_a_split_is_judged_on_what_it_held_out(
    call: Call, split: Path, tmp_path: Path, tiny: list[str]
) -> None:
    options = [option for option in tiny if not option.startswith("data")]
    options += ["data=folder", f"data.root={split}", "data.target=fluorescence", "data.batch_size=2"]
    options += ["data.split_column=part", "data.domain_column=domain", "data.crop_size=32", "data.num_classes=2"]
    run, again = Run(tmp_path / "run"), Run(tmp_path / "again")
    done = call(kdseg.train.main, *options, f"run_dir={run.path}")
    assert done.status == 0, done.err
    done = call(kdseg.evaluate.main, f"run={run.path}", f"out={again.path}")
    assert done.status == 0, done.err
    first, second = (
        {(row.domain, row.metric): row.value for row in one.records() if row.split == "test" and row.metric == "miou"}
        for one in (run, again)
    )
    assert first == second and {domain for domain, _ in first} == set(DOMAINS)
