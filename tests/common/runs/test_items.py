"""Items: what is read is what was written, and nothing that does not fit its name."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import InputError
from common.runs.items import Key, item_key, read_items, save_items, split_key
from tests.disks import files_of

Items = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "items.npz"


@pytest.fixture
def items() -> Items:
    return {
        "class_names": np.array(["a", "bé"]),
        "confusion|day|seen": np.arange(12).reshape(3, 2, 2),
        "confusion|day|seen|averaged": np.arange(12).reshape(3, 2, 2) + 1,
        "group|day|seen": np.array(["x", "x", "\U0010ffff"], ">U1"),
        "item|day|seen": np.array(["", "", ""], "<U0"),
        "image|day|seen": np.zeros((2, 4, 5, 3), np.uint8),
        "mask|day|seen": np.zeros((2, 4, 5), np.uint8),
        "prediction|day|seen": np.zeros((2, 4, 5), np.uint8),
        "prediction|day|seen|averaged": np.ones((2, 4, 5), np.uint8),
        "return|game|unseen": np.array([0.0, 10.0]),
        "level|game|unseen": np.array([4, 7]),
    }


def test_items_round_trip(path: Path, items: Items) -> None:
    assert read_items(path) == {}
    save_items(path, items)
    loaded = read_items(path)
    assert set(loaded) == set(items)
    for key, value in items.items():
        assert loaded[key].dtype == value.dtype
        np.testing.assert_array_equal(loaded[key], value)
    assert [entry.name for entry in path.parent.iterdir()] == ["items.npz"]


def test_a_disk_that_takes_no_more_loses_nothing_and_prints_nothing(
    path: Path, items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    save_items(path, items)
    before = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    with files_of(4096), pytest.raises(OSError, match="File too large"):
        save_items(path, {item_key("image", "a", seen=True): noise})
    gc.collect()
    assert printed == []
    assert path.read_bytes() == before and [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["day", "a|b", "50%", "%7C|", "a%25", "unseen", ""])
def test_keys_are_taken_apart_as_they_were_made(name: str) -> None:
    for selection in ("last", "averaged", "un|seen", "unseen"):
        for seen in (True, False):
            assert split_key(item_key("mask", name, seen, selection)) == Key("mask", name, seen, selection)


@pytest.mark.parametrize(
    "key", ["mask", "class_names|a|seen", "masks|a|seen", "mask|a", "mask|a|heard", "mask|a|seen|b|c", "mask|a|b|seen"]
)
def test_what_is_no_key_is_refused(path: Path, items: Items, key: str) -> None:
    assert split_key(key) is None
    save_items(path, items | {key: items["mask|day|seen"]})
    with pytest.raises(InputError, match="is not an array that a run keeps"):
        read_items(path)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("confusion|day|seen", lambda array: array.astype(float)),
        ("confusion|day|seen", lambda array: -array),
        ("confusion|day|seen", lambda array: array[:, :1]),
        ("confusion|day|seen", lambda array: array[0]),
        ("group|day|seen", lambda array: np.arange(3)),
        ("group|day|seen", lambda array: np.full(3, 0x7FFFFFFF, np.uint32).view("<U1")),
        ("return|game|unseen", lambda array: array * np.nan),
        ("return|game|unseen", lambda array: array + 1e300),
        ("level|game|unseen", lambda array: array.astype(str)),
        ("image|day|seen", lambda array: array[..., :2]),
        ("image|day|seen", lambda array: array[:, :0]),
        ("mask|day|seen", lambda array: array.astype(np.uint16)),
        ("class_names", lambda array: array[:0]),
        ("class_names", lambda array: array[None]),
    ],
)
def test_an_array_that_is_not_what_its_name_says_is_refused(
    path: Path, items: Items, key: str, change: Callable[[Any], Any]
) -> None:
    save_items(path, items | {key: change(items[key])})
    with pytest.raises(InputError, match="is not what its name says") as caught:
        read_items(path)
    assert repr(key) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "change", "named"),
    [
        ("group|day|seen", lambda array: array[:2], "confusion, group, item of 'day'"),
        ("item|day|seen", lambda array: array[:0], "confusion, group, item of 'day'"),
        ("confusion|day|seen|averaged", lambda array: array[:2], "confusion, group, item of 'day'"),
        ("level|game|unseen", lambda array: array[:1], "return, level of 'game'"),
        ("mask|day|seen", lambda array: array[:, :3], "image, mask, prediction of 'day'"),
        ("prediction|day|seen|averaged", lambda array: array[:1], "image, mask, prediction of 'day'"),
        ("class_names", lambda array: array[:1], "1 class names and 2 classes on 'day'"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(
    path: Path, items: Items, key: str, change: Callable[[Any], Any], named: str
) -> None:
    save_items(path, items | {key: change(items[key])})
    with pytest.raises(InputError) as caught:
        read_items(path)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_unpickled_and_no_archive_is_named(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, class_names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"cannot be read .*allow_pickle=False"):
        read_items(path)
    path.write_bytes(b"PK" + path.read_bytes()[40:])
    with pytest.raises(InputError, match="cannot be read"):
        read_items(path)
