"""Files as cameras, microscopes and annotation tools write them, and what a person would read in each.

Depths, bands and orientations that Pillow cannot write are written byte by byte, so that what is expected never comes
from the decoder that is tested.
"""

import dataclasses
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp", ".gif", ".TIFF", ".jpeg")
ORIENTATION = 274

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class OddFile:
    """A file's bytes.

    Attributes:
        name: What it is.
        content: Its bytes.
        image: What it is as an image, ``None`` where it must be refused.
        mask: What it is as a mask.
        tolerance: How far the image may be off, for lossy formats.
    """

    name: str
    content: bytes
    image: Array | None
    mask: Array | None
    tolerance: int = 0


def upright(pixels: Array, orientation: int) -> Array:
    """By the words of the EXIF standard: where row 0 and column 0 of the file are to be seen."""
    turned = {
        1: lambda: pixels,
        2: lambda: np.fliplr(pixels),
        3: lambda: np.rot90(pixels, 2),
        4: lambda: np.flipud(pixels),
        5: lambda: np.fliplr(np.rot90(pixels, -1)),
        6: lambda: np.rot90(pixels, -1),
        7: lambda: np.flipud(np.rot90(pixels, -1)),
        8: lambda: np.rot90(pixels, 1),
    }
    result: Array = np.ascontiguousarray(turned[orientation]())
    return result


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(samples: Array, depth: int, colour_type: int, orientation: int = 1, palette: Array | None = None) -> bytes:
    """A PNG of ``samples [H, W, C]``."""
    height, width, _ = samples.shape
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    elif depth == 8:
        rows = [row.astype(np.uint8).tobytes() for row in samples]
    else:
        bits = (samples[:, :, :1] >> np.arange(depth)[::-1]) & 1
        rows = [np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits]
    content = b"\x89PNG\r\n\x1a\n" + _chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    )
    if orientation != 1:
        content += _chunk(b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, ORIENTATION, 3, 1, orientation, 0, 0))
    if palette is not None:
        content += _chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    return content + _chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + _chunk(b"IEND", b"")


