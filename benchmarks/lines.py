"""Results as they come: a file of JSON lines that interrupted and several processes write."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a line; several processes may. Half a line, left by one that was stopped, is cut off first."""
    line = (json.dumps(row) + "\n").encode()
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        written = file.read()
        os.ftruncate(file.fileno(), written.rfind(b"\n") + 1)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[dict[str, Any]]:
    """The lines written so far; a torn last one does not count."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
