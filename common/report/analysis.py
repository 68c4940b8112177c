"""The whole comparison of some runs: a table per setting, one over targets, and what to be wary of."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from common.errors import InputError
from common.report.comparison import compare, correct
from common.report.estimates import resample, score
from common.report.families import Family, families
from common.report.labels import Named, suffixes
from common.report.notes import all_notes, balance_notes
from common.report.results import REFERENCE, collect
from common.report.rows import DomainScores, SettingTable, TargetsTable
from common.report.settings import Setting
from common.runs.identity import digest


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Everything that the terminal, the CSV file and the page show."""

    reference: str
    tables: Sequence[SettingTable]
    over_targets: Sequence[TargetsTable]
    notes: Sequence[str]
    skipped: Sequence[str]
    resamples: int


def analyse(
    paths: Iterable[str | Path], *, reference: str = REFERENCE, resamples: int = 2000, seed: int = 0
) -> Analysis:
    """Read runs and compare them.

    Args:
        paths: Folders of runs.
        reference: The row that the others are compared with: its label, such as ``kd [weight=0.1]``, or the name of
            its method where one row of a setting has it, such as ``kd`` or ``erm (averaged)``.
        resamples: Resamples behind every interval.
        seed: Seed of the resampling; the same runs give the same numbers.

    Raises:
        InputError: as :func:`common.report.results.collect`, another reference than plain training that no run
            has, or one that may be several rows wherever there is one.
    """
    collection = collect(paths)
    found = families(collection.results, reference)
    _check_reference(reference, [setting for family in found for setting in family.settings])
    tables: list[SettingTable] = []
    over_targets: list[TargetsTable] = []
    for family in found:
        own, over = _compare(family, resamples, seed)
        tables += own
        over_targets += over
    over_targets = _told_apart(over_targets)
    notes = [*all_notes(tables), *balance_notes(over_targets), *_repeated_notes(found)]
    return Analysis(reference, tables, over_targets, notes, collection.skipped, resamples)


def _check_reference(wanted: str, settings: Sequence[Setting]) -> None:
    if any(setting.has_reference for setting in settings):
        return
    if candidates := sorted({label for setting in settings for label in setting.candidates}):
        raise InputError(f"--reference={wanted} may be any of these: {', '.join(candidates)}; give one of them")
    if wanted != REFERENCE:  # without erm there are no differences, and a note says so
        listing = ", ".join(sorted({label for setting in settings for label in setting.methods}))
        raise InputError(f"there is no run of {wanted!r} to compare with; there are: {listing}")


def _compare(family: Family, resamples: int, seed: int) -> tuple[list[SettingTable], list[TargetsTable]]:
    drawn = {
        id(setting): resample(setting, setting.unseen, resamples=resamples, seed=seed + index)
        for index, setting in enumerate(family.settings)  # targets are drawn independently of each other
    }
    rows = correct([compare([drawn[id(setting)]]) for setting in family.settings])
    tables = [
        SettingTable(setting, own, _domain_scores(setting, resamples, seed))
        for setting, own in zip(family.settings, rows, strict=True)
    ]
    over = []
    for settings in family.over_targets:
        (together,) = correct([compare([drawn[id(setting)] for setting in settings])])
        over.append(TargetsTable(settings, together))
    return tables, over


def _domain_scores(setting: Setting, resamples: int, seed: int) -> dict[str, DomainScores]:
    result: dict[str, DomainScores] = {label: {} for label in setting.methods}
    for domain in setting.domains:
        part = resample(setting, [domain], resamples=resamples, seed=seed)
        for label in setting.methods:
            found = score(label, [part])
            result[label][domain] = (found.value, found.interval)
    return result


def _told_apart(tables: Sequence[TargetsTable]) -> list[TargetsTable]:
    apart = suffixes({index: _named(table) for index, table in enumerate(tables)})
    return [dataclasses.replace(table, differs=apart[index]) for index, table in enumerate(tables)]


def _named(table: TargetsTable) -> Named:
    first, *others = (setting.leaves for setting in table.settings)
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    return Named(table.name, shared, digest([setting.title for setting in table.settings]))


def _repeated_notes(found: Iterable[Family]) -> Iterator[str]:
    for family in found:
        if family.repeated:
            titles = "; ".join(setting.title for setting in family.settings)
            yield f"not all of these are aggregated over targets, because targets occur more than once: {titles}"
