"""What the values and colours of masks stand for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from kdseg.domains.masks import make_label_map, read_mask

VALUES = {0: "background", 255: "nucleus", 128: "nucleus", 7: "ignore"}


def test_values_become_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    label_map = make_label_map(VALUES, None, None)
    assert label_map is not None and list(label_map.names) == ["background", "nucleus"]
    Image.fromarray(np.array([[0, 255], [128, 7]], np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", label_map).labels, [[0, 1], [1, 255]])
    named = make_label_map(VALUES, None, ["nucleus", "background", "debris"])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", named).labels, [[1, 0], [0, 255]])


def test_values_of_sixteen_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 60000]], np.uint16)).save(tmp_path / "a.png")
    label_map = make_label_map({0: "a", 60000: "b"}, None, None)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", label_map).labels, [[0, 1]])


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
@pytest.mark.parametrize("red", ["#ff0000", "ff0000", "FF0000", "255/0/0", "255-0-0", "255,0,0"])
def test_colours_become_classes(mode: str, red: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8))
    (image.quantize(2) if mode == "P" else image.convert(mode)).save(tmp_path / "a.png")
    label_map = make_label_map(None, {"000000": "background", red: "nucleus"}, None)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", label_map).labels, [[0, 1]])


def test_a_colour_of_digits_may_arrive_as_a_number(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0x12, 0x34, 0x56], [0, 0x10, 0]]], np.uint8)).save(tmp_path / "a.png")
    label_map = make_label_map(None, {123456: "a", 1000: "b"}, None)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", label_map).labels, [[0, 1]])


def test_what_is_not_mapped_is_named_and_counted(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4), np.uint8)
    pixels[0] = [9, 9, 10, 255]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(
        InputError, match=r"a.png holds 9, 10 \(3 pixels\), which mask_values does not map; add 9:ignore"
    ):
        read_mask(tmp_path / "a.png", make_label_map({0: "a", 255: "b"}, None, None))
    with pytest.raises(InputError, match=r"holds 090909, 0a0a0a, ffffff .* which colour_map does not map"):
        read_mask(tmp_path / "a.png", make_label_map(None, {"000000": "a", "00ff00": "b"}, None))


def test_transparent_masks_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 0], [1, 9]]], np.uint8), "LA").save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a.png is transparent in places \(PNG, 8-bit grey with alpha\)"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "colours", "names", "message"),
    [
        ({0: "a"}, {"000000": "a"}, None, "mask_values and colour_map are both given"),
        ({0: "a", 1: "c"}, None, ["a", "b"], "mask_values maps 1 to 'c', which is no class; use one of: a, b, ignore"),
        ({-1: "a"}, None, None, "mask_values has -1; values of masks are 0 to 65535"),
        ({70000: "a"}, None, None, "mask_values has 70000"),
        (None, {"red": "a"}, None, "colour_map has 'red', which is no colour; write ff0000 or 255/0/0"),
        (None, {"256/0/0": "a"}, None, "colour_map has '256/0/0'"),
        (None, {"ff0000": "a", "#FF0000": "b"}, None, "colour_map has 'ff0000' twice"),
        ({}, None, None, "mask_values={} names no class"),
        (None, {}, ["a", "b"], "colour_map={} names no class"),
        ({0: "ignore"}, None, None, "mask_values={0: 'ignore'} names no class"),
    ],
)
def test_mappings_that_make_no_sense(
    values: Mapping[int, str] | None, colours: Mapping[Any, str] | None, names: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_label_map(values, colours, names)
