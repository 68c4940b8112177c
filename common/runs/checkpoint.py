"""The state that a training goes on from: a dictionary of named players, on disk with a checksum, the last two kept."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Annotated, Any

import pydantic
import torch
from pydantic import Field
from torch import nn

from common.errors import InputError
from common.runs.disk import read_text, write_atomically, write_text
from common.runs.folder import Run

State = dict[str, Any]
"""Tensors, numbers, texts, and lists and dictionaries of these: what loads without pickle."""

KEPT = 2
TEACHER = "teacher."


def own_state(module: nn.Module | None, prefix: str = "") -> State:
    """A module's ``state_dict`` without that of its teacher, which never changes and is loaded anew.

    Args:
        module: The module, or ``None``.
        prefix: Where in the module the teacher's owner is, such as ``distillation.``.
    """
    if module is None:
        return {}
    return {key: value for key, value in module.state_dict().items() if not key.startswith(prefix + TEACHER)}


def load_own_state(module: nn.Module, state: State, prefix: str = "") -> None:
    """Take back what :func:`own_state` gave.

    Raises:
        RuntimeError: the state of another module.
    """
    missing, unexpected = module.load_state_dict(state, strict=False)
    if unexpected or any(not key.startswith(prefix + TEACHER) for key in missing):
        raise RuntimeError(f"the state does not fit: missing {missing[:3]}, unexpected {unexpected[:3]}")


@dataclasses.dataclass(frozen=True)
class _Entry:
    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    file: Annotated[str, Field(pattern=r"^state-\d+\.pt$")]
    sha256: str
    steps: Annotated[int, Field(ge=0)]


_MANIFEST = pydantic.TypeAdapter(list[_Entry])


def _state(path: Path, entry: _Entry) -> State:
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise InputError(f"{path} is {'damaged (its checksum is wrong)' if content else 'missing'}")
    try:
        state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # of many kinds; a file with a checksum of its own may have anything in it
        raise InputError(f"{path} is no state of a training ({type(error).__name__})") from error
    if not isinstance(state, dict) or "players" not in state:
        raise InputError(f"{path} is no state of a training")
    return state


class Checkpoints:
    """The states in a run's folder.

    ``checkpoints/states.json`` lists them, oldest first, with their checksums. A state is written before it is listed,
    and removed after it is not: whenever a crash comes, what the list names was written whole.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self.folder = run.checkpoints

    @property
    def _manifest(self) -> Path:
        return self.folder / "states.json"

    def _entries(self) -> list[_Entry]:
        if not self._manifest.exists():
            return []
        try:
            return _MANIFEST.validate_json(read_text(self._manifest), strict=True)
        except pydantic.ValidationError as error:
            raise InputError(f"{self._manifest} is damaged; resume=never begins the run anew") from error

    def save(self, state: State, steps: int) -> None:
        """Write a state, and remove all but the latest two.

        Raises:
            OSError: the disk is full, or not to be written to; the states there were are kept.
        """
        # In memory first: torch hides a full disk behind an error of its own.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        entry = _Entry(f"state-{steps}.pt", hashlib.sha256(content).hexdigest(), steps)
        write_atomically(self.folder / entry.file, lambda path: path.write_bytes(content))
        before = [other for other in self._entries() if other.file != entry.file]
        kept = [*before[-(KEPT - 1) :], entry]
        write_text(self._manifest, json.dumps([dataclasses.asdict(one) for one in kept], indent=1) + "\n")
        names = {one.file for one in kept}
        for path in self.folder.glob("state-*.pt"):
            if path.name not in names:
                path.unlink()

    def load(self) -> tuple[State | None, list[str]]:
        """The latest state that is whole, and a line for each that is not.

        Returns:
            The state, or ``None`` where none was saved yet.

        Raises:
            InputError: states were saved, and none of them is whole.
        """
        damaged: list[str] = []
        entries = self._entries()
        for entry in reversed(entries):
            path = self.folder / entry.file
            try:
                return _state(path, entry), damaged
            except InputError as error:
                damaged.append(str(error))
        if damaged:
            raise InputError(f"{'; '.join(damaged)}; nothing is left to go on from: resume=never begins the run anew")
        return None, damaged

    def clear(self) -> None:
        """Remove all states: the run is finished."""
        self._manifest.unlink(missing_ok=True)
        for path in self.folder.glob("state-*.pt"):
            path.unlink()
