"""TIFF: what its tags say, and images of any number of bands, as satellites and multiplexed microscopes write them."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from common.errors import InputError
from common.extras import from_extra

EXTRA = "bands"
ORIENTATION = ExifTags.Base.Orientation
WIDTH, BITS, BANDS, PLANES, EXTRA_SAMPLES, KIND = 256, 258, 277, 284, 338, 339
"""Numbers of tags."""

MOST = 256
"""Bands of an image."""

_KINDS = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_PHOTOMETRIC = ("MINISBLACK", "RGB")


def tags_of(content: bytes) -> Any:
    """The first directory of a TIFF that Pillow has no decoder for; ``None`` where there is none."""
    if content[:4] not in (b"II*\0", b"MM\0*"):
        return None
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
        file = io.BytesIO(content)
        file.seek(directory.next)
        directory.load(file)
        return directory if directory.get(WIDTH) else None
    except Exception:
        return None


def not_read(tags: Any) -> str:
    """What to say of a single band of numbers that are not read."""
    bits, kinds = tuple(tags.get(BITS, (1,))), tuple(tags.get(KIND, (1,)))
    number = {1: "whole numbers", 2: "signed numbers", 3: "floating-point numbers"}.get(
        int((kinds or (1,))[0]), "numbers"
    )
    depth = "/".join(dict.fromkeys(str(one) for one in bits))
    return (
        f"is a TIFF of one band of {depth}-bit {number}, which is not read; save it with 8 or 16 bits, or as"
        " floating-point numbers"
    )


def is_of_bands(path: Path, image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether these are bands that Pillow and OpenCV cannot keep.

    Raises:
        InputError: a single band of numbers that are not read.
    """
    tags: Any = image.tag_v2
    bits, bands, kinds = tuple(tags.get(BITS, (1,))), int(tags.get(BANDS, 1)), tuple(tags.get(KIND, (1,)))
    extra = tuple(tags.get(EXTRA_SAMPLES, ()))
    colours = bands - len(extra)
    is_alpha = len(extra) == 1 and extra[0] in (1, 2)
    deep = set(bits) == {16}
    fits = bands == 1 or (set(kinds) == {1} and set(bits) <= {8, 16} and len(set(bits)) == 1 and colours in (1, 3, 4))
    if extra and not (is_alpha and colours in (1, 3)):
        fits = False
    if deep and bands > 1 and (colours != 3 or tags.get(PLANES, 1) != 1 or image.getexif().get(ORIENTATION, 1) != 1):
        fits = False
    if bands == 1 and set(kinds) == {2} and set(bits) == {8}:
        fits = False  # −1 would become 255
    if not fits and bands == 1:
        raise InputError(f"{path} {not_read(tags)}")
    return not fits


def read_bands(path: Path, content: bytes) -> NDArray[Any]:
    """The bands of the only picture of a TIFF, as stored and without alpha: ``[H, W, bands]``.

    Args:
        path: Of the file, for messages.
        content: What it holds.

    Raises:
        InputError: a layout that is not read, a truncated file, or a library that is missing.
    """
    tifffile = from_extra("tifffile", EXTRA, f"{path} has more bands than three, which needs")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it logs is said below, in one line
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            _check(path, file.pages, len(content))
            pixels: NDArray[Any] = file.pages[0].asarray()
            planes_first = file.pages[0].planarconfig == 2
            has_alpha = len(file.pages[0].extrasamples) == 1 and file.pages[0].extrasamples[0] in (1, 2)
    except InputError:
        raise
    except Exception as error:  # its decoders raise what they like
        reason = " ".join(str(error).split())
        if "imagecodecs" in reason:
            raise InputError(f"{path} is compressed in a way that needs a package: pip install imagecodecs") from error
        raise InputError(f"{path} cannot be read ({reason}); it may be truncated: replace or remove it") from error
    if pixels.ndim != 3:
        raise InputError(f"{path} cannot be read (its tags contradict each other); replace or remove it")
    pixels = pixels.transpose(1, 2, 0) if planes_first else pixels
    return np.ascontiguousarray(pixels[:, :, :-1] if has_alpha else pixels)


def _check(path: Path, pages: Any, length: int) -> None:
    page = pages[0]
    if len(pages) > 1:
        raise InputError(f"{path} holds {len(pages)} pictures; save the one that is meant as a file of its own")
    name = "none" if page.dtype is None else page.dtype.name
    if name not in _KINDS or page.photometric.name not in _PHOTOMETRIC or page.samplesperpixel > MOST:
        raise InputError(
            f"{path} is a TIFF of {page.samplesperpixel} bands of {page.bitspersample}-bit numbers"
            f" ({page.photometric.name.lower()}), which is not read; save up to {MOST} bands of {', '.join(_KINDS)}"
        )
    if page.imagewidth * page.imagelength > 2 * (Image.MAX_IMAGE_PIXELS or 2**27):
        raise InputError(f"{path} is too large to be decoded; cut it into pieces")
    # Missing pieces would be read as zeros.
    if any(start + size > length for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise InputError(
            f"{path} cannot be read (it ends before its pixels); it may be truncated: replace or remove it"
        )
