"""What a program says when it cannot go on: one line, and a status."""

import contextlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import common
from common.errors import InputError, Interrupted, NonFiniteLossError
from common.processes import is_first_process
from common.text import clipped, visible

DEBUG = "--debug"
OWN_PACKAGES = ("common", "kdrl", "kdseg")
# As libraries in Rust tell it in errors of their own, safetensors among them.
_OF_THE_SYSTEM = re.compile(r"\(os error \d+\)")

Foreseen = Callable[[Exception], str | None]
"""What a mistake in the input says in one line, or ``None`` for what nobody foresaw."""


def plainly(error: Exception) -> str | None:
    """What a mistake of our own kinds says, or of the file system."""
    if isinstance(error, (InputError, NonFiniteLossError)):
        return str(error)
    said = " ".join(str(error).split())
    return said if isinstance(error, OSError) or _OF_THE_SYSTEM.search(said) else None


def end(error: Exception, said: str, status: int) -> None:
    """End the program."""
    if is_first_process() or not isinstance(error, NonFiniteLossError):  # which all processes see at once
        print(printable(f"error: {said}"), file=sys.stderr)
    sys.exit(status)


@contextlib.contextmanager
def one_line_errors(
    show_trace: bool = False, foreseen: Foreseen = plainly, fail: Callable[[Exception, str, int], None] = end
) -> Iterator[None]:
    """Turn mistakes in the input into ``error: …`` on standard error and exit status 2 (3: non-finite loss).

    What nobody foresaw gives status 1 and its place, a signal 128 and its number.

    Args:
        show_trace: Whether to raise them instead.
        foreseen: Tells mistakes from what nobody foresaw.
        fail: What to do about an error, what it says and the status; by default to end the program.
    """
    try:
        yield
    except Exception as error:
        if show_trace:
            raise
        said = foreseen(error)
        status = 1 if said is None else 3 if isinstance(error, NonFiniteLossError) else 2
        fail(error, unforeseen(error) if said is None else said, status)
    except (Interrupted, KeyboardInterrupt) as error:
        if show_trace and isinstance(error, KeyboardInterrupt):
            raise
        print(error if isinstance(error, Interrupted) else "interrupted", file=sys.stderr)
        sys.exit(128 + (error.signal_number if isinstance(error, Interrupted) else 2))


def printable(text: str) -> str:
    """Names come from folders of others, too: none steers the terminal, and none fills it."""
    return clipped(visible(text), 2000)


def unforeseen(error: Exception) -> str:
    """What a library says, with the innermost of our functions that asked it."""
    frames = traceback.extract_tb(error.__traceback__)
    root = Path(common.__file__).parents[1]
    ours = [frame for frame in frames if _is_ours(Path(frame.filename), root)]
    place = f" in {Path(ours[-1].filename).relative_to(root)}, {ours[-1].name}" if ours else ""
    said = " ".join(str(error).split()) or "no more is said"
    return f"{type(error).__name__}{place}: {clipped(said, 500)}; run again with {DEBUG} for the traceback"


def _is_ours(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) and path.relative_to(root).parts[0] in OWN_PACKAGES
