"""Files that are written whole or not at all, and read within bounds."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from common.errors import InputError

MEBIBYTE = 2**20


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk and rename it.

    A crash at any moment leaves either the old file or the new one, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The temporary name keeps the suffix: numpy appends ".npz" to names without it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes private files
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _flush_folder(folder: Path) -> None:
    # The new name, too, is on disk only after this.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """:func:`write_atomically` for text in UTF-8."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_text(path: Path, most: int = MEBIBYTE) -> str:
    """A text file in UTF-8 of at most ``most`` bytes.

    Raises:
        InputError: it is larger, or not text.
    """
    check_size(path, most)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file ({error.reason})") from error


def check_size(path: Path, most: int) -> None:
    """Raise unless ``path`` is an ordinary file of at most ``most`` bytes.

    Raises:
        InputError: it is larger, or something else than a file.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    if (size := path.stat().st_size) > most:
        raise InputError(f"{path} has {size:,} bytes, more than the {most:,} that such a file can have")
