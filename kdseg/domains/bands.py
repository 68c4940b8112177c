"""TIFF images of any number of bands, such as satellites and multiplexed microscopes write them."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.errors import InputError
from common.extras import from_extra

EXTRA = "bands"
MOST = 256
"""Bands of an image."""

_KINDS = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_PHOTOMETRIC = ("MINISBLACK", "RGB")


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
