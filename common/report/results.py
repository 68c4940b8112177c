"""Read runs' folders into results: what one run scored with one choice of weights.

Only :mod:`common.records` is read, never a checkpoint or a configuration.
"""

import dataclasses
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from common.errors import InputError
from common.records import Record, Run, find_runs, item_key

MAIN_METRICS: Mapping[str, Sequence[str]] = {"seg": ("miou",), "rl": ("normalized_return", "return")}
"""What each task is judged by: the first of these that every run has."""

REFERENCE = "erm"
"""What all others are compared with unless told otherwise: plain training, its last weights."""


class Domain(NamedTuple):
    """A domain something was measured on, and whether training saw it."""

    name: str
    seen: bool


@dataclasses.dataclass(frozen=True)
class Result:
    """One run, judged with one choice of weights.

    Attributes:
        path: The run's folder.
        last: A record of its test; task, method, seed, target, steps, seconds and versions stand there.
        scores: Domain → metric → value: the test, or the validation for seen domains where no test saw one.
        counts: Domain → number of images or episodes.
        progress: The records made during training, in the order of steps.
        items: Arrays of ``items.npz`` that belong to these weights, under the keys of :func:`common.records.item_key`.
    """

    path: Path
    last: Record
    scores: Mapping[Domain, Mapping[str, float]]
    counts: Mapping[Domain, int]
    progress: Sequence[Record]
    items: Mapping[str, NDArray[Any]]

    @property
    def label(self) -> str:
        """The method's name, with the choice of weights unless it is the last ones."""
        return self.last.method if self.last.selection == "last" else f"{self.last.method} ({self.last.selection})"

    def array(self, name: str, domain: Domain) -> NDArray[Any] | None:
        """An array of ``items.npz``, or ``None``."""
        return self.items.get(item_key(name, domain.name, domain.seen))


@dataclasses.dataclass(frozen=True)
class Collection:
    """All results found, and what was left out or is doubtful, one line each."""

    results: Sequence[Result]
    skipped: Sequence[str]


def collect(paths: Iterable[str | Path]) -> Collection:
    """Read every run at or below ``paths``.

    Unfinished runs, runs without the task's main metric and second runs of the same method, seed and setting are
    skipped and named.

    Raises:
        InputError: if a path does not exist, holds no run, no *finished* run, or a broken file.
    """
    results: list[Result] = []
    skipped: list[str] = []
    seen: dict[tuple[object, ...], Path] = {}
    for run in find_runs(paths):
        found = _results(run)
        if not found:
            skipped.append(f"{run.path}: not finished (no test recorded)")
        for result in found:
            row = result.last
            identity = (row.task, row.target, tuple(row.source), row.network, result.label, row.seed)
            if not _has_main_metric(result):
                names = " or ".join(MAIN_METRICS[row.task])
                skipped.append(f"{run.path}: no {names} was tested on an unseen domain")
            elif identity in seen:
                skipped.append(f"{run.path}: {result.label} with seed {row.seed} is already there ({seen[identity]})")
            else:
                seen[identity] = run.path
                results.append(result)
    if not results:
        raise InputError(f"no finished run to report ({'; '.join(skipped)})")
    return Collection(results, skipped)


def _results(run: Run) -> list[Result]:
    records = _checked_records(run)
    tests = [record for record in records if record.split == "test"]
    if not tests:
        return []
    selections = sorted({record.selection for record in tests}, reverse=True)
    items = _read_items(run)
    return [_result(run, records, selection, _items_of(items, selection, selections)) for selection in selections]


def _result(run: Run, records: Sequence[Record], selection: str, items: Mapping[str, NDArray[Any]]) -> Result:
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
    return Result(run.path, tests[-1], scores, counts, progress, items)


def _items_of(
    items: Mapping[str, NDArray[Any]], selection: str, selections: Sequence[str]
) -> Mapping[str, NDArray[Any]]:
    """Arrays that belong to one choice of weights, under the plain keys."""
    marked = f"|{selection}"
    own = {key.removesuffix(marked): value for key, value in items.items() if key.endswith(marked)}
    mine = selection == "last" or len(selections) == 1  # unmarked scores belong to the only weights, or to the last
    plain = {
        key: value
        for key, value in items.items()
        if key.count("|") <= 2 and (mine or key.split("|")[0] not in ("confusion", "return", "prediction"))
    }
    return plain | own


def _checked_records(run: Run) -> list[Record]:
    try:
        records = list(run.records())
    except UnicodeDecodeError as error:
        raise InputError(f"{run.record_path} is not a text file ({error.reason})") from error
    for number, record in enumerate(records, start=1):
        numbers = (record.value, record.seconds, record.steps, record.seed, record.n)
        texts = (record.method, record.target, record.domain, record.metric, record.selection, record.network)
        if not all(_is_number(value) for value in numbers) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{run.record_path}:{number} is not a record (a field has the wrong type)")
        if record.task not in MAIN_METRICS:
            known = ", ".join(MAIN_METRICS)
            raise InputError(f"{run.record_path}:{number} has task={record.task!r}; known are: {known}")
    return records


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_items(run: Run) -> dict[str, NDArray[Any]]:
    try:
        return run.items()
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{run.items_path} cannot be read ({str(error).splitlines()[0]})") from error


def _has_main_metric(result: Result) -> bool:
    names = MAIN_METRICS[result.last.task]
    return any(
        math.isfinite(scores[name])
        for domain, scores in result.scores.items()
        if not domain.seen
        for name in names
        if name in scores
    )
