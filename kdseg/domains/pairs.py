"""One domain's folder: its images and masks, paired by name and checked to the last byte."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from common.errors import InputError
from kdseg.domains.digests import Digest, digest_of
from kdseg.domains.images import IMAGE_SUFFIXES, MASK_SUFFIXES, highest_label, read_image, read_mask
from kdseg.domains.sample import DomainData, Item

Pixels = tuple[NDArray[np.uint8], NDArray[np.uint8]]

_PROGRESS_FROM = 200  # files; below that it is over before it could be read


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask on disk."""

    domain: str
    name: str
    image: Path
    mask: Path


@dataclasses.dataclass(frozen=True)
class CheckedPair:
    """A pair that was decoded once.

    Attributes:
        pair: Where it lies.
        height: Pixels.
        width: Pixels.
        highest_label: Highest class index in the mask, -1 if all of it is ignored.
        digest: What stands for image and mask.
        pixels: Image and mask as decoded, if they are kept in memory.
    """

    pair: Pair
    height: int
    width: int
    highest_label: int
    digest: Digest
    pixels: Pixels | None


class FolderDomain(DomainData):
    """A domain whose images lie on disk.

    Args:
        name: Name of the domain.
        checked: Its images.
        groups: Group of each image.
    """

    def __init__(self, name: str, checked: Sequence[CheckedPair], groups: Sequence[str]) -> None:
        entries = zip(checked, groups, strict=True)
        super().__init__(name, [Item(entry.pair.name, group, entry.height, entry.width) for entry, group in entries])
        self.checked = list(checked)

    def read(self, position: int) -> Pixels:
        """See :meth:`DomainData.read`."""
        entry = self.checked[position]
        image, mask = entry.pixels or (read_image(entry.pair.image), read_mask(entry.pair.mask))
        if image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, axis=2)
        return image, mask

    def digest(self, position: int) -> Digest:
        """See :meth:`DomainData.digest`; as of construction."""
        return self.checked[position].digest


def find_pairs(root: Path, domain: str, mask_folder: str = "masks") -> list[Pair]:
    """List ``root/domain/images/*`` with ``root/domain/<mask_folder>/*``, matched by name without suffix.

    Returns:
        Pairs sorted by name.

    Raises:
        InputError: if a folder is missing or empty, an image has no mask or a mask no image, or a name
            occurs twice.
    """
    images = _files(root / domain / "images", IMAGE_SUFFIXES, "image")
    masks = _files(root / domain / mask_folder, MASK_SUFFIXES, "mask")
    for found, others, missing in ((images, masks, "mask"), (masks, images, "image")):
        if alone := sorted(found.keys() - others.keys()):
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            folder = root / domain / ("images" if missing == "image" else mask_folder)
            raise InputError(
                f"{found[alone[0]]} has no {missing} of that name in {folder}{more}; add it or remove this file"
            )
    return [Pair(domain, name, images[name], masks[name]) for name in sorted(images)]


def _files(folder: Path, suffixes: Sequence[str], what: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; a domain needs <root>/<domain>/images and its masks beside it")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix.lower() not in suffixes:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                raise InputError(
                    f"{path}: {path.suffix} is lossy or unusual for a {what}; use one of: {', '.join(suffixes)}"
                )
            continue
        if path.stem in found:
            raise InputError(f"{path} and {found[path.stem].name} have the same name; keep one of them")
        found[path.stem] = path
    if not found:
        raise InputError(f"{folder} holds no {what}; put files there that end in: {', '.join(suffixes)}")
    return found


def check_pairs(pairs: Sequence[Pair], cache_bytes: int) -> list[CheckedPair]:
    """Decode every image and mask once, several at a time; show a progress bar if there are many.

    Args:
        pairs: What to check.
        cache_bytes: Keep decoded pixels in memory until this much is taken.

    Raises:
        InputError: if a file cannot be used, or an image and its mask differ in size.
    """
    checked = []
    with Progress(console=Console(stderr=True), transient=True, disable=2 * len(pairs) <= _PROGRESS_FROM) as progress:
        bar = progress.add_task("reading images", total=len(pairs))
        for entry in _check_in_threads(pairs):
            pixels = entry.pixels
            assert pixels is not None
            size = pixels[0].nbytes + pixels[1].nbytes
            if size <= cache_bytes:
                cache_bytes -= size
            else:
                entry = dataclasses.replace(entry, pixels=None)
            checked.append(entry)
            progress.advance(bar)
    return checked


def _check_in_threads(pairs: Sequence[Pair]) -> Iterator[CheckedPair]:
    threads = min(8, os.cpu_count() or 1)
    # In portions: a pool decodes as fast as it can, and results that nobody has taken yet fill the memory.
    portion = 16 * threads
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pairs), portion):
            yield from pool.map(_check, pairs[start : start + portion])


def _check(pair: Pair) -> CheckedPair:
    image, mask = read_image(pair.image), read_mask(pair.mask)
    if image.shape[:2] != mask.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (image.shape, mask.shape)]
        raise InputError(f"{pair.image} is {sizes[0]} but {pair.mask} is {sizes[1]} pixels; they must be equal")
    return CheckedPair(pair, mask.shape[0], mask.shape[1], highest_label(mask), digest_of(image, mask), (image, mask))
