"""Which images were trained on and held out: digests, fingerprints, the list in a run's folder, and what it decides."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from common.errors import InputError
from common.runs.folder import Run
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.digests import digest_of
from kdseg.domains.folder import FolderData
from kdseg.domains.held_out import DomainImages, Images, read_images, write_images
from kdseg.domains.procgen import ProcgenData
from kdseg.domains.sample import ArrayDomain

CLASSES = ["none", "some"]
OPTIONS: dict[str, Any] = {"class_names": CLASSES, "crop_size": 8}


def save(root: Path, domain: str, name: str, image: NDArray[Any], mask: NDArray[Any], **options: Any) -> None:
    for kind, pixels in (("images", image), ("masks", mask)):
        path = root / domain / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)


def fill(root: Path, domain: str, names: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in names:
        mask = rng.integers(0, 2, (10, 12), dtype=np.uint8)
        save(root, domain, name, rng.integers(0, 256, (10, 12, 3), dtype=np.uint8), mask)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three domains of five images, 12 wide and 10 high; of the sources, one image in five is held out."""
    for seed, domain in enumerate(("day", "night", "dusk")):
        fill(tmp_path / "data", domain, "abcde", seed)
    return tmp_path / "data"


def trained(root: Path) -> SegmentationData:
    return FolderData(root, "dusk", validation_fraction=0.4, **OPTIONS)


def judged(root: Path, images: Images, target: str = "dusk") -> SegmentationData:
    return FolderData(root, target, images=images, **OPTIONS)


def names(data: SegmentationData) -> dict[tuple[str, bool], list[str]]:
    return {(part.domain, part.seen): [item.name for item in part.dataset.items] for part in data.test_parts}


def remove(root: Path, domain: str, name: str) -> None:
    for kind in ("images", "masks"):
        (root / domain / kind / f"{name}.png").unlink()


# Digests and fingerprints