def tiff(
    samples: Array, planar: bool = False, extra: Sequence[int] = (), orientation: int = 1, rgb: bool | None = None
) -> bytes:
    """An uncompressed little-endian TIFF of ``samples [H, W, C]``, ``extra`` of them beside the colours."""
    height, width, bands = samples.shape
    kind, bits = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind], samples.dtype.itemsize * 8
    data = (np.moveaxis(samples, 2, 0) if planar else samples).astype(samples.dtype.newbyteorder("<")).tobytes()
    strips = bands if planar else 1
    is_rgb = bands - len(extra) == 3 if rgb is None else rgb
    entries: list[tuple[int, str, list[int]]] = [
        *((256, "I", [width]), (257, "I", [height]), (258, "H", [bits] * bands), (259, "H", [1])),
        *((262, "H", [2 if is_rgb else 1]), (273, "I", [0] * strips), (274, "H", [orientation]), (277, "H", [bands])),
        *((278, "I", [height]), (279, "I", [len(data) // strips] * strips), (284, "H", [1 + planar])),
        *([(338, "H", list(extra))] if extra else []),
        (339, "H", [kind] * bands),
    ]
    sizes = [struct.calcsize(f"<{len(values)}{form}") for _, form, values in entries]
    place = 8 + 2 + 12 * len(entries) + 4
    start = place + sum(size for size in sizes if size > 4)
    listed, beside = b"", b""
    for (tag, form, values), size in zip(entries, sizes, strict=True):
        if tag == 273:
            values = [start + number * (len(data) // strips) for number in range(strips)]
        packed = struct.pack(f"<{len(values)}{form}", *values)
        code = {"H": 3, "I": 4}[form]
        if size <= 4:
            listed += struct.pack("<HHI", tag, code, len(values)) + packed.ljust(4, b"\0")
        else:
            listed += struct.pack("<HHII", tag, code, len(values), place + len(beside))
            beside += packed
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + struct.pack("<I", 0) + beside + data


def saved(pixels: Array, form: str, mode: str | None = None, orientation: int = 1, **options: Any) -> bytes:
    """As Pillow writes it."""
    image = Image.fromarray(pixels)
    if mode is not None:
        image = image.convert(mode)
    if orientation != 1:
        options["exif"] = image.getexif()
        options["exif"][ORIENTATION] = orientation
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _eighth(pixels: Array) -> Array:
    result: Array = np.rint(pixels / 65535 * 255).astype(np.uint8)
    return result


def _as_mask(colours: Array, alpha: Array | None = None) -> Array | None:
    """Grey in three channels is a mask, if nothing of it is transparent."""
    opaque = alpha is None or bool((alpha == np.iinfo(alpha.dtype).max).all())
    grey = colours[:, :, 0]
    if not opaque or not (colours == grey[:, :, None]).all() or grey.max() > 255:
        return None
    return grey.astype(np.uint8)


def _pngs(rng: np.random.Generator, height: int, width: int, orientation: int) -> list[OddFile]:
    files = []
    for depth in (1, 2, 4, 8, 16):
        top = 2**depth
        grey = rng.integers(0, top, (height, width, 1), dtype=np.int64).astype(np.uint16)
        seen = upright(grey[:, :, 0], orientation)
        image = _eighth(seen) if depth == 16 else (seen * (255 // (top - 1))).astype(np.uint8)
        mask = seen.astype(np.uint8) if seen.max() <= 255 else None
        files.append(OddFile(f"PNG grey {depth}", png(grey, depth, 0, orientation), image, mask))
        if depth <= 8:
            palette = rng.integers(0, 256, (top, 3), dtype=np.uint8)
            content = png(grey, depth, 3, orientation, palette)
            files.append(OddFile(f"PNG palette {depth}", content, palette[seen], seen.astype(np.uint8)))
    small = rng.integers(0, 200, (height, width, 1)).astype(np.uint16)
    seen = upright(small[:, :, 0], orientation)
    files.append(OddFile("PNG labels of 16 bits", png(small, 16, 0, orientation), _eighth(seen), seen.astype(np.uint8)))
    for depth, colour_type in ((8, 2), (8, 4), (8, 6), (16, 2), (16, 4), (16, 6)):
        bands = {2: 3, 4: 2, 6: 4}[colour_type]
        kind = np.uint8 if depth == 8 else np.uint16
        whole = rng.integers(0, 2**depth, (height, width, bands), dtype=np.int64).astype(kind)
        if rng.random() < 0.5:
            whole[:, :, 1:3] = whole[:, :, :1]  # grey, in colours
            whole[:, :, bands - 1] = 2**depth - 1 if bands in (2, 4) else whole[:, :, 0]
        seen = upright(whole, orientation)
        colours = seen[:, :, : 1 if bands == 2 else 3]
        image = colours if depth == 8 else _eighth(colours)
        alpha = seen[:, :, -1] if bands in (2, 4) else None
        content = png(whole, depth, colour_type, orientation)
        files.append(
            OddFile(
                f"PNG {'LA' if bands == 2 else 'RGBA'[:bands]} {depth}",
                content,
                image[:, :, 0] if bands == 2 and depth == 8 else np.repeat(image, 3, 2) if bands == 2 else image,
                _as_mask(np.repeat(colours, 3, 2) if bands == 2 else colours, alpha),
            )
        )
    return files


def _tiffs(rng: np.random.Generator, height: int, width: int, orientation: int) -> list[OddFile]:
    files = []
    for kind in (np.uint8, np.uint16, np.int8, np.int16, np.uint32, np.int32, np.float16, np.float32, np.float64):
        for bands in (1, 2, 3, 4, 5):
            planar = bands > 1 and bool(rng.random() < 0.5)
            extra = [0] * ({1: 0, 2: 1, 3: 0}.get(bands, bands - 3))
            if bands == 4 and rng.random() < 0.5:
                extra = [2]  # alpha
            whole = rng.integers(0, 100, (height, width, bands)).astype(kind)
            if kind == np.uint16:
                whole = whole * 600
            floats = np.dtype(kind).kind == "f"
            if floats:
                whole = (rng.random((height, width, bands))).astype(kind)
            seen = upright(whole, orientation)
            image = mask = None
            if kind == np.uint8 and (bands in (1, 3) or extra == [2]):
                colours = seen[:, :, :3]
                image = seen[:, :, 0] if bands == 1 else colours
                mask = image if bands == 1 else _as_mask(colours, seen[:, :, 3] if bands == 4 else None)
            elif kind == np.uint16 and bands == 1:
                image, mask = _eighth(seen[:, :, 0]), None
            elif bands > 1 and kind in (np.uint8, np.uint16, np.float32, np.float64):
                shown = seen[:, :, :3] if extra == [2] else seen
                image = np.rint(shown.astype(np.float64) * 255).astype(np.uint8) if floats else shown
                image = _eighth(shown) if kind == np.uint16 else image
            elif kind in (np.int16, np.int32, np.uint32) and bands == 1:
                mask = seen[:, :, 0].astype(np.uint8)
            elif kind == np.float32 and bands == 1:
                image = np.rint(seen[:, :, 0].astype(np.float64) * 255).astype(np.uint8)
            name = f"TIFF {np.dtype(kind).name} x{bands}{' planar' if planar else ''} {extra}"
            files.append(OddFile(name, tiff(whole, planar, extra, orientation), image, mask))
    labels = rng.integers(0, 5, (height, width, 1)).astype(np.float32)
    files.append(OddFile("TIFF float labels", tiff(labels), None, labels[:, :, 0].astype(np.uint8)))
    labels[0, 0] = np.nan
    files.append(OddFile("TIFF NaN", tiff(labels), None, None))
    return files


def _saved(rng: np.random.Generator, height: int, width: int, orientation: int) -> list[OddFile]:
    smooth = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    grey, bits = noise[:, :, 0], noise[:, :, 0] > 128
    seen, turned = upright(smooth, orientation), upright(noise, orientation)
    pages = [Image.fromarray(np.roll(noise, shift, 0)) for shift in (1, 2)]
    files = [
        OddFile("JPEG grey", saved(smooth, "JPEG", orientation=orientation, quality=95), seen, None, 12),
        OddFile(
            "JPEG CMYK", saved(np.dstack([smooth] * 3), "JPEG", "CMYK", quality=95), np.dstack([smooth] * 3), None, 12
        ),
        OddFile("TIFF JPEG", saved(smooth, "TIFF", compression="jpeg"), smooth, None, 20),
        OddFile(
            "TIFF CMYK", saved(noise, "TIFF", "CMYK"), noise, None if (noise != noise[:, :, :1]).any() else grey, 1
        ),
        OddFile("WebP lossy", saved(np.dstack([smooth] * 3), "WEBP", quality=95), np.dstack([smooth] * 3), None, 12),
        OddFile(
            "WebP", saved(noise, "WEBP", orientation=orientation, lossless=True, exact=True), turned, _as_mask(turned)
        ),
        OddFile("BMP 24", saved(noise, "BMP"), noise, _as_mask(noise)),
        OddFile("BMP 8", saved(grey, "BMP"), grey, grey),
        OddFile("BMP 1", saved(bits, "BMP"), np.where(bits, 255, 0), bits),
        OddFile("GIF", saved(grey, "GIF", "P", optimize=False), np.dstack([grey] * 3), grey),
        OddFile("TIFF LZW", saved(noise, "TIFF", compression="tiff_lzw"), noise, _as_mask(noise)),
        OddFile("TIFF 1", saved(bits, "TIFF", compression="group4"), np.where(bits, 255, 0), bits),
    ]
    for form in ("TIFF", "GIF", "PNG", "WEBP"):
        content = saved(noise, form, save_all=True, append_images=pages)
        files.append(OddFile(f"{form} of several pictures", content, None, None))
    return files


def odd_files(seed: int) -> list[OddFile]:
    """One file of every kind, of a size and an orientation drawn by ``seed``."""
    rng = np.random.default_rng([29, seed])
    height, width = (int(side) for side in rng.integers(5, 24, 2))
    orientation = int(rng.integers(1, 9))
    if rng.random() < 0.5:
        width = height  # nothing but the orientation tells how it lies
    return [
        *_pngs(rng, height, width, orientation),
        *_tiffs(rng, height, width, orientation),
        *_saved(rng, height, width, orientation),
    ]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """With some bytes changed, cut off, doubled or put in."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(len(changed))) if changed else 0
        kind = rng.integers(5)
        if kind == 0:
            changed[place : place + 1] = bytes(rng.integers(0, 256, 1, dtype=np.uint8))
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            changed[place:place] = changed[place : place + 20]
        elif kind == 3:
            changed[place : place + 4] = bytes(rng.integers(0, 256, 4, dtype=np.uint8))
        else:
            early = int(rng.integers(min(64, len(changed) or 1)))
            changed[early : early + 1] = bytes(rng.integers(0, 256, 1, dtype=np.uint8))
    return bytes(changed)


def faults(file: OddFile, image: Array | str, mask: Array | str) -> list[str]:
    """Where what was read, or the words of a refusal, are not what is expected."""
    found = []
    for what, read, expected in (("image", image, file.image), ("mask", mask, file.mask)):
        if isinstance(read, str):
            if expected is not None:
                found.append(f"{file.name}: {what} refused: {read}")
            elif "\n" in read:
                found.append(f"{file.name}: {what} refused in several lines")
            continue
        if expected is None:
            found.append(f"{file.name}: {what} read, not refused")
            continue
        if what == "image" and read.ndim == 2 < expected.ndim:  # grey, as one channel
            read = np.repeat(read[:, :, None], 3, axis=2)
        if read.dtype != np.uint8 or read.shape != expected.shape:
            found.append(f"{file.name}: {what} is {read.dtype}{read.shape}, not {expected.shape}")
        elif np.abs(read.astype(int) - expected.astype(int)).max() > (file.tolerance if what == "image" else 0):
            found.append(f"{file.name}: {what} has other values")
    return found
