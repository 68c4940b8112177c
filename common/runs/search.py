"""Runs' folders below others, and what was passed over on the way."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from common.errors import InputError
from common.runs.folder import Run
from common.runs.paths import CONTENTS


@dataclasses.dataclass(frozen=True)
class Found:
    """Runs' folders, sorted, and what was passed over, a line each."""

    runs: list[Run]
    passed_over: list[str]


def find_runs(paths: Iterable[str | Path]) -> Found:
    """Every run at or below ``paths``; a run that is found twice counts once.

    A link to a run's folder is followed; a link to any other folder is named as passed over.

    Raises:
        InputError: if a path does not exist or no run is found.
    """
    found: dict[Path, Path] = {}  # by resolved path
    passed_over: list[str] = []
    given = [Path(path) for path in paths]
    for path in given:
        if not path.exists():
            raise InputError(f"{path} does not exist; give a folder of runs")
        _search(path, found, passed_over)
    if not found:
        listing = ", ".join(str(path) for path in given)
        raise InputError(
            f"no run found in {listing}; a run's folder holds a record.jsonl (kdrl-train and kdseg-train write it)"
        )
    return Found([Run(path) for path in sorted(found.values())], passed_over)


def _search(top: Path, found: dict[Path, Path], passed_over: list[str]) -> None:
    def unreadable(error: OSError) -> None:
        passed_over.append(f"{error.filename}: cannot be read ({error.strerror})")

    for folder, inner, _ in os.walk(top, onerror=unreadable):
        here = Path(folder)
        if _holds_run(here):
            found.setdefault(here.resolve(), here)
        for name in inner:
            link = here / name
            if not link.is_symlink():
                continue
            if _holds_run(link):
                found.setdefault(link.resolve(), link)
            else:
                passed_over.append(f"{link}: a link to a folder that is no run's is not searched; give it itself")
        if _holds_run(here):
            inner[:] = [name for name in inner if name not in CONTENTS]  # the kept teachers are no runs of their own


def _holds_run(folder: Path) -> bool:
    return (folder / "record.jsonl").is_file() or (folder / "status.json").is_file()
