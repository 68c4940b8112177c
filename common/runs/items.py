"""Arrays that later statistics need: ``items.npz``, checked against one schema when read.

Keys are ``<name>|<domain>|<seen or unseen>`` with these names:

=====================  ==================================================================================
``confusion``          ``int64 [N, C, C]``, rows true class, columns predicted class (segmentation)
``group``              ``str [N]``, images of one group are one cluster for resampling (segmentation)
``item``               ``str [N]``, the image's name (segmentation)
``return``             ``float64 [N]``, undiscounted return of each test episode (reinforcement learning)
``level``              ``int64 [N]``, the level of each test episode (reinforcement learning)
``calibration``        ``float64 [K, 15, 3]``, see :func:`common.evaluation.calibration.calibration_counts`: as it
                       is and, where there are two, at the temperature that was fitted on validation
``image``              ``uint8 [K, H, W, 3]``, a few test images or policy frames
``clip``               ``uint8 [K, H, W, 3]``, frames of one environment, one after the other (reinforcement learning)
``mask``               ``uint8 [K, H, W]``, their true classes, 255 where ignored (segmentation)
``prediction``         ``uint8 [K, H, W]``, their predicted classes (segmentation)
``anchor_images``      ``uint8 [K, 4, H, W, 3]``, samples on their way through AuG-KD's generator
``anchor_confidence``  ``float64 [K, 4]``, how sure the teacher is of them
=====================  ==================================================================================

plus ``class_names`` (``str [C]``) for segmentation. Arrays of one domain must agree: as many groups and names as
confusion matrices, as many levels as returns, pictures of one size, as many class names as classes.

A run that is judged with two choices of weights keeps the arrays of its last weights under these keys and those that
differ for the other choice under ``<name>|<domain>|<seen or unseen>|<selection>``, such as ``averaged``. With a single
choice, whichever it is, the plain keys hold it.
"""

import dataclasses
import io
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.runs.disk import MEBIBYTE, check_size, write_atomically
from common.runs.records import LARGEST_NUMBER

Arrays = Mapping[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class _Schema:
    kind: str  # numpy's letter
    dimensions: int


SCHEMA: Mapping[str, _Schema] = {
    "confusion": _Schema("i", 3),
    "group": _Schema("U", 1),
    "item": _Schema("U", 1),
    "return": _Schema("f", 1),
    "level": _Schema("i", 1),
    "calibration": _Schema("f", 3),
    "image": _Schema("u", 4),
    "clip": _Schema("u", 4),
    "mask": _Schema("u", 3),
    "prediction": _Schema("u", 3),
    "anchor_images": _Schema("u", 5),
    "anchor_confidence": _Schema("f", 2),
    "class_names": _Schema("U", 1),
}
PANELS = ("real", "before the anchor", "after the anchor", "generated")
"""Of ``anchor_images``: a sample x, ``G(z)`` of its latent, ``G(z')`` of its anchored one, and ``G`` of noise."""
_LARGEST = 4096 * MEBIBYTE


class Key(NamedTuple):
    """What an array of ``items.npz`` is about; ``class_names`` is about no domain."""

    name: str
    domain: str = ""
    seen: bool = False
    selection: str = "last"


_CLASS_NAMES = Key("class_names")


def item_key(name: str, domain: str, seen: bool, selection: str = "last") -> str:
    """Key of an array in ``items.npz``; what separates the parts is escaped in names.

    >>> item_key("return", "themed", seen=False)
    'return|themed|unseen'
    >>> item_key("return", "a|b", seen=False, selection="averaged")
    'return|a%7Cb|unseen|averaged'
    """
    key = f"{name}|{_escaped(domain)}|{'seen' if seen else 'unseen'}"
    return key if selection == "last" else f"{key}|{_escaped(selection)}"


def split_key(key: str) -> Key | None:
    """The inverse of :func:`item_key`; ``None`` for what is no such key.

    >>> split_key("return|a%7Cb|unseen|averaged")
    Key(name='return', domain='a|b', seen=False, selection='averaged')
    """
    name, *parts = key.split("|")
    if name not in SCHEMA or (not parts) != (name == "class_names"):
        return None
    if not parts:
        return _CLASS_NAMES
    if len(parts) not in (2, 3) or parts[1] not in ("seen", "unseen") or parts[2:] == ["last"]:
        return None
    return Key(name, _unescaped(parts[0]), parts[1] == "seen", *map(_unescaped, parts[2:]))


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("|", "%7C")


def _unescaped(text: str) -> str:
    return text.replace("%7C", "|").replace("%25", "%")


def save_items(path: Path, items: Arrays) -> None:
    """Write the file; a crash keeps the one there was."""
    content = io.BytesIO()  # numpy's archive, cut short by a full disk, would print a traceback when it is collected
    np.savez_compressed(content, **dict(items))  # type: ignore[arg-type]
    write_atomically(path, lambda temporary: temporary.write_bytes(content.getbuffer()))


def read_items(path: Path) -> dict[str, NDArray[Any]]:
    """Read the file; empty if there is none. Never unpickles.

    Raises:
        InputError: it cannot be read, is too large, or an array is not what its name says.
    """
    if not path.exists():
        return {}
    check_size(path, _LARGEST)
    try:
        # numpy leaves a file open that it opened itself and then could not read.
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                    raise InputError(f"{path} unpacks to more than {_LARGEST:,} bytes")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                found = {key: arrays[key] for key in arrays.files}
    except InputError:
        raise
    except Exception as error:  # a damaged archive fails in as many ways as there are layers
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason})") from error
    for key, array in found.items():
        _check(path, key, array)
    _check_together(path, {split_key(key) or _CLASS_NAMES: array for key, array in found.items()})
    return found


