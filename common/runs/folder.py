"""A run's folder: what is in it, what state it is in, and who may write to it.

::

    config.yaml      the resolved configuration
    identity.json    what the run is (common.runs.identity)
    status.json      how far it has come: training, trained, finished
    record.jsonl     measured numbers (common.runs.records)
    items.npz        what later statistics need (common.runs.items)
    images.json      which images were trained on and which were held out (segmentation)
    data.json        what was found in the images' folder, and what was passed over (segmentation)
    checkpoints/     weights as safetensors; while training, the state to go on from
    teachers/        what it takes to load each teacher again, where there were any
    anchor/          what AuG-KD prepares before the first step (common.augkd.folder), where it is the method
    tensorboard/     scalars and pictures for TensorBoard
    scalars.csv      the same scalars as a table, where it is asked for
    wandb/           what Weights & Biases keeps, where it is asked for
    lock             the process that works here, or the last one that did
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from numpy.typing import NDArray
from pydantic import Field

from common.errors import InputError
from common.runs.disk import read_text, write_text
from common.runs.identity import Identity, read_identity
from common.runs.items import read_items, save_items
from common.runs.lock import Lock
from common.runs.records import Record, Resumed, append_records, read_records

Stage = Literal["training", "trained", "finished"]

CONTENTS = {
    "config.yaml",
    "identity.json",
    "status.json",
    "record.jsonl",
    "measures.jsonl",
    "items.npz",
    "images.json",
    "data.json",
    "checkpoints",
    "teachers",
    "anchor",
    "tensorboard",
    "scalars.csv",
    "wandb",
    "lock",
}


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a run has come.

    Attributes:
        stage: ``training``; ``trained``, when the weights to be tested are kept; ``finished``, when they are tested.
        steps: Trained so far, as of the latest checkpoint.
        of: Steps in all.
        seconds: Of training so far.
        resumed: ``inexact`` where the run went on from a checkpoint, but not bit for bit.
        record_bytes: Length of the records when this was written.
        idle: What of the method and of the averaging has never acted, a line each; known from ``trained`` on.
    """

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    stage: Stage
    steps: Annotated[int, Field(ge=0, lt=2**63)] = 0
    of: Annotated[int, Field(ge=0, lt=2**63)] = 0
    seconds: pydantic.FiniteFloat = 0.0
    resumed: Resumed = ""
    record_bytes: Annotated[int, Field(ge=0, lt=2**63)] = 0
    idle: Annotated[tuple[Annotated[str, Field(max_length=1000)], ...], Field(max_length=100)] = ()


_STATUS = pydantic.TypeAdapter(Status)


class Run:
    """A run's folder on disk.

    Args:
        path: The folder. It need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def identity_path(self) -> Path:
        """What the run is."""
        return self.path / "identity.json"

    @property
    def status_path(self) -> Path:
        """How far it has come."""
        return self.path / "status.json"

    @property
    def record_path(self) -> Path:
        """The rows."""
        return self.path / "record.jsonl"

    @property
    def measures_path(self) -> Path:
        """Rows that were measured later, of what was done to the run's domains."""
        return self.path / "measures.jsonl"

    @property
    def record_bytes(self) -> int:
        """Length of the rows' file."""
        return self.record_path.stat().st_size if self.record_path.exists() else 0

    @property
    def items_path(self) -> Path:
        """What later statistics need."""
        return self.path / "items.npz"

    @property
    def findings_path(self) -> Path:
        """What was found in the images' folder."""
        return self.path / "data.json"

    @property
    def images_path(self) -> Path:
        """Which images were trained on and which were held out."""
        return self.path / "images.json"

    @property
    def checkpoints(self) -> Path:
        """The weights' folder."""
        return self.path / "checkpoints"

    @property
    def anchor(self) -> Path:
        """What AuG-KD has prepared."""
        return self.path / "anchor"

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
            try:
                return _STATUS.validate_json(read_text(self.status_path), strict=True)
            except pydantic.ValidationError as error:
                raise InputError(f"{self.status_path} is not a run's status; give a folder that training wrote") from (
                    error
                )
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

    def check_usable(self) -> None:
        """Raise unless this is, or can be made, a run's folder; changes nothing.

        Raises:
            InputError: the path is a file, a folder of something else, or one that cannot be written to.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise InputError(f"run_dir={self.path} is a file; give a folder that does not exist yet")
        if not os.access(self.path, os.W_OK):
            raise InputError(f"run_dir={self.path} cannot be written to; give another one")
        # Hidden: what a killed process was just writing.
        names = {path.name for path in self.path.iterdir() if not path.name.startswith(".")} - {"lock"}
        if names and not ("config.yaml" in names and names <= CONTENTS):
            raise InputError(f"run_dir={self.path} holds files that are not a run's; choose another run_dir")

    def check_free(self) -> None:
        """Raise unless a run may be put here; changes nothing.

        Raises:
            InputError: as :meth:`check_usable`, or there is a finished run.
        """
        self.check_usable()
        if self.finished:
            raise InputError(f"run_dir={self.path} already holds a finished run; choose another run_dir")

    def check_new(self) -> None:
        """Raise unless an evaluation may be put here; changes nothing.

        Raises:
            InputError: as :meth:`check_free`, or there is an interrupted run.
        """
        self.check_free()
        if self.config_path.exists():
            raise InputError(
                f"out={self.path} holds an interrupted run, which training may go on with; choose another out"
            )

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
        write_text(self.status_path, json.dumps(dataclasses.asdict(status)) + "\n")

    def keep_evaluation(
        self,
        config_yaml: str,
        identity: Identity | None,
        status: Status,
        items: Mapping[str, NDArray[Any]],
        records: Iterable[Record],
    ) -> None:
        """Make this the folder of an evaluation, which is written at once; the path must be new.

        Args:
            config_yaml: The configuration of what was judged.
            identity: What was judged; ``None`` for a run of before there were identities.
            status: How far it had come.
            items: What later statistics need.
            records: The rows.

        Raises:
            InputError: as :meth:`check_new`.
        """
        with self.lock():
            self.check_new()  # what another process did in between
            self.begin(config_yaml, identity, status.steps)
            self.save_items(items)
            self.append(records)
            self.set_status(dataclasses.replace(status, stage="finished", of=status.steps, record_bytes=0))

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
