"""Every kind of file is read as a person would read it, or refused in one line; whatever its name says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import InputError
from kdseg.domains.images import read_image
from kdseg.domains.masks import read_mask
from tests.kdseg.odd_files import SUFFIXES, damaged, faults, odd_files


def tried(read: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8] | str:
    try:
        return read()
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(8))
def test_files_are_what_a_person_would_read_in_them(seed: int, tmp_path: Path) -> None:
    found = []
    for number, file in enumerate(odd_files(seed)):
        path = tmp_path / f"a{SUFFIXES[(number + seed) % len(SUFFIXES)]}"
        path.write_bytes(file.content)
        found += faults(file, tried(lambda: read_image(path).pixels), tried(lambda: read_mask(path).labels))  # noqa: B023
    assert found == []


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_read_or_refused_in_one_line(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / "a.png"
    for file in odd_files(100 + seed):
        path.write_bytes(damaged(file.content, rng))
        for outcome in (tried(lambda: read_image(path).pixels), tried(lambda: read_mask(path).labels)):
            assert not isinstance(outcome, str) or "\n" not in outcome