def _check(path: Path, key: str, array: object) -> None:
    parts = split_key(key)
    # What is no array in an archive is given as bytes.
    if parts is None or not isinstance(array, np.ndarray):
        raise InputError(f"{path}: {key[:200]!r} is not an array that a run keeps")
    schema = SCHEMA[parts.name]
    fits = array.dtype.kind == schema.kind and array.ndim == schema.dimensions
    if not (fits and _CHECKS[parts.name](array)):
        raise InputError(
            f"{path}: {key[:200]!r} of type {array.dtype} and shape {array.shape} is not what its name says"
        )


def _is_confusion(array: NDArray[Any]) -> bool:
    return array.shape[1] == array.shape[2] > 0 and (array.size == 0 or int(array.min()) >= 0)


def _is_text(array: NDArray[Any]) -> bool:
    if array.dtype.itemsize == 0:
        return True
    characters = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).view(np.uint32)
    return int(characters.max(initial=0)) <= sys.maxunicode


def _is_pictures(array: NDArray[Any]) -> bool:
    return array.dtype == np.uint8 and min(array.shape[1:]) > 0


_CHECKS: Mapping[str, Callable[[NDArray[Any]], bool]] = {
    "confusion": _is_confusion,
    "group": _is_text,
    "item": _is_text,
    "return": lambda array: bool((np.abs(array) <= LARGEST_NUMBER).all()),  # neither infinite nor not a number
    "level": lambda array: True,
    "calibration": lambda array: array.shape[2] == 3 and bool(((array >= 0) & (array <= LARGEST_NUMBER)).all()),
    "image": lambda array: _is_pictures(array) and array.shape[3] == 3,
    "clip": lambda array: _is_pictures(array) and array.shape[3] == 3,
    "mask": _is_pictures,
    "prediction": _is_pictures,
    "anchor_images": lambda array: _is_pictures(array) and (array.shape[1], array.shape[4]) == (4, 3),
    "anchor_confidence": lambda array: bool(((array >= 0) & (array <= 1)).all()) and array.shape[1] == 4,
    "class_names": lambda array: len(array) > 0 and _is_text(array),
}
# Which arrays of a domain must agree, and in how many leading sides.
_TOGETHER = (
    (("confusion", "group", "item"), 1),
    (("return", "level"), 1),
    (("image", "mask", "prediction"), 3),
    (("anchor_images", "anchor_confidence"), 2),
)


def _check_together(path: Path, arrays: Mapping[Key, NDArray[Any]]) -> None:
    names = arrays.get(_CLASS_NAMES)
    for key, array in arrays.items():
        if key.name == "confusion" and names is not None and array.shape[1] != len(names):
            raise InputError(
                f"{path} has {len(names)} class names and {array.shape[1]} classes on {key.domain[:200]!r}"
            )
    # Of another selection than the last there is only what differs from the last's.
    for _, domain, seen, selection in {key for key in arrays if key != _CLASS_NAMES}:
        for names_together, sides in _TOGETHER:
            keys = ((Key(name, domain, seen, selection), Key(name, domain, seen)) for name in names_together)
            found = [next((arrays[key] for key in choices if key in arrays), None) for choices in keys]
            shapes = {array.shape[:sides] for array in found if array is not None}
            if len(shapes) > 1:
                listing = ", ".join(names_together)
                raise InputError(f"{path}: {listing} of {domain[:200]!r} have lengths that do not fit each other")
