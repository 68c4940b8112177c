"""From a file to the numbers that it holds, by what it is: format, depth, bands, orientation, pictures; not its name.

Decoders are silent about much. Pillow cuts 16-bit colours to their upper or lower byte, drops bands that it has no mode
for and stretches grey values of 2 and 4 bits; OpenCV forgets palettes. So each layout goes to the decoder that keeps
it whole, and a layout that neither does is refused.
"""

import dataclasses
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from common.errors import InputError
from common.text import shown
from kdseg.domains.tiff import BANDS, BITS, ORIENTATION, is_of_bands, not_read, read_bands, tags_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")
"""Files that are looked into; what is in them is another question."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, struct.error, zlib.error)
_TOO_LARGE = (Image.DecompressionBombError, MemoryError, OverflowError)
# What Pillow multiplies grey values of few bits by.
_STRETCHED = {"L;2": 85, "L;4": 17}


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What a file holds.

    Attributes:
        pixels: ``[H, W]``, ``[H, W, 3]`` (RGB) or of other bands ``[H, W, bands]``, as stored, upright: ``bool``,
            ``uint8``, ``uint16``, ``int32`` or floating point, of bands other integers too; palette indices where there
            is a palette.
        palette: ``uint8 [256, 3]``, the colours of the indices.
        alpha: ``[H, W]``, where there is such a channel or a transparent colour.
        stretch: What the stored grey values, of 2 or 4 bits, were multiplied by; 1 for all others.
        lossy: Whether compression has changed values.
        kind: What it was, for people: ``PNG, 8-bit RGB``.
    """

    pixels: NDArray[Any]
    palette: NDArray[np.uint8] | None
    alpha: NDArray[Any] | None
    stretch: int
    lossy: bool
    kind: str


