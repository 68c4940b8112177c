"""How far a run has come, as its folder says it."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from common.errors import InputError
from common.runs.disk import read_text, write_text
from common.runs.records import Resumed

Stage = Literal["training", "trained", "finished"]


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


def read_status(path: Path) -> Status:
    """Read ``status.json``.

    Raises:
        InputError: a damaged file.
    """
    try:
        return _STATUS.validate_json(read_text(path), strict=True)
    except pydantic.ValidationError as error:
        raise InputError(f"{path} is not a run's status; give a folder that training wrote") from error


def write_status(path: Path, status: Status) -> None:
    """Write it."""
    write_text(path, json.dumps(dataclasses.asdict(status)) + "\n")
