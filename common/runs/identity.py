"""What a run is: one canonical description of everything that can change its result.

Three parts, because three questions are asked of it. The *setting* is what must be equal for a comparison to be fair:
task, data, network, budget, host hyper-parameters; the domains in it stand apart, since settings that differ in
nothing else are targets of one family. The *row* is what is compared: a method with its strengths, its averaging, its
driver and the kind of its teachers. The *seed*, with the teachers' weights, is what a row is repeated over.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from common.errors import InputError
from common.runs.disk import read_text
from common.runs.metrics import Task
from common.runs.records import library_versions

FORMAT = 1


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that stand for a value of JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def flatten(value: Any, place: str = "") -> dict[str, Any]:
    """Dotted keys to the values at the leaves.

    >>> flatten({"kd": {"weight": 1.0}, "looks": ["plain"]})
    {'kd.weight': 1.0, 'looks.0': 'plain'}
    """
    if isinstance(value, Mapping):
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        pairs = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return {place: value}
    return {
        key: leaf for name, inner in pairs for key, leaf in flatten(inner, f"{place}.{name}" if place else name).items()
    }


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a run is, in values of JSON.

    Attributes:
        task: ``rl`` or ``seg``.
        setting: What must be equal for a fair comparison, the domains apart: data, network, budget, host.
        domains: Domains trained on and judged on, with fingerprints of their files.
        row: What is compared: ``method``, and where there are any ``averaging``, ``selection``, ``driver`` and
            ``teachers``: their kinds, which are the ``setting``, ``domains`` and ``row`` they were trained in.
        seed: The run's.
        teachers: Hash of each teacher's weights, and of what was prepared with them where another run did (AuG-KD).
        versions: Of the libraries that matter. The only part that does not make another run.
    """

    task: Task
    setting: Mapping[str, Any]
    domains: Mapping[str, Any]
    row: Mapping[str, Any]
    seed: int
    teachers: tuple[str, ...] = ()
    versions: Mapping[str, str] = dataclasses.field(default_factory=library_versions)

    @property
    def key(self) -> str:
        """Stands for the run; records refer to it."""
        return digest([self.task, self.setting, self.domains, self.row, list(self.teachers), self.seed])

    @property
    def setting_key(self) -> str:
        """Equal where a comparison is fair."""
        return digest([self.task, self.setting, self.domains])

    @property
    def family_key(self) -> str:
        """Equal where a comparison is fair but for the domains."""
        return digest([self.task, self.setting])

    def row_key(self, selection: str = "last") -> str:
        """Equal where two runs repeat each other; see :meth:`row_of`."""
        return digest(self.row_of(selection))

    def row_of(self, selection: str = "last") -> dict[str, Any]:
        """What of the row these weights depend on.

        Averaging and selection only read the weights in training: one does not change what the other keeps, nor
        either the last weights.
        """
        row = {name: part for name, part in self.row.items() if name not in ("averaging", "selection")}
        if selection == "averaged" and "averaging" in self.row:
            row["averaging"] = self.row["averaging"]
        elif selection != "last" and "selection" in self.row:
            row["selection"] = {name: part for name, part in self.row["selection"].items() if name != "rules"}
        return row

    @property
    def short(self) -> str:
        """For folders' names: stands for setting and row, whatever the seed."""
        return digest([self.task, self.setting, self.domains, self.row, list(self.teachers)])[:6]

    @property
    def kind(self) -> dict[str, Any]:
        """What this run is as a teacher, whatever its seed."""
        return {"setting": self.setting, "domains": self.domains, "row": self.row}

    def differences(self, other: "Identity") -> list[str]:
        """Every key in which two runs differ, as ``key=mine (yours)``; versions do not count."""
        mine, theirs = (flatten(_plain(identity)) for identity in (self, other))
        keys = [key for key in {**mine, **theirs} if not key.startswith("versions")]
        return [
            f"{key}={theirs.get(key, 'absent')} (there: {mine.get(key, 'absent')})"
            for key in keys
            if mine.get(key, "absent") != theirs.get(key, "absent")
        ]

    def to_json(self) -> str:
        """The text of ``identity.json``."""
        return json.dumps({"format": FORMAT, "key": self.key, **_plain(self)}, indent=1) + "\n"


def _plain(identity: Identity) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(identity)))
    return plain


_SCHEMA = pydantic.TypeAdapter(Identity)


def read_identity(path: Path) -> Identity | None:
    """What ``identity.json`` says, ``None`` where there is none: a run of before there were identities.

    Raises:
        InputError: the file is not one, is of a later version, or does not fit its own key.
    """
    if not path.exists():
        return None
    try:
        values = json.loads(read_text(path))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise InputError(f"{path} is not an identity of format {FORMAT}; a later kdshift may have written it")
        key = values.pop("key", None)
        values.pop("format")
        identity = _SCHEMA.validate_python(values, strict=False)
        found = identity.key
    except (ValueError, RecursionError, pydantic.ValidationError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a run's identity ({' '.join(str(error).split())[:200]})") from error
    if found != key:
        raise InputError(f"{path} does not fit its key {str(key)[:40]!r}; it was changed after it was written")
    return identity