def decode(path: Path) -> Decoded:
    """Read a file.

    Raises:
        InputError: it cannot be decoded to its end, holds several pictures, or is laid out in a way that no decoder
            here keeps whole.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    try:
        # Two looks are needed: verify() finds a PNG that misses its last chunks, which decoding forgives;
        # decoding finds truncated JPEGs and BMPs, which verify() does not look into.
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_single(path, image)
            if isinstance(image, TiffImagePlugin.TiffImageFile) and is_of_bands(path, image):
                return _of_bands(path, content, image.getexif().get(ORIENTATION, 1))
            image.verify()
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return _decoded(path, image, content)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        if tags := tags_of(content):
            if int(tags.get(BANDS, 1)) > 1:
                return _of_bands(path, content, int(tags.get(ORIENTATION, 1)))
            raise InputError(f"{path} {not_read(tags)}") from error
        raise InputError(f"{path} {_unknown(content)}") from error
    except _TOO_LARGE as error:
        raise InputError(
            f"{path} is too large to be decoded ({shown(str(error))[1:-1]}); cut it into pieces"
        ) from error
    except _BROKEN as error:
        reason = shown(" ".join(str(error).split()))[1:-1]
        raise InputError(f"{path} cannot be read ({reason}); it may be truncated: replace or remove it") from error


def _decoded(path: Path, image: Image.Image, content: bytes) -> Decoded:
    raw = _raw_mode(image)
    compression = str(image.info.get("compression", ""))
    orientation = image.getexif().get(ORIENTATION, 1)
    is_wide_colour = ";16" in raw and image.mode not in ("I;16", "I;16B", "I;16L", "I")
    depth = _depth(image, raw)
    image.load()
    transparency = image.info.get("transparency")
    palette = alpha = None
    if is_wide_colour:
        pixels, alpha = _wide_colour(path, content, image.size)
    elif image.mode in ("P", "PA"):
        given = (image.getpalette("RGB") or [])[: 3 * 256]
        palette = np.array(given + [0] * (3 * 256 - len(given)), np.uint8).reshape(256, 3)
        if image.mode == "PA" or transparency is not None:
            alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
        pixels = np.asarray(image.getchannel("P") if image.mode == "PA" else image)
    elif image.mode in ("1", "L", "I;16", "I;16B", "I;16L", "I", "F", "RGB"):
        pixels = np.asarray(image)
        if transparency is not None:
            alpha = np.asarray(image.convert("RGBA"))[:, :, 3] if image.mode in ("1", "L", "RGB") else None
    elif image.mode in ("LA", "La", "RGBA", "RGBa"):
        whole = np.asarray(image.convert("RGBA") if image.mode in ("La", "RGBa") else image)
        pixels, alpha = (whole[:, :, 0] if image.mode == "LA" else whole[:, :, :3]), whole[:, :, -1]
    elif image.mode in ("CMYK", "YCbCr", "RGBX"):
        pixels = np.asarray(image.convert("RGB"))
    else:
        raise InputError(f"{path}: pictures of mode {image.mode} are not read; save it as RGB or grey")
    turn = 1 if image.format == "TIFF" else orientation  # Pillow turns TIFF alone
    colours = "palette" if palette is not None else "grey" if pixels.ndim == 2 else "RGB"
    number = " floating point" if pixels.dtype.kind == "f" else ""
    kind = f"{image.format}, {depth}-bit {colours}{number}{'' if alpha is None else ' with alpha'}"
    if orientation in range(2, 9):
        kind += f", turned as its EXIF orientation ({orientation}) says"
    if image.format == "MPO" and getattr(image, "n_frames", 1) > 1:
        kind += f", first of {image.n_frames} pictures"  # type: ignore[attr-defined]
    lossy = image.format in ("JPEG", "MPO") or "jpeg" in compression or "webp" in compression or _is_vp8(content)
    return Decoded(
        _upright(pixels, turn),
        palette,
        None if alpha is None else _upright(alpha, turn),
        next((factor for start, factor in _STRETCHED.items() if raw.startswith(start)), 1),
        lossy,
        kind,
    )


def _of_bands(path: Path, content: bytes, orientation: int) -> Decoded:
    pixels = read_bands(path, content)
    pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    number = " floating point" if pixels.dtype.kind == "f" else ""
    colours = "grey" if pixels.ndim == 2 else "RGB" if pixels.shape[2] == 3 else f"{pixels.shape[2]} bands"
    kind = f"TIFF, {8 * pixels.dtype.itemsize}-bit {colours}{number}"
    return Decoded(_upright(pixels, orientation), None, None, 1, False, kind)


def _raw_mode(image: Image.Image) -> str:
    """How the samples lie in the file, as Pillow has it."""
    tile = getattr(image, "tile", [])
    if not tile:
        return ""
    arguments = tile[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _depth(image: Image.Image, raw: str) -> int:
    """Bits a sample."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2.get(BITS, (1,))[0])
    packed = raw.partition(";")[2][:1]
    if image.mode == "1":
        return 1
    if image.mode.startswith("I") or ";16" in raw:
        return 16
    return int(packed) if packed in ("1", "2", "4") and image.mode in ("L", "P") else 8


def _wide_colour(path: Path, content: bytes, size: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Colours, or grey with alpha, of 16 bits a channel."""
    whole = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if whole is None or whole.dtype != np.uint16 or whole.ndim != 3 or whole.shape[:2] != size[::-1]:
        raise InputError(f"{path} has 16 bits a channel in a form that is not read; save it as PNG")
    return np.ascontiguousarray(whole[:, :, 2::-1]), whole[:, :, 3] if whole.shape[2] == 4 else None


def _check_single(path: Path, image: Image.Image) -> None:
    """Refuse what decoders would read in part only.

    Raises:
        InputError: it holds several pictures.
    """
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":  # a camera's JPEG with a preview or a depth map behind it
        raise InputError(f"{path} holds {pictures} pictures; save the one that is meant as a file of its own")


def _unknown(content: bytes) -> str:
    """What to say of a file that there is no decoder for."""
    if content[:4] in (b"II*\0", b"MM\0*"):
        return "cannot be read (a broken TIFF); it may be truncated: replace or remove it"
    known = ", ".join(_FORMATS)
    return f"cannot be read (not an image that is known: {known}); it may be truncated: replace or remove it"


def _is_vp8(content: bytes) -> bool:
    """Whether this is a WebP with lossy colours."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return False
    position = 12
    while position + 8 <= len(content):
        name, size = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], "little")
        if name == b"VP8 ":
            return True
        position += 8 + size + size % 2
    return False


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turned and mirrored as EXIF's orientation says (1 to 8)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
