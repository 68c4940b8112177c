"""The whole comparison of some runs: a table per setting, one over targets, and what to be wary of."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from common.errors import InputError
from common.evaluation.statistics import Interval
from common.report.comparison import compare, correct
from common.report.estimates import resample, score
from common.report.results import REFERENCE, Domain, Result, collect
from common.report.rows import FEW_SEEDS, Row
from common.report.settings import Setting, settings

DomainScores = dict[Domain, tuple[float, Interval | None]]


@dataclasses.dataclass(frozen=True)
class SettingTable:
    """One setting: a row per method, and each method's score on each domain with its 95 % interval."""

    setting: Setting
    rows: Sequence[Row]
    domains: Mapping[str, DomainScores]


@dataclasses.dataclass(frozen=True)
class TargetsTable:
    """Several settings that differ in their target, aggregated."""

    settings: Sequence[Setting]
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        """The family of settings in one line."""
        first = self.settings[0]
        return f"{first.task} · all {len(self.settings)} targets · {first.network}"


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
        reference: Label of the method that the others are compared with, such as ``kd`` or ``erm (averaged)``.
        resamples: Resamples behind every interval.
        seed: Seed of the resampling; the same runs give the same numbers.

    Raises:
        InputError: as :func:`common.report.results.collect`, or another reference than plain training that no run
            has.
    """
    collection = collect(paths)
    labels = sorted({result.label for result in collection.results})
    if reference not in (REFERENCE, *labels):  # without erm there are no differences, and a note says so
        raise InputError(f"there is no run of {reference!r} to compare with; there are: {', '.join(labels)}")
    families: dict[tuple[str, str, str], list[Setting]] = {}
    for setting in settings(collection.results, reference):
        families.setdefault((setting.task, setting.network, setting.metric), []).append(setting)
    tables: list[SettingTable] = []
    over_targets = []
    for family in families.values():
        drawn = [
            resample(setting, setting.unseen, resamples=resamples, seed=seed + index)
            for index, setting in enumerate(family)  # targets are drawn independently of each other
        ]
        rows = correct([compare([part]) for part in drawn])
        tables += [
            SettingTable(setting, own, _domain_scores(setting, resamples, seed))
            for setting, own in zip(family, rows, strict=True)
        ]
        if len({setting.target for setting in family}) > 1:
            over_targets.append(TargetsTable(family, compare(drawn)))
    notes = [*_all_notes(tables), *_balance_notes(over_targets)]
    return Analysis(reference, tables, over_targets, notes, collection.skipped, resamples)


def _domain_scores(setting: Setting, resamples: int, seed: int) -> dict[str, DomainScores]:
    result: dict[str, DomainScores] = {label: {} for label in setting.methods}
    for domain in setting.domains:
        part = resample(setting, [domain], resamples=resamples, seed=seed)
        for label in setting.methods:
            found = score(label, [part])
            result[label][domain] = (found.value, found.interval)
    return result


def _all_notes(tables: Sequence[SettingTable]) -> list[str]:
    """Every note once, with the settings it is about."""
    about: dict[str, list[str]] = {}
    for table in tables:
        for note in (*_seed_notes(table), *_setting_notes(table), *_compute_notes(table.setting)):
            about.setdefault(note, []).append(f"{table.setting.task} · {table.setting.target}")
    return [f"{', '.join(dict.fromkeys(where))}: {note}" for note, where in about.items()]


def _balance_notes(tables: Sequence[TargetsTable]) -> Iterator[str]:
    for table in tables:
        compared = any(setting.has_reference for setting in table.settings)
        uneven = [row.label for row in table.rows if compared and row.difference is None and not row.is_reference]
        if uneven:
            yield (
                f"{table.title}: {', '.join(uneven)} and {table.settings[0].reference} have other numbers of seeds on "
                "some targets, so no difference over targets; train the missing ones"
            )


def _seed_notes(table: SettingTable) -> Iterator[str]:
    seeds = {row.label: row.seeds for row in table.rows}
    single = [label for label, count in seeds.items() if count == 1]
    few = [label for label, count in seeds.items() if 1 < count < FEW_SEEDS]
    if single:
        yield (
            f"{', '.join(single)} ran with one seed, and one seed proves nothing: intervals cover the choice of test "
            "items only; train with more seeds"
        )
    if few:
        yield (
            f"{', '.join(few)} ran with fewer than {FEW_SEEDS} seeds; intervals are wide, and right only if scores are "
            "normal over seeds"
        )


def _setting_notes(table: SettingTable) -> Iterator[str]:
    setting = table.setting
    if not setting.has_reference:
        yield (
            f"no finished run of {setting.reference}, so no differences; train one with the same network, domains, "
            f"seeds and steps{' (method=erm)' if setting.reference == REFERENCE else ''}"
        )
    if not setting.unseen:
        yield "the runs share no unseen domain; evaluate them on the same ones"
    without = [label for label, scores in table.domains.items() if any(scores[d][1] is None for d in setting.unseen)]
    if without:
        yield (
            f"no intervals for {', '.join(without)}: items.npz is missing or does not give the recorded scores; "
            "evaluate those runs again"
        )
    measured = {frozenset(domain for domain in result.scores if not domain.seen) for result in setting.results()}
    if len(measured) > 1:
        yield "not every run was measured on the same unseen domains; only shared ones are compared"


def _compute_notes(setting: Setting) -> Iterator[str]:
    steps = {label: sorted({run.last.steps for run in runs.values()}) for label, runs in setting.methods.items()}
    if len({step for values in steps.values() for step in values}) > 1:
        budgets = ", ".join(f"{label} {' / '.join(f'{step:,}' for step in values)}" for label, values in steps.items())
        yield f"step budgets differ, this is no comparison at equal compute ({budgets})"
    if mixed := _mixed_versions(setting.results()):
        yield f"runs come from different versions ({', '.join(mixed)})"


def _mixed_versions(results: Iterable[Result]) -> list[str]:
    versions: dict[str, set[str]] = {}
    for result in results:
        for name, version in result.last.versions.items():
            versions.setdefault(name, set()).add(str(version))
    return [f"{name} {' / '.join(sorted(found))}" for name, found in sorted(versions.items()) if len(found) > 1]
