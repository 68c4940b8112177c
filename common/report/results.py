"""Read runs' folders into results: what one run scored with one choice of weights.

Only :mod:`common.runs` is read, never a checkpoint or a configuration. A run that cannot be used is passed over and
named; it never keeps others from being read.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from common.errors import InputError
from common.runs.folder import Run
from common.runs.identity import Identity, flatten
from common.runs.items import Key, split_key
from common.runs.metrics import TASKS
from common.runs.records import Record
from common.runs.search import find_runs
from common.text import clipped

REFERENCE = "erm"
"""What all others are compared with unless told otherwise: plain training, its last weights."""

# Arrays that are of certain weights, where others are of what they are judged on.
_SCORED = ("confusion", "return", "prediction", "calibration", "clip")
_LONGEST_REASON = 400
_MOST_REASONS = 5


class Domain(NamedTuple):
    """A domain something was measured on, and whether training saw it."""

    name: str
    seen: bool


@dataclasses.dataclass(frozen=True)
class Result:
    """One run, judged with one choice of weights.

    Attributes:
        path: The run's folder.
        identity: What the run is; ``None`` for one of before there were identities.
        last: A record of its test; task, method, seed, target, steps, seconds and versions stand there.
        scores: Domain → metric → value: the test, or the validation for seen domains where no test saw one.
        counts: Domain → number of images or episodes.
        progress: The records made during training, in the order of steps.
        items: Arrays of ``items.npz`` that belong to these weights, under the keys of the last weights.
        idle: What of the run's method never acted, a line each.
        measures: What was measured beside the test, under conditions; of one condition, the latest.
    """

    path: Path
    identity: Identity | None
    last: Record
    scores: Mapping[Domain, Mapping[str, float]]
    counts: Mapping[Domain, int]
    progress: Sequence[Record]
    items: Mapping[Key, NDArray[Any]]
    idle: Sequence[str] = ()
    measures: Sequence[Record] = ()

    @property
    def name(self) -> str:
        """The method's name, with the choice of weights unless it is the last ones."""
        return self.last.method if self.last.selection == "last" else f"{self.last.method} ({self.last.selection})"

    @property
    def setting_key(self) -> str:
        """Equal where a comparison is fair, as far as the identity says; empty without one."""
        return "" if self.identity is None else self.identity.setting_key

    @property
    def row_key(self) -> str:
        """Equal for runs that repeat each other, as far as the identity says; empty without one."""
        return "" if self.identity is None else self.identity.row_key(self.last.selection)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Hash of each teacher's weights."""
        return () if self.identity is None else tuple(self.identity.teachers)

    def array(self, name: str, domain: Domain) -> NDArray[Any] | None:
        """An array of ``items.npz``, or ``None``."""
        return self.items.get(Key(name, *domain))


@dataclasses.dataclass(frozen=True)
class Collection:
    """All results found, and what was left out, one line each."""

    results: Sequence[Result]
    skipped: Sequence[str]


def collect(paths: Iterable[str | Path]) -> Collection:
    """Read every run at or below ``paths``.

    Skipped and named are: runs that are not finished, runs with broken files, runs without the task's main metric, and
    runs that are there already.

    Raises:
        InputError: if a path does not exist, holds no run, or no run that can be used.
    """
    found = find_runs(paths)
    results: list[Result] = []
    skipped = list(found.passed_over)
    for run in found.runs:
        try:
            read = _read(run)
        except (InputError, OSError, RecursionError) as error:
            skipped.append(_line(run, error))
            continue
        results += [result for result in read if _has_main_metric(result)]
        skipped += [_without_metric(result) for result in read if not _has_main_metric(result)]
    kept, again = _without_repetitions(results)
    skipped += again
    if not kept:
        more = f"; and {len(skipped) - _MOST_REASONS} more" if len(skipped) > _MOST_REASONS else ""
        raise InputError(f"no finished run to report ({'; '.join(skipped[:_MOST_REASONS])}{more})")
    return Collection(kept, skipped)


def _line(run: Run, error: Exception) -> str:
    said = "identity.json is nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
    reason = clipped(said, _LONGEST_REASON)
    return reason if str(run.path) in reason else f"{run.path}: {reason}"


