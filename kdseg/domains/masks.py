"""Masks as class indices: values or colours of a file, and what they stand for."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from common.arguments import Range
from common.errors import InputError
from common.text import shown
from kdseg.domains.decode import Decoded, decode
from kdseg.domains.images import as_colours
from kdseg.domains.sample import IGNORE

IGNORED = "ignore"
"""Name of what belongs to no class."""

_LARGEST = 2**16 - 1
MaskValue = Annotated[int, Range(0, _LARGEST)]
Digits = Annotated[int, Range(0, 999999)]
"""A colour of digits alone, which has become a number on its way here."""
_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """What the values of masks stand for.

    Attributes:
        option: Where it was given: ``mask_values`` or ``colour_map``.
        keys: ``int64 [K]``, sorted: values, or colours as 0xRRGGBB.
        classes: ``uint8 [K]``, the class of each.
        names: Of the classes.
    """

    option: str
    keys: NDArray[np.int64]
    classes: NDArray[np.uint8]
    names: Sequence[str]

    @property
    def of_colours(self) -> bool:
        """Whether the keys are colours."""
        return self.option == "colour_map"

    def said(self, key: int) -> str:
        """A key as it is written."""
        return f"{key:06x}" if self.of_colours else str(key)


@dataclasses.dataclass(frozen=True)
class Mask:
    """A mask as it is trained on, and what it was.

    Attributes:
        labels: ``uint8 [H, W]``, class indices; 255 is ignored.
        kind: What the file was, for people.
    """

    labels: NDArray[np.uint8]
    kind: str


def make_label_map(
    mask_values: Mapping[int, str] | None, colour_map: Mapping[Any, str] | None, class_names: Sequence[str] | None
) -> LabelMap | None:
    """The mapping that a configuration asks for.

    Args:
        mask_values: Value → name of its class, or ``ignore``.
        colour_map: Colour → the same.
        class_names: Names in the order of their indices; ``None`` takes them as they come in the mapping.

    Raises:
        InputError: both are given, a key is none, or a name is not among the classes.
    """
    if mask_values is not None and colour_map is not None:
        raise InputError("mask_values and colour_map are both given; give the one that the masks are written in")
    if mask_values is None and colour_map is None:
        return None
    option = "mask_values" if mask_values is not None else "colour_map"
    given = mask_values if mask_values is not None else colour_map
    assert given is not None
    keys = [_value(key) if option == "mask_values" else _colour(key) for key in given]
    if doubled := [key for key, one in zip(given, keys, strict=True) if keys.count(one) > 1]:
        raise InputError(f"{option} has {shown(doubled[0])} twice; keep one of them")
    named = list(dict.fromkeys(name for name in given.values() if name != IGNORED))
    if not named:
        example = "{0:background,255:nucleus}" if option == "mask_values" else "{000000:background,ff0000:nucleus}"
        raise InputError(f"{option}={dict(given)} names no class; write such as {example}, or leave it out")
    names = list(class_names) if class_names is not None else named
    for key, name in given.items():
        if name != IGNORED and name not in names:
            known = ", ".join([*names, IGNORED])
            raise InputError(f"{option} maps {shown(key)} to {shown(name)}, which is no class; use one of: {known}")
    classes = [IGNORE if name == IGNORED else names.index(name) for name in given.values()]
    order = np.argsort(keys)
    return LabelMap(option, np.array(keys, np.int64)[order], np.array(classes, np.uint8)[order], names)


def _value(key: int) -> int:
    if not 0 <= key <= _LARGEST:
        raise InputError(f"mask_values has {shown(key)}; values of masks are 0 to {_LARGEST}")
    return int(key)


def _colour(key: Any) -> int:
    """``"#ff0000"``, ``ff0000`` or ``255/0/0``; a colour of digits alone may have become a number on its way here."""
    text = f"{key:06d}" if isinstance(key, int) and not isinstance(key, bool) and 0 <= key <= 999999 else str(key)
    if found := re.fullmatch(r"#?([0-9a-fA-F]{6})", text):
        return int(found[1], 16)
    parts = re.fullmatch(r"(\d{1,3})[/,-](\d{1,3})[/,-](\d{1,3})", text)
    if parts and all(int(part) < 256 for part in parts.groups()):
        red, green, blue = (int(part) for part in parts.groups())
        return red << 16 | green << 8 | blue
    raise InputError(f"colour_map has {shown(key)}, which is no colour; write ff0000 or 255/0/0 for red")


def read_mask(path: Path, label_map: LabelMap | None = None) -> Mask:
    """Read a mask: upright as its EXIF orientation says.

    Without a mapping, its values (palette indices, if it has a palette) are class indices, and 255 is ignored.

    Raises:
        InputError: it cannot be decoded to its end, compression has changed values, it holds colours that no mapping
            tells classes by, or values that are no class.
    """
    decoded = decode(path)
    if decoded.lossy:
        raise InputError(
            f"{path} is compressed with loss ({decoded.kind}), which invents labels along every edge; export the masks"
            " anew as PNG"
        )
    values = _colours(path, decoded) if label_map is not None and label_map.of_colours else _values(path, decoded)
    if label_map is not None:
        return Mask(_mapped(path, values, label_map), decoded.kind)
    if values.dtype != np.uint8:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > IGNORE:
            raise InputError(
                f"{path} holds values from {low} to {high}; class indices are 0 to 254 and 255 is ignored: say what the"
                f" values stand for, such as data.mask_values={{0:background,{high}:nucleus}}"
            )
    return Mask(values.astype(np.uint8), decoded.kind)


def _values(path: Path, decoded: Decoded) -> NDArray[Any]:
    """One number a pixel."""
    pixels = decoded.pixels
    if pixels.ndim == 3:
        if pixels.shape[2] != 3:
            raise InputError(f"{path} has several bands ({decoded.kind}); a mask is one band of class indices")
        if not (pixels == pixels[:, :, :1]).all():
            raise InputError(
                f"{path} holds colours ({decoded.kind}); say which class each is, such as"
                " data.colour_map={000000:background,ff0000:nucleus}, or save class indices in one channel"
            )
        pixels = pixels[:, :, 0]
    if decoded.palette is None:
        _check_opaque(path, decoded)
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all() or (pixels != np.rint(pixels)).any() or np.abs(pixels).max() > _LARGEST:
            raise InputError(
                f"{path} holds numbers that are no whole ones ({decoded.kind}); a mask holds class indices"
            )
        return pixels.astype(np.int32)
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels // decoded.stretch


def _colours(path: Path, decoded: Decoded) -> NDArray[np.int64]:
    """0xRRGGBB a pixel."""
    pixels = decoded.pixels
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise InputError(f"{path} has several bands ({decoded.kind}); colour_map needs three")
    if decoded.palette is not None:
        pixels = decoded.palette[pixels]
    elif pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype != np.uint8:
        raise InputError(f"{path} has more than 8 bits a channel ({decoded.kind}); colour_map needs 8")
    _check_opaque(path, decoded)
    colours = as_colours(pixels)
    red, green, blue = (colours[:, :, channel].astype(np.int64) for channel in range(3))
    return red << 16 | green << 8 | blue


def _check_opaque(path: Path, decoded: Decoded) -> None:
    alpha = decoded.alpha
    if alpha is not None and (alpha != (255 if alpha.dtype == np.uint8 else _LARGEST)).any():
        raise InputError(f"{path} is transparent in places ({decoded.kind}); save it without transparency")


def _mapped(path: Path, values: NDArray[Any], label_map: LabelMap) -> NDArray[np.uint8]:
    positions = np.minimum(np.searchsorted(label_map.keys, values), len(label_map.keys) - 1)
    unknown = label_map.keys[positions] != values
    if unknown.any():
        found, counts = np.unique(values[unknown], return_counts=True)
        listed = ", ".join(label_map.said(int(value)) for value in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise InputError(
            f"{path} holds {listed}{more} ({int(counts.sum())} pixels), which {label_map.option} does not map; add"
            f" {label_map.said(int(found[0]))}:{IGNORED} or the name of a class"
        )
    labels: NDArray[np.uint8] = label_map.classes[positions]
    return labels
