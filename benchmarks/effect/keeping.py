"""Finished runs as one committed file: all that a comparison reads of them, without weights and pictures.

A folder of runs is lost with its machine. What was kept is unpacked where it is missing, so that a grid goes on
anywhere, and the committed tables can be made again.
"""

import io
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.runs.disk import write_atomically
from common.runs.folder import Run
from common.runs.items import split_key

FILES = ("config.yaml", "identity.json", "status.json", "record.jsonl", "measures.jsonl")
ARRAYS = ("confusion", "group", "item", "calibration", "return", "level", "class_names")


def _compared(run: Run) -> bytes:
    """The arrays of ``items.npz`` that numbers are made of, not compressed: the archive does that better."""
    kept = {key: array for key, array in run.items().items() if (parts := split_key(key)) and parts.name in ARRAYS}
    content = io.BytesIO()
    np.savez(content, **kept)  # type: ignore[arg-type]
    return content.getvalue()


def keep(runs: Sequence[Run], root: Path, archive: Path) -> None:
    """Write runs below ``root`` to an archive, in this order; it replaces the one there was."""

    def write(temporary: Path) -> None:
        with tarfile.open(temporary, "w:xz") as tar:
            for run in runs:
                files = {name: path.read_bytes() for name in FILES if (path := run.path / name).exists()}
                for name, content in {**files, "items.npz": _compared(run)}.items():
                    entry = tarfile.TarInfo(str(run.path.relative_to(root) / name))
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))

    write_atomically(archive, write)


def unpack(archive: Path, root: Path) -> list[Path]:
    """Bring back the runs of an archive that are not below ``root``, each whole or not at all; their folders."""
    if not archive.exists():
        return []
    building = root / f"unpacked.{os.getpid()}"
    with tarfile.open(archive, "r:xz") as tar:
        tar.extractall(building, filter="data")
    found = []
    for status in sorted(building.rglob("status.json")):
        there = root / status.parent.relative_to(building)
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            status.parent.rename(there)
            found.append(there)
    shutil.rmtree(building)
    return found
