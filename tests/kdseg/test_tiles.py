"""Tiles cover an image, agree with it whole, and weigh what they are sure of."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kdseg.tiles import Tiling, flipped, predict_tiles, ramp, starts


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.7])
@pytest.mark.parametrize(("length", "side"), [(100, 40), (41, 40), (40, 40), (33, 8), (1000, 64), (7, 64)])
def test_tiles_cover_and_overlap(length: int, side: int, overlap: float) -> None:
    found = starts(length, side, overlap)
    covered = np.zeros(length, int)
    for start in found:
        assert 0 <= start <= max(0, length - side)
        covered[start : start + side] += 1
    assert covered.min() >= 1
    assert all(two - one <= side * (1 - overlap) + 1 for one, two in itertools.pairwise(found))
    # No more of them than it takes.
    assert len(found) == 1 or (len(found) - 2) * side * (1 - overlap) < length - side


def test_a_ramp_by_hand() -> None:
    assert torch.allclose(ramp(8, 0.25), torch.tensor([0.5, 1, 1, 1, 1, 1, 1, 0.5]))
    assert torch.allclose(ramp(3, 0.0), torch.ones(3))


def local(images: Tensor) -> Tensor:
    """Probabilities that depend on a pixel's colours alone: the same in every tile."""
    return torch.cat([images, 1 - images.mean(1, keepdim=True)], 1).softmax(1)


@pytest.mark.parametrize("size", [(50, 70), (20, 90), (16, 16), (17, 16)])
def test_tiles_of_what_depends_on_pixels_alone_are_the_whole(size: tuple[int, int]) -> None:
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    whole = predict_tiles(local, image, Tiling(None))
    tiled = predict_tiles(local, image, Tiling(16, 0.3, batch_size=3))
    assert tiled.shape == (4, *size)
    assert torch.allclose(tiled, whole, atol=1e-6)
    assert torch.allclose(tiled.sum(0), torch.ones(size), atol=1e-6)


def test_borders_of_tiles_weigh_least() -> None:
    """A network that sees zeros beyond a tile errs at its border; overlapping ones err less."""
    kernel = torch.ones(1, 3, 9, 9) / 243

    def blurred(images: Tensor) -> Tensor:
        return F.conv2d(images, kernel, padding=4)

    image = torch.ones(3, 96, 96)
    whole = predict_tiles(blurred, image, Tiling(None))
    errors = [
        float((predict_tiles(blurred, image, Tiling(32, overlap)) - whole)[:, 8:-8, 8:-8].abs().max())
        for overlap in (0.0, 0.5)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_mirror_images_are_turned_back() -> None:
    asked = []

    def answer(images: Tensor) -> Tensor:
        asked.append(images)
        return images * torch.linspace(0, 1, images.shape[-1])  # knows left from right

    image = torch.rand(1, 3, 4, 6)
    found = flipped(answer, [[-1]])(image)
    assert torch.equal(asked[1], image.flip(-1))
    assert torch.allclose(found, image / 2)  # x w and x (1 − w), averaged
    assert torch.equal(flipped(local, [])(image), local(image))
    symmetric = flipped(local, [[-1], [-2], [-1, -2]])
    assert torch.allclose(symmetric(image.flip(-2)), symmetric(image).flip(-2), atol=1e-6)
