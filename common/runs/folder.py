"""A run's folder: what it is, what state it is in, and who may write to it; :mod:`common.runs.paths` says where."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from common.errors import InputError
from common.runs.disk import write_text
from common.runs.identity import Identity, read_identity
from common.runs.items import read_items, save_items
from common.runs.lock import Lock
from common.runs.paths import RunPaths
from common.runs.records import Record, append_records, read_records
from common.runs.status import Status, read_status, write_status


class Run(RunPaths):
    """A run's folder on disk."""

    def kept_teachers(self) -> list[Path]:
        """Folders of what the run keeps of its teachers, in their order."""
        folder = self.path / "teachers"
        numbers = (path for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else ()
        return sorted(numbers, key=lambda path: int(path.name))

    def identity(self) -> Identity | None:
        """What the run is, ``None`` where it was made before runs had identities.

        Raises:
            InputError: the file is damaged.
        """
        return read_identity(self.identity_path)

    def judged_identity(self) -> Identity | None:
        """As :meth:`identity`; of a run that is not finished, that of what it is so far, which is another setting."""
        identity, status = self.identity(), self.status()
        if identity is None or status is None or status.stage != "training":
            return identity
        return dataclasses.replace(identity, setting={**identity.setting, "unfinished_at": status.steps})

    def status(self) -> Status | None:
        """How far the run has come; ``None`` where nothing says so.

        A run of before there was a status counts as finished if it has test rows, and as training if it has none;
        what a run keeps of such a teacher, which is little more than its weights, as finished.

        Raises:
            InputError: a damaged file.
        """
        if self.status_path.exists():
            return read_status(self.status_path)
        if not self.config_path.exists():
            return None
        if self.path.absolute().parent.name == "teachers" and not self.record_path.exists():
            return Status("finished")
        tests = [record for record in self.records() if record.split == "test"]
        if not tests:
            return Status("training")
        return Status("finished", tests[-1].steps, tests[-1].steps, tests[-1].seconds)

    @property
    def finished(self) -> bool:
        """Whether the run was trained and tested to its end."""
        status = self.status()
        return status is not None and status.stage == "finished"

    def check_finished(self, what: str, unfinished_too: bool = False) -> Status:
        """Raise unless the run may be used for what it was trained for.

        Args:
            what: How the user named it, such as ``teacher=runs/a``.
            unfinished_too: Whether an interrupted run will do as it is.

        Raises:
            InputError: no run, or one that is not finished.
        """
        status = self.status()
        if status is None:
            raise InputError(f"{what} is not a run's folder: there is no config.yaml; give one that training wrote")
        if status.stage != "finished" and not unfinished_too:
            done = f"{status.steps:,} of {status.of:,} steps" if status.of else "interrupted"
            raise InputError(
                f"{what} is not finished ({status.stage}, {done}): run its command again to finish it, "
                "or take it as it is with unfinished=true"
            )
        return status

    def remove_leftovers(self) -> None:
        """Remove what a killed process was just writing; only for who holds the lock."""
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(".*.*.*"):
                if path.is_file():
                    path.unlink()

    def lock(self) -> Lock:
        """Make the folder and give the lock that belongs to it."""
        self.path.mkdir(parents=True, exist_ok=True)
        return Lock(self.path / "lock")

    def set_aside(self) -> Path:
        """Give an interrupted run another name and make the folder anew, empty."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.interrupted-{number}")).exists():
            number += 1
        self.path.rename(aside)
        self.path.mkdir()
        return aside

    def begin(self, config_yaml: str, identity: Identity | None, steps: int) -> None:
        """Write what a new run is; the folder must be free.

        Args:
            config_yaml: The resolved configuration.
            identity: What the run is; ``None`` for what is made of a run of before there were identities.
            steps: How many steps it is to take.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.config_path, config_yaml)
        if identity is not None:
            write_text(self.identity_path, identity.to_json())
        self.set_status(Status("training", 0, steps))

    def set_status(self, status: Status) -> None:
        """Write how far the run has come."""
        write_status(self.status_path, status)

    def append(self, records: Iterable[Record]) -> None:
        """Append rows and flush them to disk; a torn last line, left by a crash, is cut off first."""
        append_records(self.record_path, records)

    def records(self) -> list[Record]:
        """The rows written so far.

        Raises:
            InputError: as :func:`common.runs.records.read_records`.
        """
        return read_records(self.record_path)

    def append_measures(self, records: Iterable[Record]) -> None:
        """Append rows that were measured after the test."""
        append_records(self.measures_path, records)

    def measures(self) -> list[Record]:
        """Those rows.

        Raises:
            InputError: as :func:`common.runs.records.read_records`.
        """
        return read_records(self.measures_path)

    def save_items(self, items: Mapping[str, NDArray[Any]]) -> None:
        """Write ``items.npz``."""
        save_items(self.items_path, items)

    def items(self) -> dict[str, NDArray[Any]]:
        """Read ``items.npz``; empty if there is none.

        Raises:
            InputError: as :func:`common.runs.items.read_items`.
        """
        return read_items(self.items_path)
