"""From results to families of settings: which runs are one row, what a row is called, what may be aggregated.

Settings of one family differ in their domains alone. A row is the same row on all of its targets, see
:mod:`common.report.content`.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence

from common.report.content import content
from common.report.labels import Leaves, Named, labels, suffixes
from common.report.results import Result
from common.report.settings import Setting, make_setting
from common.runs.identity import digest, flatten

_ClassKey = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Family:
    """Settings of one task, network and metric that differ in their domains alone.

    Attributes:
        settings: All of them.
        over_targets: Groups of them with one setting a target, to be aggregated over their targets.
        repeated: Whether targets occur more than once, with nothing that says which of them belong together.
    """

    settings: Sequence[Setting]
    over_targets: Sequence[Sequence[Setting]]
    repeated: bool = False


class _Row:
    """Runs of one setting that differ in nothing but the seed.

    Args:
        results: The runs.
        split: Whether seeds recurred with other teachers, so that the teachers' hashes tell rows apart.
    """

    def __init__(self, results: Sequence[Result], split: bool = False) -> None:
        self.results = results
        first = results[0]
        own = content(first)
        apart = first.teachers if split else ()
        hashes = {f"teachers.{number}.sha256": one[:12] for number, one in enumerate(apart)}
        self.leaves: Leaves = {**flatten(own), **hashes}
        # What it is on any target; the selection stands in the name too, but names can be made alike.
        self.anywhere: _ClassKey = (first.last.method, first.last.selection, digest(own), *apart)
        self.here: _ClassKey = (*self.anywhere, first.row_key)


def families(results: Sequence[Result], wanted: str) -> list[Family]:
    """Sort results into families of settings.

    Args:
        results: Runs of any settings.
        wanted: The row that others are compared with: its label, or its method's name where that says which.

    """
    grouped: dict[tuple[str, ...], dict[str, list[Result]]] = {}
    for result in sorted(results, key=_place):
        row = result.last
        family = "" if result.identity is None else result.identity.family_key
        place = json.dumps([row.target, row.source, result.setting_key])
        grouped.setdefault((row.task, row.network, family), {}).setdefault(place, []).append(result)
    found = [part for own in grouped.values() for part in _by_metric(_settings(list(own.values()), wanted))]
    apart = _apart([setting for part in found for setting in part])
    return [_family([dataclasses.replace(setting, differs=apart[id(setting)]) for setting in part]) for part in found]


def _place(result: Result) -> tuple[str, ...]:
    row = result.last
    return (row.task, row.network, row.target, *row.source, "", result.setting_key, result.name)


def _by_metric(settings: Iterable[Setting]) -> list[list[Setting]]:
    parts: dict[str, list[Setting]] = {}
    for setting in settings:
        parts.setdefault(setting.metric, []).append(setting)
    return list(parts.values())


def _settings(groups: Sequence[Sequence[Result]], wanted: str) -> list[Setting]:
    """The settings of a family, whose rows have the same labels in all of them."""
    rows = [_rows(results) for results in groups]
    clashing = {one for own in rows for one, times in Counter(row.anywhere for row in own).items() if times > 1}
    keys = [[row.here if row.anywhere in clashing else row.anywhere for row in own] for own in rows]
    names = {
        key: Named(row.results[0].name, row.leaves, digest(key))
        for own, row_keys in zip(rows, keys, strict=True)
        for key, row in zip(row_keys, own, strict=True)
    }
    called = labels(names)
    settings = []
    for own, row_keys in zip(rows, keys, strict=True):
        methods = {
            called[key]: {result.last.seed: result for result in row.results}
            for key, row in zip(row_keys, own, strict=True)
        }
        first = own[0].results[0].identity
        leaves = {} if first is None else flatten({"setting": first.setting, "domains": first.domains})
        alike = [called[key] for key in row_keys if names[key].name == wanted]
        reference = alike[0] if len(alike) == 1 and wanted not in methods else wanted
        setting = make_setting(methods, reference, leaves)
        settings.append(dataclasses.replace(setting, candidates=() if setting.has_reference else sorted(alike)))
    return settings


def _rows(results: Iterable[Result]) -> list[_Row]:
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault((result.last.method, result.last.selection, result.row_key), []).append(result)
    rows = []
    for runs in groups.values():
        if len({run.last.seed for run in runs}) == len(runs):
            rows.append(_Row(runs))
            continue
        by_teachers: dict[tuple[str, ...], list[Result]] = {}
        for run in runs:
            by_teachers.setdefault(run.teachers, []).append(run)
        rows += [_Row(own, split=True) for own in by_teachers.values()]
    return rows


def _apart(settings: Sequence[Setting]) -> dict[int, str]:
    """For each setting, by its ``id``, what sets it apart from others of the same name."""
    names = Counter(setting.name for setting in settings)
    known = suffixes({id(one): Named(one.name, one.leaves, one.key) for one in settings if one.key})
    unknown = {id(one): " [recorded before runs had identities]" if names[one.name] > 1 else "" for one in settings}
    return unknown | known


def _family(settings: Sequence[Setting]) -> Family:
    """Aggregate over targets where each occurs once, if need be among settings of the same data."""
    pools: list[list[Setting]] = [list(settings)]
    if repeated := _repeats(settings):
        sorted_out: dict[str, list[Setting]] = {}
        for setting in settings:
            sorted_out.setdefault(_pool(setting), []).append(setting)
        pools = list(sorted_out.values())
    whole = [pool for pool in pools if len(pool) > 1 and not _repeats(pool)]
    several = len({setting.target for setting in settings}) > 1
    return Family(settings, whole, repeated and several and sum(map(len, whole)) < len(settings))


def _repeats(settings: Sequence[Setting]) -> bool:
    return len({setting.target for setting in settings}) < len(settings)


def _pool(setting: Setting) -> str:
    """Equal for settings in which the same domains take turns in being the target."""
    rest = {
        key: value
        for key, value in setting.leaves.items()
        if key.startswith("domains.") and key.split(".")[1] not in ("target", "sources")
    }
    return digest([sorted({setting.target, *setting.source}), rest])