@pytest.mark.parametrize("size", [(1, 1), (10, 12), (64, 96)], ids=str)
def test_any_change_of_pixels_is_another_digest(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.integers(0, 2, size, dtype=np.uint8)
    original = digest_of(image, mask)
    assert digest_of(np.asfortranarray(image), mask.copy()) == original
    others = [np.concatenate([image, image]), np.concatenate([image, image], axis=1), image[:-1]]
    if size != (1, 1):
        others += [image[::-1], image[:, ::-1], image.reshape(size[1], size[0], 3)]
    for position in {0, image.size // 3, image.size - 1}:
        for bit in (1, 128):
            changed = image.copy().reshape(-1)
            changed[position] ^= bit
            others.append(changed.reshape(image.shape))
    assert len({original.image, *(digest_of(other, mask).image for other in others)}) == 1 + len(others)
    relabelled = mask.copy()
    relabelled[0, 0] = 255
    assert digest_of(image, relabelled).image == original.image
    assert digest_of(image, relabelled).mask != original.mask


def test_blocks_and_words_that_change_places_are_another_digest() -> None:
    mask = np.zeros((64, 96), dtype=np.uint8)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found = {digest_of(image, mask).image}
    for size in (8, 2048):
        parts = image.copy().reshape(-1, size)
        parts[[0, 1]] = parts[[1, 0]]
        found.add(digest_of(parts.reshape(image.shape), mask).image)
    assert len(found) == 3


def test_digests_are_the_same_for_ever() -> None:
    image = np.arange(64 * 96 * 3, dtype=np.uint64).astype(np.uint8).reshape(64, 96, 3)
    assert digest_of(image, image[:, :, 1]) == ("4acbbff1a70128e9", "44d11526e7c5602c")  # kept in runs' folders


def test_a_grey_image_has_one_digest_however_it_is_stored() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (10, 12), dtype=np.uint8)
    mask = np.zeros((10, 12), dtype=np.uint8)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    assert digest_of(grey, mask) == digest_of(colour, mask)
    tinted = colour.copy()
    tinted[5, 5, 2] ^= 255  # below the first row
    assert digest_of(tinted, mask) != digest_of(colour, mask)


def test_files_and_arrays_of_the_same_pixels_have_the_same_digests(root: Path) -> None:
    (whole,) = trained(root).test_parts[0].dataset.domains
    images, masks = (np.stack(arrays) for arrays in zip(*((s.image, s.mask) for s in whole), strict=True))
    copies = ArrayDomain("x", images, masks, [item.name for item in whole.items], ["g"] * 5)
    assert [copies.digest(position) for position in range(5)] == [whole.digest(position) for position in range(5)]
    assert copies.subset([3, 1]).subset([1]).digest(0) == whole.digest(1)
    assert len({whole.digest(position) for position in range(5)}) == 5


def test_fingerprints_are_of_pixels_and_names_alone(root: Path, tmp_path: Path) -> None:
    original = trained(root).fingerprints()
    assert list(original) == ["day", "night", "dusk"]
    assert all(len(digits) == 12 for digits in original.values())
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    for path in sorted(moved.rglob("*.png")):
        pixels = np.asarray(Image.open(path))
        Image.fromarray(pixels).save(path, compress_level=1)
        os.utime(path, (0, 0))
    assert FolderData(moved, "dusk", validation_fraction=0.2, seed=5, cache_mib=0, **OPTIONS).fingerprints() == original


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a label": (lambda r: Image.fromarray(np.ones((10, 12), np.uint8)).save(r / "day/masks/c.png"), "day"),
    "a pixel": (lambda r: Image.fromarray(np.ones((10, 12), np.uint8)).save(r / "dusk/images/c.png"), "dusk"),
    "one more": (lambda r: fill(r, "night", "z", 9), "night"),
    "one less": (lambda r: remove(r, "dusk", "a"), "dusk"),
    "a name": (lambda r: [(r / f"day/{k}/a.png").rename(r / f"day/{k}/y.png") for k in ("images", "masks")], "day"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_fingerprint_changes_with_its_domain_alone(root: Path, name: str) -> None:
    before = trained(root).fingerprints()
    change, changed = CHANGES[name]
    change(root)
    after = trained(root).fingerprints()
    assert [domain for domain in before if before[domain] != after[domain]] == [changed]


def test_fingerprints_do_not_depend_on_the_side_of_the_split(root: Path) -> None:
    one, other = (FolderData(root, "dusk", split_seed=seed, **OPTIONS) for seed in (0, 1))
    assert one.images() != other.images()
    assert one.fingerprints() == other.fingerprints()


# The list


def test_the_list_comes_back_as_it_was_written(root: Path, tmp_path: Path) -> None:
    images = trained(root).images()
    assert {
        name: [len(part) for part in (used.train, used.validation, used.test)] for name, used in images.items()
    } == {
        "day": [3, 2, 2],
        "night": [3, 2, 2],
        "dusk": [0, 0, 5],
    }
    for used in images.values():
        assert not used.train.keys() & used.test.keys()
    run = Run(tmp_path / "run")
    assert read_images(run) is None
    write_images(run, images)
    assert read_images(run) == images
    assert list(read_images(run) or {}) == ["day", "night", "dusk"]


GOOD = "0123456789abcdef"


def listing(**changes: Any) -> str:
    parts = {"train": {"a": [GOOD, GOOD]}, "validation": {}, "test": {}} | changes
    return json.dumps({"day": {name: part for name, part in parts.items() if part is not None}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"day": 3}',
        listing(test=None),
        listing(train={}),
        listing(more={}),
        listing(test=None, more={}),
        listing(train={"a": [GOOD]}),
        listing(train={"a": [GOOD, GOOD + "0"]}),
        listing(train={"a": [GOOD, GOOD.upper()]}),
        listing(train={"a": GOOD}),
        listing(train={"a" * 2000: [GOOD, GOOD]}),
    ],
)
def test_a_damaged_list_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    run = Run(tmp_path)
    run.images_path.write_text(listing())
    assert read_images(run) is not None
    run.images_path.write_text(text)
    with pytest.raises(InputError, match=r"images\.json .* give a run that training wrote") as caught:
        read_images(run)
    assert "\n" not in str(caught.value)


def test_a_list_without_end_is_not_read(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.images_path.touch()
    os.truncate(run.images_path, 2**26 + 1)
    with pytest.raises(InputError, match="bytes, more than"):
        read_images(run)


# What a run is judged on


def test_nothing_changes_where_nothing_has_changed(root: Path) -> None:
    before = trained(root)
    again = judged(root, before.images())
    assert names(again) == names(before)
    assert again.fingerprints() == before.fingerprints()
    assert (again.source_names, again.target_name, again.notes) == (["day", "night"], "dusk", [])
    assert again.class_names == before.class_names
    for one, other in zip(again.test_parts, before.test_parts, strict=True):
        for position in range(len(one.dataset)):
            np.testing.assert_array_equal(one.dataset.sample(position).mask, other.dataset.sample(position).mask)


def test_sources_are_judged_on_what_was_held_out_whatever_there_is_now(root: Path) -> None:
    before = trained(root)
    images = before.images()
    first, second = sorted(images["day"].test)
    fill(root, "day", "xyz", 7)
    remove(root, "day", sorted(images["day"].train)[0])
    again = judged(root, images)
    assert names(again) == names(before)
    assert again.notes == ["day: 3 images are passed over that the run neither trained on nor held out"]
    assert again.fingerprints() == before.fingerprints()
    remove(root, "day", first)
    fill(root, "day", second, 8)  # another picture under that name
    fill(root, "night", "".join(images["night"].test)[:1], 8)
    lost = judged(root, images)
    assert names(lost) == {("dusk", False): list("abcde"), ("night", True): sorted(images["night"].test)[1:]}
    assert lost.notes[1:] == [
        f"day: 2 of 2 held-out images are gone or changed: '{first}', '{second}'",
        f"night: 1 of 2 held-out images are gone or changed: '{sorted(images['night'].test)[0]}'",
    ]
    assert all(lost.fingerprints()[name] != before.fingerprints()[name] for name in ("day", "night"))


def test_a_corrected_mask_is_the_same_image_in_another_setting(root: Path) -> None:
    before = trained(root)
    images = before.images()
    name = sorted(images["day"].test)[0]
    Image.fromarray(np.ones((10, 12), np.uint8)).save(root / "day" / "masks" / f"{name}.png")
    again = judged(root, images)
    assert (names(again), again.notes) == (names(before), [])
    assert again.fingerprints()["day"] != before.fingerprints()["day"]


def test_a_source_as_target_is_judged_on_what_was_held_out(root: Path) -> None:
    before = trained(root)
    images = before.images()
    shutil.rmtree(root / "dusk")  # nobody asks for it
    again = judged(root, images, "night")
    held_out = {name: sorted(images[name].test) for name in ("night", "day")}
    assert names(again) == {(name, True): found for name, found in held_out.items()}
    assert (again.source_names, again.target_name) == (["day", "night"], "night")
    fingerprints = before.fingerprints()
    assert again.fingerprints() == {name: fingerprints[name] for name in ("day", "night")}


def test_a_source_of_which_nothing_was_held_out_is_no_target(root: Path) -> None:
    images = FolderData(root, "dusk", validation_fraction=0, **OPTIONS).images()
    assert names(judged(root, images)) == {("dusk", False): list("abcde")}
    with pytest.raises(InputError, match=r"target='day' leaves nothing to judge on \(the run held none .* out\)"):
        judged(root, images, "day")


def test_only_the_new_data_are_needed(root: Path, tmp_path: Path) -> None:
    rows = [f"{domain},{name},{domain}/{name}\n" for domain in ("day", "night", "dusk") for name in "abcde"]
    (root / "metadata.csv").write_text("".join(["where,name,scene\n", *rows]))
    grouped = {**OPTIONS, "group_column": "scene", "domain_column": "where"}
    before = FolderData(root, "dusk", **grouped)
    fill(tmp_path / "new", "dawn", "abc", 11)
    new = FolderData(tmp_path / "new", "dawn", images=before.images(), **grouped)
    assert names(new) == {("dawn", False): ["a", "b", "c"]}
    assert (new.source_names, list(new.fingerprints())) == (["day", "night"], ["day", "night", "dawn"])
    here = tmp_path / "new"
    assert new.notes == [
        f"day: not in {here}, so its 1 held-out images are passed over",
        f"night: not in {here}, so its 1 held-out images are passed over",
        f"metadata.csv is not in {here}: every image counts as a group of its own",
    ]


def test_images_that_were_trained_on_are_left_out_of_another_target(root: Path) -> None:
    images = trained(root).images()
    fill(root, "dawn", "xyz", 11)
    for number, name in enumerate(sorted(images["day"].train)[:2]):
        for kind in ("images", "masks"):  # under another name, written by another program
            pixels = np.asarray(Image.open(root / "day" / kind / f"{name}.png"))
            Image.fromarray(pixels).save(root / "dawn" / kind / f"{number}.png", compress_level=1)
    Image.fromarray(np.ones((10, 12), np.uint8)).save(root / "dawn" / "masks" / "0.png")  # whatever its mask is
    again = judged(root, images, "dawn")
    assert names(again)["dawn", False] == ["x", "y", "z"]
    assert again.notes == ["dawn: 2 of 5 images are left out, since the run was trained on them"]
    for name in "xyz":
        remove(root, "dawn", name)
    with pytest.raises(InputError, match=r"target='dawn' leaves nothing to judge on \(dawn: 2 of 2 images are left"):
        judged(root, images, "dawn")


def test_a_target_that_was_also_trained_on_is_said_and_stays_what_it_was(root: Path) -> None:
    assert "warning" not in trained(root).summary()
    name = sorted(trained(root).images()["day"].train)[0]
    for kind in ("images", "masks"):
        shutil.copy(root / "day" / kind / f"{name}.png", root / "dusk" / kind / "f.png")
    before = trained(root)
    assert before.summary().endswith("warning: 1 of 6 test images of dusk are also trained on")
    assert names(judged(root, before.images())) == names(before)


@pytest.mark.parametrize(
    ("target", "message"),
    [("moon", r"target='moon' is not a domain in .*; known: day, dusk, night"), ("noon", "noon/masks is not a folder")],
)
def test_targets_that_cannot_be_judged_on(root: Path, target: str, message: str) -> None:
    images = trained(root).images()
    if target == "noon":
        fill(root, "noon", "a", 0)
        shutil.rmtree(root / "noon" / "masks")
    with pytest.raises(InputError, match=message):
        judged(root, images, target)


# Frames of a game

FRAMES: Mapping[str, Any] = {"level_count": 50, "train_frames": 12, "validation_frames": 6, "test_frames": 8}


@pytest.fixture(scope="module")
def frames() -> ProcgenData:
    return ProcgenData("maze", "generated", **FRAMES)


def test_frames_are_judged_on_again(frames: ProcgenData) -> None:
    again = ProcgenData("maze", "generated", images=frames.images(), **FRAMES)
    assert (names(again), again.notes) == (names(frames), [])
    assert again.fingerprints() == frames.fingerprints()
    assert len(again.train_dataset) == 0


def test_a_look_that_was_trained_on_is_judged_on_levels_that_were_not(frames: ProcgenData) -> None:
    images = frames.images()
    again = ProcgenData("maze", "plain", images=images, **FRAMES)
    assert [(part.domain, part.seen, len(part.dataset)) for part in again.test_parts] == [
        ("plain", True, 6),
        ("themed", True, 6),
    ]
    for part in again.test_parts:
        assert {int(item.group) for item in part.dataset.items} <= set(range(50, 100))
        assert again.images()[part.domain].test == images[part.domain].test
    with pytest.raises(InputError, match="target='dusk' is not known"):
        ProcgenData("maze", "dusk", images=images, **FRAMES)


def test_frames_that_were_trained_on_are_left_out(frames: ProcgenData) -> None:
    images = dict(frames.images())
    (first, *_), test = images["plain"].train, dict(images["generated"].test)
    stolen = test.pop("00003")
    images["generated"] = DomainImages({}, {}, test)
    images["plain"] = DomainImages({**images["plain"].train, first: stolen}, {}, images["plain"].test)
    again = ProcgenData("maze", "generated", images=images, **FRAMES)
    assert again.notes == ["generated: 1 of 8 images are left out, since the run was trained on them"]
    assert "00003" not in names(again)["generated", False]
