"""What was measured beside the headline: a number a run, compared with the reference seed by seed."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from common.evaluation.conditions import Condition, condition
from common.evaluation.statistics import Interval, paired_interval
from common.report.results import Domain, Result
from common.report.settings import Setting
from common.report.table import NOTHING
from common.runs.metrics import metric
from common.runs.records import fraction_filtered

Numbers = Mapping[str, Mapping[int, float]]
"""Label → seed → the number."""


@dataclasses.dataclass(frozen=True)
class Extra:
    """One number of a row.

    Attributes:
        name: What it is called, for people.
        mean: Over seeds.
        difference: To the reference, the mean over the seeds that both have; ``None`` for the reference or without.
        interval: 95 % interval of it, Student's; ``None`` below two common seeds.
        is_fraction: Whether it is shown in per cent.
        higher_is_better: The direction; ``None`` where there is none.
    """

    name: str
    mean: float
    difference: float | None
    interval: Interval | None
    is_fraction: bool = True
    higher_is_better: bool | None = True

    def shown(self, value: float, signed: bool = False) -> str:
        """A value of this number, for people."""
        if not math.isfinite(value):
            return NOTHING
        scale, decimals = (100.0, 1) if self.is_fraction else (1.0, 3)
        return f"{round(scale * value, decimals) + 0.0:{'+' if signed else ''}.{decimals}f}"


@dataclasses.dataclass(frozen=True)
class Column:
    """A number that rows have.

    Attributes:
        name: For people.
        of: From a run to the number, ``None`` where it was not measured.
        is_fraction: As in :class:`Extra`.
        higher_is_better: As there.
    """

    name: str
    of: Callable[[Result], float | None]
    is_fraction: bool = True
    higher_is_better: bool | None = True


def table(setting: Setting, columns: Sequence[Column]) -> dict[str, list[Extra]]:
    """Label → its numbers, one a column; without rows and columns that have none."""
    found = {column.name: _numbers(setting, column) for column in columns}
    kept = [column for column in columns if any(found[column.name].values())]
    labels = [label for label in setting.methods if any(found[column.name][label] for column in kept)]
    return {label: [_extra(setting, column, found[column.name], label) for column in kept] for label in labels}


def _numbers(setting: Setting, column: Column) -> dict[str, dict[int, float]]:
    return {
        label: {seed: value for seed, result in runs.items() if (value := column.of(result)) is not None}
        for label, runs in setting.methods.items()
    }


def _extra(setting: Setting, column: Column, numbers: Numbers, label: str) -> Extra:
    own, theirs = numbers[label], numbers.get(setting.reference, {})
    mean = float(np.mean(list(own.values()))) if own else float("nan")
    both = sorted(set(own) & set(theirs)) if label != setting.reference else []
    differences = [own[seed] - theirs[seed] for seed in both]
    return Extra(
        column.name,
        mean,
        float(np.mean(differences)) if differences else None,
        paired_interval(differences),
        column.is_fraction,
        column.higher_is_better,
    )


def domains(setting: Setting) -> list[tuple[str, Sequence[Domain]]]:
    """The headline's domains and those that were trained on, by the words for them."""
    return [("unseen", setting.unseen), ("seen", setting.seen)]


def under(result: Result, where: Sequence[Domain], name: str) -> dict[Condition, float]:
    """Condition → a metric, the mean over domains that it was measured on under that condition."""
    found: dict[Condition, list[float]] = {}
    for row in result.measures:
        if row.metric != name or Domain(row.domain, row.seen) not in where:
            continue
        if (done := condition(row.condition)) is not None:
            found.setdefault(done, []).append(row.value)
    return {done: float(np.mean(values)) for done, values in found.items()}


