"""Images of any size through a network, in overlapping tiles."""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Answer = Callable[[Tensor], Tensor]
"""From images ``[B, 3, h, w]`` to probabilities ``[B, C, h, w]``."""


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Attributes:
        side: Pixels of a tile; ``None`` leaves images whole.
        overlap: Share of a tile that its neighbour has too, at least; in [0, 1).
        batch_size: Tiles that are answered at once.
    """

    side: int | None = 512
    overlap: float = 0.25
    batch_size: int = 4


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles of ``side`` begin that cover ``length``, spread evenly.

    Args:
        length: Pixels.
        side: Pixels of a tile; no more than ``length`` are needed.
        overlap: Share of a tile that its neighbour has too, at least; in [0, 1).

    >>> starts(100, 40, 0.25)
    [0, 30, 60]
    >>> starts(40, 64, 0.25)
    [0]
    """
    if length <= side:
        return [0]
    step = max(1.0, side * (1 - overlap))
    count = -int(-(length - side) // step) + 1
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def ramp(side: int, overlap: float) -> Tensor:
    """What each pixel of a tile weighs ``[side]``: least at its ends, where the network sees least around it."""
    rise = max(1, round(side * overlap))
    inside = torch.arange(1, side + 1, dtype=torch.float32)
    return torch.minimum(inside, inside.flip(0)).clamp(max=rise) / rise


def predict_tiles(answer: Answer, image: Tensor, tiling: Tiling) -> Tensor:
    """Probabilities of an image, where tiles overlap their mean, weighted by :func:`ramp`.

    Args:
        answer: A network.
        image: ``[3, H, W]``.
        tiling: How it is cut.

    Returns:
        ``float32 [C, H, W]`` on the CPU.
    """
    height, width = image.shape[-2:]
    side, overlap = tiling.side, tiling.overlap
    if side is None or max(height, width) <= side:
        return answer(image[None])[0].float().cpu()
    high, wide = min(side, height), min(side, width)
    places = [(top, left) for top in starts(height, high, overlap) for left in starts(width, wide, overlap)]
    weight = ramp(high, overlap)[:, None] * ramp(wide, overlap)[None, :]
    total, weights = None, torch.zeros(height, width)
    for first in range(0, len(places), tiling.batch_size):
        some = places[first : first + tiling.batch_size]
        tiles = torch.stack([image[:, top : top + high, left : left + wide] for top, left in some])
        found = answer(tiles).float().cpu()
        total = torch.zeros(found.shape[1], height, width) if total is None else total
        for (top, left), tile in zip(some, found, strict=True):
            total[:, top : top + high, left : left + wide] += weight * tile
            weights[top : top + high, left : left + wide] += weight
    assert total is not None
    return total / weights


def flipped(answer: Answer, mirrors: Sequence[Sequence[int]]) -> Answer:
    """The mean answer to images and their mirror images.

    Args:
        answer: A network.
        mirrors: Dimensions along which each mirror image is turned.
    """

    def mean(images: Tensor) -> Tensor:
        found = answer(images)
        for dimensions in mirrors:
            found = found + answer(images.flip(tuple(dimensions))).flip(tuple(dimensions))
        return found / (1 + len(mirrors))

    return mean
