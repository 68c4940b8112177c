"""One domain's folder: its images and masks, paired by name and checked to the last byte."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from common.errors import InputError
from kdseg.domains.decode import SUFFIXES
from kdseg.domains.digests import Digest, digest_of
from kdseg.domains.images import Image, ValueRange, as_colours, read_image
from kdseg.domains.masks import LabelMap, Mask, read_mask
from kdseg.domains.sample import DomainData, Item

Pixels = tuple[NDArray[np.uint8], NDArray[np.uint8]]

_PROGRESS_FROM = 200  # files; below that it is over before it could be read
_NAMES_SHOWN = 3

UNLABELLED = "unlabelled"
"""Name of a domain's folder of images without masks."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files become arrays.

    Attributes:
        value_range: See :func:`~kdseg.domains.images.read_image`.
        label_map: See :func:`~kdseg.domains.masks.read_mask`.
    """

    value_range: ValueRange | None = None
    label_map: LabelMap | None = None

    def __call__(self, pair: "Pair") -> Pixels:
        """Image ``uint8 [H, W]`` or ``[H, W, 3]`` and mask ``uint8 [H, W]``."""
        image, mask = self.files(pair)
        return image.pixels, mask.labels

    def files(self, pair: "Pair") -> tuple[Image, Mask]:
        """The same with what they were; where there is no mask, zeros."""
        image = read_image(pair.image, self.value_range)
        if pair.mask is None:
            return image, Mask(np.zeros(image.pixels.shape[:2], np.uint8), "none")
        return image, read_mask(pair.mask, self.label_map)


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask on disk, if it has one."""

    domain: str
    name: str
    image: Path
    mask: Path | None


@dataclasses.dataclass(frozen=True)
class CheckedPair:
    """A pair that was decoded once.

    Attributes:
        pair: Where it lies.
        height: Pixels.
        width: Pixels.
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
        self.labelled = all(entry.pair.mask is not None for entry in checked)

    def read(self, position: int) -> Pixels:
        """See :meth:`DomainData.read`."""
        entry = self.checked[position]
        image, mask = entry.pixels or self.reading(entry.pair)
        return as_colours(image), mask

    def digest(self, position: int) -> Digest:
        """See :meth:`DomainData.digest`; as of construction."""
        return self.checked[position].digest


@dataclasses.dataclass(frozen=True)
class Found:
    """What a domain's folder holds.

    Attributes:
        pairs: Sorted by name.
        passed_over: What is no image or mask, a line for each reason.
        unlabelled: Images without masks, sorted by name.
    """

    pairs: Sequence[Pair]
    passed_over: Sequence[str]
    unlabelled: Sequence[Pair] = ()


def find_pairs(root: Path, domain: str, mask_folder: str = "masks", unlabelled: bool = False) -> Found:
    """List ``root/domain/images/*`` with ``root/domain/<mask_folder>/*``, matched by name without suffix.

    Args:
        root: Folder of domain folders.
        domain: Name of one.
        mask_folder: Name of the folder with the masks.
        unlabelled: Whether images may lack a mask, and those of ``root/domain/unlabelled`` are listed too.

    Raises:
        InputError: if a folder is missing or empty, an image has no mask or a mask no image, or a name
            occurs twice.
    """
    passed_over: list[str] = []
    images = _files(root / domain / "images", "image", passed_over)
    masks = _files(root / domain / mask_folder, "mask", passed_over)
    bare = {}
    if unlabelled:
        bare = {name: images.pop(name) for name in images.keys() - masks.keys()}
        bare |= _beside(root / domain / UNLABELLED, {**images, **bare}, passed_over)
    for found, others, missing in ((images, masks, "mask"), (masks, images, "image")):
        if alone := sorted(found.keys() - others.keys()):
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            folder = root / domain / ("images" if missing == "image" else mask_folder)
            raise InputError(
                f"{found[alone[0]]} has no {missing} of that name in {folder}{more}; add it or remove this file"
                + ("" if missing == "image" else ", or set data.unlabelled=true to learn from it without one")
            )
    pairs = [Pair(domain, name, images[name], masks[name]) for name in sorted(images)]
    return Found(pairs, passed_over, [Pair(domain, name, bare[name], None) for name in sorted(bare)])


def _beside(folder: Path, known: Mapping[str, Path], passed_over: list[str]) -> dict[str, Path]:
    """Images of a folder that need not be there, whose names are not among those known."""
    if not folder.is_dir():
        return {}
    found = _files(folder, "image", passed_over)
    if twice := sorted(found.keys() & known.keys()):
        raise InputError(f"{found[twice[0]]} and {known[twice[0]]} have the same name; keep one of them")
    return found


def _files(folder: Path, what: str, passed_over: list[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; a domain needs <root>/<domain>/images and its masks beside it")
    found: dict[str, Path] = {}
    others: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if reason := _passed_over(path):
            others.setdefault(reason, []).append(path.name)
        elif path.stem in found:
            raise InputError(f"{path} and {found[path.stem].name} have the same name; keep one of them")
        else:
            found[path.stem] = path
    listed = [f"{len(names)} {reason} ({_named(names)})" for reason, names in others.items()]
    if not found:
        held = f"; it has {', '.join(listed)}" if listed else ""
        raise InputError(f"{folder} holds no {what}{held}; put files there that end in: {', '.join(SUFFIXES)}")
    passed_over += [f"{folder.name}: {line}" for line in listed]
    return found


def _passed_over(path: Path) -> str | None:
    """Why this is no image and no mask."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        return "folders"
    if path.is_symlink() and not path.exists():
        return "broken links"
    if not path.is_file():
        return "neither files nor folders"
    return None if path.suffix.lower() in SUFFIXES else "of another type"


def _named(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMES_SHOWN} more"] if len(names) > _NAMES_SHOWN else []
    return ", ".join([*names[:_NAMES_SHOWN], *more])


def check_pairs(pairs: Sequence[Pair], cache_bytes: int, reading: Reading) -> list[CheckedPair]:
    """Decode every image and mask once, several at a time; show a progress bar if there are many.

    Args:
        pairs: What to check.
        cache_bytes: Keep decoded pixels in memory until this much is taken.
        reading: How files become arrays.

    Raises:
        InputError: if a file cannot be used, or an image and its mask differ in size.
    """
    checked = []
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
        labels=np.zeros(256, np.int64) if pair.mask is None else np.bincount(pixels[1].ravel(), minlength=256),
        digest=digest_of(*pixels),
        image_kind=image.kind,
        mask_kind=mask.kind,
        brightest=image.brightest,
        clipped=image.clipped,
        pixels=pixels,
    )
