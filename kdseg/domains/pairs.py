"""Images and their masks from disk, checked to the last byte."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from common.errors import InputError
from kdseg.domains.coco import Regions
from kdseg.domains.digests import Digest, digest_of
from kdseg.domains.images import Image, ValueRange, as_colours, read_image
from kdseg.domains.layouts import Pair
from kdseg.domains.masks import LabelMap, Mask, read_mask
from kdseg.domains.sample import DomainData, Item

Pixels = tuple[NDArray[np.uint8], NDArray[np.uint8]]

_PROGRESS_FROM = 200  # files; below that it is over before it could be read


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files become arrays.

    Attributes:
        value_range: See :func:`~kdseg.domains.images.read_image`.
        label_map: See :func:`~kdseg.domains.masks.read_mask`.
        class_names: For masks that are regions with the names of classes.
    """

    value_range: ValueRange | None = None
    label_map: LabelMap | None = None
    class_names: Sequence[str] = ()

    def __call__(self, pair: Pair) -> Pixels:
        """Image ``uint8 [H, W]`` or ``[H, W, bands]`` and mask ``uint8 [H, W]``."""
        image, mask = self.files(pair)
        return image.pixels, mask.labels

    def files(self, pair: Pair) -> tuple[Image, Mask]:
        """The same with what they were; where there is no mask, zeros."""
        image = read_image(pair.image, self.value_range)
        if pair.mask is None:
            return image, Mask(np.zeros(image.pixels.shape[:2], np.uint8), "none")
        if isinstance(pair.mask, Regions):
            return image, Mask(pair.mask.labels(self.class_names), "COCO regions")
        return image, read_mask(pair.mask, self.label_map)


@dataclasses.dataclass(frozen=True)
class CheckedPair:
    """A pair that was decoded once.

    Attributes:
        pair: Where it lies.
        height: Pixels.
        width: Pixels.
        bands: Of the image; a grey one counts as three equal ones.
        labels: ``int64 [256]``, how many pixels of the mask have each value; 255 is ignored. Without a mask, none has.
        digest: What stands for image and mask.
        image_kind: What the image was, for people.
        mask_kind: What the mask was.
        brightest: See :class:`~kdseg.domains.images.Image`.
        clipped: As there.
        pixels: Image and mask as read, if they are kept in memory.
    """

    pair: Pair
    height: int
    width: int
    bands: int
    labels: NDArray[np.int64]
    digest: Digest
    image_kind: str
    mask_kind: str
    brightest: int | None
    clipped: float
    pixels: Pixels | None


class FolderDomain(DomainData):
    """A domain whose images lie on disk.

    Args:
        name: Name of the domain.
        checked: Its images.
        groups: Group of each image.
        reading: How files become arrays, as when they were checked.
    """

    def __init__(self, name: str, checked: Sequence[CheckedPair], groups: Sequence[str], reading: Reading) -> None:
        entries = zip(checked, groups, strict=True)
        super().__init__(name, [Item(entry.pair.name, group, entry.height, entry.width) for entry, group in entries])
        self.checked, self.reading = list(checked), reading
        self.bands = checked[0].bands if checked else 3
        self.labelled = all(entry.pair.mask is not None for entry in checked)

    def read(self, position: int) -> Pixels:
        """See :meth:`DomainData.read`."""
        entry = self.checked[position]
        image, mask = entry.pixels or self.reading(entry.pair)
        return as_colours(image), mask

    def digest(self, position: int) -> Digest:
        """See :meth:`DomainData.digest`; as of construction."""
        return self.checked[position].digest


def check_pairs(pairs: Sequence[Pair], cache_bytes: int, reading: Reading) -> list[CheckedPair]:
    """Decode every image and mask once, several at a time; show a progress bar if there are many.

    Args:
        pairs: What to check.
        cache_bytes: Keep decoded pixels in memory until this much is taken.
        reading: How files become arrays.

    Raises:
        InputError: if a file cannot be used, an image and its mask differ in size, or images in their bands.
    """
    checked: list[CheckedPair] = []
    with Progress(console=Console(stderr=True), transient=True, disable=2 * len(pairs) <= _PROGRESS_FROM) as progress:
        bar = progress.add_task("reading images", total=len(pairs))
        for entry in _check_in_threads(pairs, reading):
            pixels = entry.pixels
            assert pixels is not None
            size = pixels[0].nbytes + pixels[1].nbytes
            if size <= cache_bytes:
                cache_bytes -= size
            else:
                entry = dataclasses.replace(entry, pixels=None)
            if checked and entry.bands != checked[0].bands:
                raise InputError(
                    f"{entry.pair.image} has {entry.bands} bands, {checked[0].pair.image} {checked[0].bands}; a network"
                    " takes one number of them"
                )
            checked.append(entry)
            progress.advance(bar)
    return checked


def _check_in_threads(pairs: Sequence[Pair], reading: Reading) -> Iterator[CheckedPair]:
    threads = min(8, os.cpu_count() or 1)
    # In portions: a pool decodes as fast as it can, and results that nobody has taken yet fill the memory.
    portion, check = 16 * threads, functools.partial(_check, reading=reading)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pairs), portion):
            yield from pool.map(check, pairs[start : start + portion])


def _check(pair: Pair, reading: Reading) -> CheckedPair:
    image, mask = reading.files(pair)
    pixels = image.pixels, mask.labels
    if pixels[0].shape[:2] != pixels[1].shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (pixels[0].shape, pixels[1].shape)]
        turned = " (turned upright)" if "turned" in image.kind + mask.kind else ""
        raise InputError(f"{pair.image} is {sizes[0]} but {pair.mask} is {sizes[1]} pixels{turned}; they must be equal")
    return CheckedPair(
        pair,
        height=pixels[1].shape[0],
        width=pixels[1].shape[1],
        bands=3 if pixels[0].ndim == 2 else pixels[0].shape[2],
        labels=np.zeros(256, np.int64) if pair.mask is None else np.bincount(pixels[1].ravel(), minlength=256),
        digest=digest_of(*pixels),
        image_kind=image.kind,
        mask_kind=mask.kind,
        brightest=image.brightest,
        clipped=image.clipped,
        pixels=pixels,
    )