def _read(run: Run) -> list[Result]:
    """The results of a run.

    Raises:
        InputError: it is not finished, or its files are broken or contradict each other.
    """
    status = run.status()
    if status is None:
        raise InputError(f"{run.path}: nothing says that it is finished: status.json and config.yaml are missing")
    if status.stage != "finished":
        done = f"{status.steps:,} of {status.of:,} steps" if status.of else "no test recorded"
        raise InputError(f"{run.path}: not finished ({status.stage}, {done})")
    identity, records = run.identity(), run.records()
    _check_one_run(run.record_path, identity, records, records)
    tests = [record for record in records if record.split == "test"]
    if not tests:
        raise InputError(f"{run.path}: finished, but no test is recorded")
    if identity is not None:
        flatten([identity.row, identity.setting, identity.domains])  # too deep is found here, where the run is known
    selections = sorted({record.selection for record in tests}, reverse=True)
    items = {key: array for text, array in run.items().items() if (key := split_key(text)) is not None}
    results = [_result(run, identity, records, one, _items_of(items, one, selections)) for one in selections]
    further = run.measures()
    _check_one_run(run.measures_path, identity, further, records)
    return [
        dataclasses.replace(result, idle=status.idle, measures=_latest(further, result.last.selection))
        for result in results
    ]


def _latest(rows: Sequence[Record], selection: str) -> list[Record]:
    """Of what was measured twice, on more items perhaps, the last."""
    found = {(row.condition, row.domain, row.seen, row.metric): row for row in rows if row.selection == selection}
    return list(found.values())


def _check_one_run(path: Path, identity: Identity | None, rows: Sequence[Record], records: Sequence[Record]) -> None:
    """Raise unless rows of a file are of the run that its identity and its records are of."""
    own = "" if identity is None else identity.key
    for number, row in enumerate(rows, start=1):
        if row.identity != own:
            raise InputError(f"{path}:{number} is not of the run that identity.json describes")
        if _described(row) != _described(records[0]):
            raise InputError(f"{path}:{number} is of another run than its records")
    if identity is not None and rows and (identity.task, identity.seed) != (rows[0].task, rows[0].seed):
        raise InputError(f"{path} has another task or seed than identity.json")


def _described(record: Record) -> tuple[object, ...]:
    return (record.task, record.method, record.seed, record.network, record.target, tuple(record.source))


def _result(
    run: Run, identity: Identity | None, records: Sequence[Record], selection: str, items: Mapping[Key, NDArray[Any]]
) -> Result:
    mine = [record for record in records if record.selection == selection]
    tests = [record for record in mine if record.split == "test"]
    if not any(record.seen for record in tests):
        tests = [record for record in mine if record.split == "validation" and record.seen] + tests
    scores: dict[Domain, dict[str, float]] = {}
    counts: dict[Domain, int] = {}
    for record in tests:  # a later row replaces an earlier one: a run may have been tested again
        domain = Domain(record.domain, record.seen)
        scores.setdefault(domain, {})[record.metric] = record.value
        counts[domain] = record.n
    progress = sorted((record for record in mine if record.split == "progress"), key=lambda record: record.steps)
    return Result(run.path, identity, tests[-1], scores, counts, progress, items)


def _items_of(
    items: Mapping[Key, NDArray[Any]], selection: str, selections: Sequence[str]
) -> Mapping[Key, NDArray[Any]]:
    """Arrays that belong to one choice of weights, under the keys of the last ones."""
    own = {key._replace(selection="last"): array for key, array in items.items() if key.selection == selection}
    mine = selection == "last" or len(selections) == 1  # unmarked scores belong to the only weights, or to the last
    plain = {
        key: array for key, array in items.items() if key.selection == "last" and (mine or key.name not in _SCORED)
    }
    return plain | own


def _has_main_metric(result: Result) -> bool:
    names = TASKS[result.last.task].judged_by
    return any(name in scores for domain, scores in result.scores.items() if not domain.seen for name in names)


def _without_metric(result: Result) -> str:
    names = " or ".join(TASKS[result.last.task].judged_by)
    return f"{result.path}: no {names} of {result.name} was tested on an unseen domain"


def _without_repetitions(results: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """Every run once, and lines on the others; of equal trainings the one without averaging stays."""
    kept: dict[tuple[object, ...], Result] = {}
    lines = []
    for result in sorted(results, key=lambda one: one.identity is not None and "averaging" in one.identity.row):
        row = result.last
        place = (row.task, row.target, tuple(row.source), row.network)
        key = (*place, result.setting_key, result.row_key, row.method, row.selection, row.seed, result.teachers)
        first = kept.setdefault(key, result)
        if first is not result:
            lines.append(f"{result.path}: {_repetition(result, first)}")
    order = {id(result): position for position, result in enumerate(results)}
    return sorted(kept.values(), key=lambda one: order[id(one)]), lines


def _repetition(result: Result, first: Result) -> str:
    seed = result.last.seed
    if result.identity is None or first.identity is None:
        return f"{result.name} with seed {seed} is already there ({first.path})"
    if result.identity.key == first.identity.key:
        return f"{result.name} with seed {seed} is the same run as {first.path}"
    return (
        f"{result.name} with seed {seed} is the same training as {first.path}: they differ in averaging alone, "
        "which does not touch the last weights"
    )
