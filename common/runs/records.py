"""Measured numbers: one JSON object a line, only ever appended to, checked against one schema when read."""

import dataclasses
import functools
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pydantic
from pydantic import Field

from common.errors import InputError
from common.runs.disk import MEBIBYTE, check_size
from common.runs.metrics import Task

Split = Literal["progress", "validation", "test"]
Resumed = Literal["", "inexact"]
LARGEST_NUMBER = 1e12

LAST: Final = "last"
AVERAGED: Final = "averaged"
VALIDATED: Final = "validated"
ORACLE: Final = "oracle"
SELECTIONS = (LAST, AVERAGED, VALIDATED, ORACLE)
Weights = Literal["auto", "last", "averaged", "validated", "oracle"]
"""Which of a run's weights to use; ``auto`` means the averaged ones if it has any, else the last."""

_Text = Annotated[str, Field(max_length=1000)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
# Far above anything measured, and far below where sums and drawings overflow.
_Number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, le=LARGEST_NUMBER, allow_inf_nan=False)]
_LARGEST_FILE = 512 * MEBIBYTE


@dataclasses.dataclass(frozen=True)
class Record:
    """One measured number.

    Attributes:
        task: ``rl`` or ``seg``.
        method: Name of the method, ``erm`` for plain training.
        seed: Seed of the training run.
        source: The domains the run was trained on.
        target: What the run is judged on: the held-out domain, or the game's name.
        domain: The domain this number was measured on.
        seen: Whether training used this domain (for Procgen: these levels in this look).
        split: ``progress`` during training, ``validation`` on held-out source data, ``test`` at the end.
        metric: A name of :data:`common.runs.metrics.METRICS`, or another.
        value: The number.
        n: How many items (images, episodes) it was measured on.
        selection: How the judged weights were chosen: ``last`` or ``averaged``.
        steps: Gradient steps (segmentation) or environment steps (PPO) trained so far.
        seconds: Seconds of training so far, evaluation excluded.
        network: The student's network, by its name in the configuration.
        versions: Versions of the libraries that matter.
        identity: Key of the run's :class:`common.runs.identity.Identity`; empty in records of before there was one.
        resumed: ``inexact`` where the run was interrupted and could not go on bit for bit.
        condition: What was done to what is judged, such as ``corruption/fog/3``; empty for nothing. See
            :mod:`common.evaluation.conditions`.
    """

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    task: Task
    method: _Text
    seed: _Count
    source: Annotated[list[_Text], Field(max_length=10_000)]
    target: _Text
    domain: _Text
    seen: bool
    split: Split
    metric: _Text
    value: _Number
    n: _Count
    selection: _Text
    steps: _Count
    seconds: _Seconds
    network: _Text
    versions: Mapping[_Text, _Text] = dataclasses.field(default_factory=dict)
    identity: _Text = ""
    resumed: Resumed = ""
    condition: _Text = ""


_SCHEMA = pydantic.TypeAdapter(Record)


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the records of one look at a training share.

    Attributes:
        steps: As in :class:`Record`, like all others.
        seconds: Of training.
        selection: Which weights.
        identity: Key of the run's identity.
        resumed: ``inexact`` or nothing.
    """

    steps: int
    seconds: float
    selection: str = "last"
    identity: str = ""
    resumed: Resumed = ""


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Append rows and flush them to disk; a torn last line, left by a crash, is cut off first."""
    lines = "".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in records)
    if path.exists():
        written = path.read_bytes()
        whole = written.rfind(b"\n") + 1
        if whole < len(written):  # else the new rows would continue the torn line
            os.truncate(path, whole)
    with path.open("a", encoding="utf-8") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def read_records(path: Path) -> list[Record]:
    """The rows of a file, none where there is no file.

    Raises:
        InputError: a line is not a record (naming file, line and what is wrong), or the file is too large. A torn
            last line, left by a crash, is skipped.
    """
    if not path.exists():
        return []
    check_size(path, _LARGEST_FILE)
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            records.append(_SCHEMA.validate_json(line, strict=True))
        except pydantic.ValidationError as error:
            if number == len(lines):
                break
            raise InputError(f"{path}:{number} is not a record ({_reason(error)})") from error
    return records


def fraction_filtered(rows: Iterable[Record]) -> float | None:
    """The share of positions that a run's filter took while it trained, mean over its validations; none without one."""
    shares = [row.value for row in rows if row.split == "progress" and row.metric.endswith("/fraction_filtered")]
    return sum(shares) / len(shares) if shares else None


def _reason(error: pydantic.ValidationError) -> str:
    first: Any = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


_version = functools.cache(importlib.metadata.version)


def library_versions() -> dict[str, str]:
    """Versions of what can change a result."""
    names = ("kdshift", "torch", "numpy", "stable-baselines3", "segmentation-models-pytorch", "procgen-mirror")
    return {name: _version(name) for name in names}
