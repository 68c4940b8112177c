"""What sets rows, or settings, of one name apart: a few of the items that not all of them have."""

import dataclasses
import json
from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from typing import Any, TypeVar

from common.text import clipped, visible

Leaves = Mapping[str, Any]
"""Dotted keys to the values at the leaves, see :func:`common.runs.identity.flatten`."""

_Key = TypeVar("_Key", bound=Hashable)
_Item = tuple[str, str]  # dotted key, value as JSON

_MOST = 3
_LONGEST = 32
# Parts of a dotted key that say nothing of their own.
_STRUCTURE = {"row", "setting", "domains", "teachers"}
# Last parts that say little without the one before.
_VAGUE = {"start", "end", "count", "every", "seed"}


def differences(rows: Mapping[_Key, Leaves]) -> dict[_Key, str]:
    """For each row what it has and not all others have, in words; nothing where it has no such thing.

    All of it where that is little, else as much as sets the row apart, at most three items. Two rows may still come
    to the same words.

    >>> differences({"a": {"kd.weight": 0.1, "kd.rate": 2}, "b": {"kd.weight": 1.0, "kd.rate": 2}})
    {'a': 'weight=0.1', 'b': 'weight=1.0'}
    """
    items = {key: {(place, json.dumps(value)) for place, value in leaves.items()} for key, leaves in rows.items()}
    shared = set.intersection(*items.values()) if items else set()
    own = {key: found - shared for key, found in items.items()}
    short = _short_names({place for found in own.values() for place, _ in found})
    held = Counter(item for found in own.values() for item in found)
    result = {}
    for key, found in own.items():
        others = [theirs for other, theirs in own.items() if other != key]
        chosen = _choose(found, others, held)
        result[key] = ", ".join(f"{short[place]}={_value(place, text)}" for place, text in chosen)
    return result


def _choose(found: Collection[_Item], others: Collection[set[_Item]], held: Mapping[_Item, int]) -> list[_Item]:
    # Names say most, of teachers before those of their teachers; a class says what its arguments say already.
    ranked = sorted(found, key=lambda item: (*_rank(item[0]), held[item], item))
    telling = [item for item in ranked if not item[0].endswith("_target_")]
    chosen = telling if len(telling) <= _MOST else []
    for item in ranked:
        if len(chosen) >= _MOST or (chosen and not any(theirs.issuperset(chosen) for theirs in others)):
            break
        if item not in chosen:
            chosen = [*chosen, item]
    return chosen


def _rank(place: str) -> tuple[bool, bool, int, int]:
    parts = place.split(".")
    return (parts[-1] == "_target_", parts[-1] != "name", parts.count("teachers"), len(parts))


def _short_names(places: Collection[str]) -> dict[str, str]:
    short = {place: _short(place) for place in places}
    times = Counter(short.values())
    return {place: name if times[name] == 1 else visible(place) for place, name in short.items()}


def _short(place: str) -> str:
    parts = place.split(".")
    named = [part for part in parts if part not in _STRUCTURE and not part.isdigit()] or parts
    if parts[-1].isdigit() and len(parts) > 1:
        own = ".".join(parts[-2:])
    elif named[-1] in ("name", "_target_") and len(named) > 1:
        own = named[-2]
    elif len(named) > 1 and (named[-1] in _VAGUE or named[-2] == "files"):
        own = ".".join(named[-2:])
    else:
        own = named[-1]
    return clipped(visible("teacher." * parts.count("teachers") + own), _LONGEST)


def _value(place: str, text: str) -> str:
    value = json.loads(text)
    if not isinstance(value, str):
        return clipped(text, _LONGEST)
    return clipped(visible(value.rsplit(".", 1)[-1] if place.endswith("_target_") else value), _LONGEST)


@dataclasses.dataclass(frozen=True)
class Named:
    """What is to be called by a name that is its alone.

    Attributes:
        name: What it is called where no other is.
        leaves: What it is.
        key: Hexadecimal digits that stand for it.
    """

    name: str
    leaves: Leaves
    key: str


def suffixes(rows: Mapping[_Key, Named]) -> dict[_Key, str]:
    """For each what to put behind its name, so that it is told from others of that name: nothing where it is plain.

    ``[weight=0.1]``, or ``[weight=0.1] #3fa901`` where two come to the same words.
    """
    result: dict[_Key, str] = {}
    for name in dict.fromkeys(row.name for row in rows.values()):
        words = differences({key: row.leaves for key, row in rows.items() if row.name == name})
        times = Counter(words.values())
        for key, own in words.items():
            parts = [f"[{own}]" if own else "", f"#{rows[key].key[:6]}" if times[own] > 1 else ""]
            result[key] = "".join(f" {part}" for part in parts if part)
    return result


def labels(rows: Mapping[_Key, Named]) -> dict[_Key, str]:
    """A name for each that no other has: ``kd``, ``kd [weight=0.1]``."""
    result: dict[_Key, str] = {}
    used: set[str] = set()
    for key, suffix in suffixes(rows).items():
        label = rows[key].name + suffix
        while label in used:  # a name that was made to look like another's label
            label += "'"
        result[key] = label
        used.add(label)
    return result
