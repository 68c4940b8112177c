"""Images of any depth as the 8-bit colours that networks are trained on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.arguments import Number
from common.errors import InputError
from kdseg.domains.decode import Decoded, decode

ValueRange = tuple[Number, Number]
"""What becomes black and what becomes white."""

_FULL = 2**16 - 1


@dataclasses.dataclass(frozen=True)
class Image:
    """An image as it is trained on, and what it was.

    Attributes:
        pixels: ``uint8 [H, W]`` if the file is grey, else ``uint8 [H, W, 3]``, RGB, or ``uint8 [H, W, bands]``.
        kind: What the file was, for people.
        brightest: Its highest value, where a range of more than 8 bits was taken whole.
        clipped: Share of values that lie outside the range that was given.
    """

    pixels: NDArray[np.uint8]
    kind: str
    brightest: int | None = None
    clipped: float = 0.0


def read_image(path: Path, value_range: ValueRange | None = None) -> Image:
    """Read an image: upright as its EXIF orientation says, with 8 bits a channel, and without alpha.

    Args:
        path: The file; what it is decides, not its name.
        value_range: What becomes 0 and 255 of files with more than 8 bits a channel. ``None`` takes [0, 65535] for 16
            bits and [0, 1] for floating-point numbers.

    Raises:
        InputError: it cannot be decoded to its end, or its values have no range.
    """
    decoded = decode(path)
    pixels = decoded.pixels
    if decoded.palette is not None:
        return Image(decoded.palette[pixels], decoded.kind)
    if pixels.dtype == bool:
        return Image(np.where(pixels, 255, 0).astype(np.uint8), decoded.kind)
    if pixels.dtype == np.uint8:
        return Image(pixels, decoded.kind)
    return _scaled(path, decoded, value_range)


def as_colours(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``uint8 [H, W, 3]`` of the pixels of an image, grey or not; other bands as they are."""
    # Every image of every batch comes by here: numpy's repeat takes 25 times as long.
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels  # type: ignore[return-value]


def to_be_seen(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``uint8 [H, W, 3]`` of an image ``[H, W, bands]``: its first three bands, or the first one as grey."""
    return pixels[:, :, :3] if pixels.shape[2] >= 3 else as_colours(pixels[:, :, 0])


def _scaled(path: Path, decoded: Decoded, value_range: ValueRange | None) -> Image:
    pixels, brightest = decoded.pixels, None
    if not np.isfinite(pixels).all():
        raise InputError(f"{path} holds values that are not finite; replace them, or the file")
    if value_range is None:
        value_range = _whole_range(path, pixels)
        brightest = int(pixels.max()) if pixels.dtype == np.uint16 else None
    low, high = value_range
    fractions = (pixels.astype(np.float64) - low) / (high - low)
    clipped = float(np.mean((fractions < 0) | (fractions > 1)))
    scaled = np.rint(np.clip(fractions, 0, 1) * 255).astype(np.uint8)
    return Image(scaled, f"{decoded.kind}, [{low:g}, {high:g}] as 8 bits", brightest, clipped)


def _whole_range(path: Path, pixels: NDArray[Any]) -> ValueRange:
    if pixels.dtype == np.uint16:
        return 0, _FULL
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return 0, 1
    what = "floating-point numbers" if pixels.dtype.kind == "f" else "numbers of more than 16 bits"
    raise InputError(
        f"{path} holds {what} from {low:g} to {high:g}; say which is black and which is white, such as"
        f" data.value_range=[{low:g},{high:g}] (one range for all images)"
    )


def checked_range(value_range: ValueRange | None) -> ValueRange | None:
    """The range itself.

    Raises:
        InputError: it is empty.
    """
    if value_range is not None and not value_range[0] < value_range[1]:
        raise InputError(f"value_range={list(value_range)} must be what is black, then what is white, as two numbers")
    return value_range


def check_brightness(domain: str, brightest: Sequence[int | None], clipped: Sequence[float]) -> str | None:
    """Raise where the images of a domain would be nearly black; or say that a range cuts much off.

    Args:
        domain: Its name.
        brightest: Of every image, see :class:`Image`.
        clipped: As above.

    Raises:
        InputError: with the range to give.
    """
    highest = max((one for one in brightest if one is not None), default=_FULL)
    if highest <= _FULL // 8:
        white = 2 ** max(highest, 1).bit_length() - 1
        raise InputError(
            f"domain {domain!r}: the values of its 16-bit images end at {highest} of {_FULL}, so they would be nearly"
            f" black; give data.value_range=[0,{white}] (or [0,{_FULL}] if they are)"
        )
    if clipped and (share := float(np.mean(clipped))) > 0.05:
        return f"{domain}: {100 * share:.0f} % of the values lie outside data.value_range and are cut off"
    return None