def robustness(setting: Setting) -> dict[str, list[Extra]]:
    """Under all corruptions that were measured: the mean, what is lost of the score without, and the worst one.

    ``kept`` is the corrupted score over that of the same items as they are.
    """
    name = setting.metric

    def corrupted(result: Result, where: Sequence[Domain]) -> tuple[float, list[float]] | None:
        found = {done: value for done, value in under(result, where, name).items() if done.kind == "corruption"}
        clean = found.pop(Condition("corruption", "none"), None)
        return (clean, list(found.values())) if clean is not None and found else None

    columns: list[Column] = []
    for word, where in domains(setting):

        def clean(result: Result, where: Sequence[Domain] = where) -> float | None:
            found = corrupted(result, where)
            return None if found is None else found[0]

        def mean(result: Result, where: Sequence[Domain] = where) -> float | None:
            found = corrupted(result, where)
            return None if found is None else float(np.mean(found[1]))

        def kept(result: Result, where: Sequence[Domain] = where) -> float | None:
            found = corrupted(result, where)
            return None if found is None or found[0] <= 0 else float(np.mean(found[1])) / found[0]

        measure = metric(name)
        columns += [
            Column(f"{word}, as it is", clean, measure.is_fraction, measure.higher_is_better),
            Column(f"{word}, corrupted", mean, measure.is_fraction, measure.higher_is_better),
            Column(f"{word}, kept", kept),
        ]
    return table(setting, columns)


def attacked(setting: Setting) -> dict[str, list[Extra]]:
    """Scores on unseen domains under each attack at its smallest and its largest radius, beside those without."""
    found = {
        done
        for result in setting.results()
        for done in under(result, setting.unseen, setting.metric)
        if done.kind == "attack"
    }
    columns, measure = [], metric(setting.metric)
    for name in sorted({done.name for done in found}):
        radii = sorted({done.strength for done in found if done.name == name}, key=float)
        reached = [radius for radius in radii if float(radius)]
        for radius in dict.fromkeys([*radii[:1], *reached[:1], *reached[-1:]]):

            def of(result: Result, told: Condition = Condition("attack", name, radius)) -> float | None:  # noqa: B008
                return under(result, setting.unseen, setting.metric).get(told)

            columns.append(Column(f"{name}, radius {radius}", of, measure.is_fraction, measure.higher_is_better))
    return table(setting, columns)


def unknown(setting: Setting) -> dict[str, list[Extra]]:
    """How well each score detects what is unknown."""
    rows = [row for result in setting.results() for row in result.measures]
    kinds = sorted(
        {(done, row.metric) for row in rows if (done := condition(row.condition)) and done.kind == "unknown"}
    )
    columns = []
    for done, name in kinds:
        measured, score = name.split("/", 1)

        def of(result: Result, told: str = str(done), name: str = name) -> float | None:
            return next((row.value for row in result.measures if (row.condition, row.metric) == (told, name)), None)

        heading = f"{done.name}: {measured.upper()} {score.replace('_', ' ')}"
        columns.append(Column(heading, of, True, measured != "fpr95"))
    return table(setting, columns)


_WHY = {
    "teacher_agreement": ("agrees with the teacher", True, None),
    "flatness": ("loss rises around the weights", False, False),
    "confidence_return": ("confidence and return, rank correlation", False, None),
    "information/labels": ("nats known of labels", False, None),
    "information/domains": ("nats known of domains", False, None),
    "probe/domains": ("domains told apart", True, None),
}


def why(setting: Setting) -> dict[str, list[Extra]]:
    """What explains the scores, as far as it was measured."""

    def travelled(result: Result) -> float | None:
        return next((row.value for row in result.progress if row.metric == "weight_distance"), None)

    columns = [
        Column("way of the weights", travelled, False, None),
        Column("filtered", lambda result: fraction_filtered(result.progress), True, None),
    ]
    for name, (title, is_fraction, better) in _WHY.items():
        for word, where in domains(setting):

            def of(result: Result, where: Sequence[Domain] = where, name: str = name) -> float | None:
                found = [value for done, value in under(result, where, name).items() if done.kind == "analysis"]
                return found[0] if found else None

            columns.append(Column(f"{title}, {word}", of, is_fraction, better))
    return table(setting, columns)


def calibration(setting: Setting) -> dict[str, list[Extra]]:
    """Calibration on unseen domains, as it is and at the temperature that source validation gives."""
    columns = []
    for name in ("ece", "ece_equal_mass", "nll", "brier", "ece_scaled", "nll_scaled"):

        def of(result: Result, name: str = name) -> float | None:
            values = [result.scores[domain].get(name) for domain in setting.unseen]
            known = [value for value in values if value is not None]
            return float(np.mean(known)) if known and len(known) == len(values) else None

        measure = metric(name)
        columns.append(Column(measure.title, of, measure.is_fraction, False))
    return table(setting, columns)
