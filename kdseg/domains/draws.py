"""The order in which images are drawn: balanced over domains for training, by size for evaluation."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import BatchSampler, Sampler

from common.errors import InputError

Draw = tuple[int, int]
"""Index of an image in its data set, and the running number of this draw, counted over all epochs.

The number is what seeds the augmentation of the draw, so that a run does not depend on how many worker
processes share its images, nor on being interrupted and resumed.
"""


class TrainingDraws(Sampler[Draw]):
    """Endless passes over the training images, cut into epochs.

    Balanced, the domains take turns (in a fresh random order each round) and each goes through its own
    images in shuffled passes: every batch holds equally many images of every domain, give or take one.
    Otherwise one shuffled pass runs over the images of all domains.

    ``set_epoch`` is called by pytorch-lightning; without it, each iteration is the next epoch.

    Args:
        sizes: How many images each domain has; the data set holds them in this order.
        length: Draws an epoch.
        seed: Seeds the order; epoch ``k`` of two samplers with the same seed is the same.
        balanced: Whether domains take turns.
        epoch: The first iteration's, counted from 0.
        done: Draws of that epoch that are left out, since an interrupted run has made them.
    """

    def __init__(
        self, sizes: Sequence[int], length: int, seed: int, balanced: bool = True, epoch: int = 0, done: int = 0
    ) -> None:
        self.sizes = list(sizes)
        self.length = length
        self.seed = seed
        self.balanced = balanced
        self.epoch = epoch
        self._interrupted, self._done = epoch, done

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration epoch number ``epoch``, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng([self.seed, self.epoch])
        first = self.epoch * self.length
        done = self._done if self.epoch == self._interrupted else 0
        self.epoch += 1
        starts = np.cumsum([0, *self.sizes])
        if self.balanced:
            passes = [
                _passes(int(start), size, child)
                for start, size, child in zip(starts, self.sizes, rng.spawn(len(self.sizes)), strict=False)
            ]
            turns = _passes(0, len(passes), rng)
            indices: Iterator[int] = (next(passes[domain]) for domain in turns)
        else:
            indices = _passes(0, int(starts[-1]), rng)
        draws = zip(indices, range(first, first + self.length), strict=False)
        yield from islice(draws, done, None)


def _passes(start: int, size: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield ``start .. start + size - 1`` in shuffled order, again and again."""
    while True:
        yield from (start + int(offset) for offset in rng.permutation(size))


class TrainingBatches(BatchSampler):
    """Batches of training draws, of which every process of a training takes its own share.

    A batch is that of the whole training, however many processes there are: what is trained does not depend on their
    number. Their shares are disjoint and equally large.

    Args:
        draws: The order.
        batch_size: Images of a batch, over all processes.
        shared: Whether processes share a batch, or each has the whole of it.

    Raises:
        InputError: when iterated, a batch that cannot be shared equally.
    """

    def __init__(self, draws: TrainingDraws, batch_size: int, shared: bool = True) -> None:
        super().__init__(draws, batch_size, drop_last=True)  # type: ignore[arg-type]  # draws, where torch has indices
        self.shared = shared

    def __iter__(self) -> Iterator[list[Any]]:
        rank, count = process_of() if self.shared else (0, 1)
        check_shares(self.batch_size, count)
        share = self.batch_size // count
        for batch in super().__iter__():
            yield batch[rank * share : (rank + 1) * share]


def process_of() -> tuple[int, int]:
    """Which process of a training this is, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def check_shares(batch_size: int, count: int) -> None:
    """Raise unless so many processes can share a batch.

    Raises:
        InputError: naming a size that they can.
    """
    if batch_size % count:
        raise InputError(
            f"data.batch_size={batch_size} is that of all {count} devices, which cannot share it equally; use"
            f" {max(1, round(batch_size / count)) * count}"
        )


class SameSizeBatches(Sampler[list[int]]):
    """Batches of images of one size, so that whole images can be stacked without touching them.

    Processes take turns: each image is in a batch of one of them, and some may have a batch more than others.

    Args:
        sizes: Height and width of each image.
        batch_size: Largest number of images in a batch.
        pixels: Largest number of pixels in a batch of more than one image; keeps memory bounded when some
            images are much larger than others.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], batch_size: int, pixels: int = 2**21) -> None:
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, size in enumerate(sizes):
            by_size.setdefault(size, []).append(index)
        self._batches: list[list[int]] = []
        for (height, width), indices in by_size.items():
            step = max(1, min(batch_size, pixels // (height * width)))
            self._batches += [indices[start : start + step] for start in range(0, len(indices), step)]

    def _mine(self) -> list[list[int]]:
        rank, count = process_of()
        return self._batches[rank::count]

    def __len__(self) -> int:
        return len(self._mine())

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._mine())
