"""Files are whole or as they were, and are read within bounds."""

from pathlib import Path

import pytest

from common.errors import InputError
from common.runs.disk import check_size, read_text, write_atomically, write_text


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert _names(tmp_path) == {"weights.npz"}


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "weights.npz"
    write_atomically(path, lambda temporary: temporary.write_text("old"))

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        assert temporary.suffix == ".npz" and temporary.parent == path.parent
        assert path.read_text() == "old"

    write_atomically(path, write)
    assert path.read_text() == "new"
    assert _names(path.parent) == {"weights.npz"}
    assert path.stat().st_mode & 0o777 == 0o644


def test_text_is_read_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "text"
    write_text(path, "é" * 50)
    assert read_text(path, most=100) == "é" * 50
    with pytest.raises(InputError, match="has 100 bytes, more than the 99"):
        read_text(path, most=99)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not a text file"):
        read_text(path)
    with pytest.raises(InputError, match="is not a file"):
        check_size(tmp_path, 100)
