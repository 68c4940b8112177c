import importlib
import os
import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from omegaconf import OmegaConf

from common.errors import InputError
from kdseg.domains.augmentation import Pipeline, build_transform
from kdseg.domains.presets import preset

# Not an import statement: sorted to the top, it would come before the switch that keeps it off the network.
albumentations = importlib.import_module("albumentations")
Image = NDArray[np.uint8]


@pytest.fixture
def image() -> Image:
    return np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)


@pytest.fixture
def mask() -> Image:
    return np.random.default_rng(1).integers(0, 4, (80, 120), dtype=np.uint8)


def test_equal_seeds_give_equal_results_whatever_was_drawn_before(image: Image, mask: Image) -> None:
    first, second = Pipeline(preset("mild"), 64), Pipeline(preset("mild"), 64)
    for number in range(5):
        second(image, mask, seed=(9, number))
    for number in range(5):
        for one, other in zip(first(image, mask, seed=(3, number)), second(image, mask, seed=(3, number)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_different_seeds_give_different_results(image: Image, mask: Image) -> None:
    pipeline = Pipeline(preset("mild"), 64)
    results = {pipeline(image, mask, seed=(0, number))[0].tobytes() for number in range(20)}
    assert len(results) == 20


def test_image_and_mask_move_together(mask: Image) -> None:
    # The image shows the mask, so every geometric change must keep them equal.
    shown = np.repeat(mask[:, :, None], 3, axis=2)
    geometry = [{"transform": "HorizontalFlip"}, {"transform": "RandomRotate90", "p": 1.0}]
    for number in range(10):
        image, moved = Pipeline(geometry, 64)(shown, mask, seed=(number,))
        assert image.shape == (64, 64, 3)
        np.testing.assert_array_equal(image[:, :, 0], moved)


def test_a_clean_image_moves_with_its_mask_and_changes_nothing_else(image: Image, mask: Image) -> None:
    entries = [{"transform": "HorizontalFlip"}, {"transform": "RandomRotate90"}, {"transform": "ColorJitter", "p": 1.0}]
    flipped = image[:64, :64] * 0 + mask[:64, :64, None]  # shows the mask
    host = albumentations.Compose([build_transform(entry) for entry in entries])
    for number in range(10):
        augmented, moved, clean = Pipeline(entries).both(flipped, mask[:64, :64], seed=(number,))
        np.testing.assert_array_equal(clean[:, :, 0], moved)
        rng = np.random.default_rng((number,))
        host.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        np.testing.assert_array_equal(augmented, host(image=flipped, mask=mask[:64, :64])["image"])


@pytest.mark.parametrize("early", ["ToGray", "OneOf"])
def test_there_is_no_clean_image_where_pixels_change_before_they_move(early: str) -> None:
    children = {"transforms": [{"transform": "HorizontalFlip"}, {"transform": "ToGray"}]} if early == "OneOf" else {}
    pipeline = Pipeline([{"transform": early, **children}, {"transform": "VerticalFlip"}])
    with pytest.raises(InputError, match=f"augmentation {early} changes pixels before VerticalFlip moves them"):
        pipeline.check_clean()


def test_padding_is_ignored(image: Image, mask: Image) -> None:
    _, cropped = Pipeline([], 128)(image, mask, seed=(0,))
    assert cropped.shape == (128, 128)
    assert (cropped == 255).sum() == 128 * 128 - 80 * 120
    np.testing.assert_array_equal(np.bincount(cropped.ravel(), minlength=256)[:4], np.bincount(mask.ravel()))


def test_pixels_from_outside_are_ignored(image: Image, mask: Image) -> None:
    turn = {"_target_": "albumentations.Rotate", "limit": [45, 45], "p": 1.0}
    _, turned = Pipeline([turn])(image, mask, seed=(0,))
    assert turned[0, 0] == 255
    assert turned[-1, -1] == 255
    _, kept = Pipeline([{**turn, "fill_mask": 2}])(image, mask, seed=(0,))
    assert kept[0, 0] == 2
    assert 255 not in kept


def test_inputs_stay_as_they_are(image: Image, mask: Image) -> None:
    before = image.copy(), mask.copy()
    Pipeline([{"transform": "ColorJitter", "p": 1.0}])(image, mask, seed=(0,))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_entries_of_a_configuration_nested() -> None:
    node = OmegaConf.create(
        [{"transform": "OneOf", "p": 1.0, "transforms": [{"transform": "GaussNoise", "std_range": [0.1, 0.2]}]}]
    )
    (transform,) = [build_transform(entry) for entry in node]
    assert isinstance(transform, albumentations.OneOf)
    assert isinstance(transform.transforms[0], albumentations.GaussNoise)
    assert transform.transforms[0].std_range == (0.1, 0.2)


def test_a_transform_made_already_is_kept() -> None:
    flip = albumentations.VerticalFlip()
    assert build_transform(flip) is flip


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"transform": "HorizontalFlipp"}, ["HorizontalFlipp", "did you mean", "HorizontalFlip"]),
        ({"_target_": "torch.nn.Linear"}, ["torch.nn.Linear", "albumentations"]),
        ({"transform": "warnings"}, ["warnings", "not known"]),
        ({"p": 0.5}, ["transform: HorizontalFlip"]),
        ("HorizontalFlip", ["transform: HorizontalFlip"]),
        ({"transform": "HorizontalFlip", "prob": 0.5}, ["HorizontalFlip", "prob", "it takes: p"]),
        ({"transform": "HorizontalFlip", "p": 1.5}, ["HorizontalFlip", "less than or equal to 1"]),
        ({"transform": "RandomCrop"}, ["RandomCrop", "cannot be made"]),
        ({"transform": "Normalize"}, ["Normalize", "normalised afterwards"]),
        (albumentations.Normalize(), ["Normalize", "normalised afterwards"]),
        ({"transform": "OneOf", "transforms": [{"transform": "Blurr"}]}, ["Blurr"]),
    ],
)
def test_mistakes_are_one_line(entry: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        Pipeline([entry])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_library_does_not_look_for_updates() -> None:
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
