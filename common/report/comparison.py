"""Compare methods: rows of the table, with differences to the reference and how sure they are."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from common.evaluation.statistics import (
    holm_known,
    percentile_interval,
    probability_of_improvement,
    standard_error,
)
from common.report.estimates import Part, aggregate, difference, over_runs, score
from common.report.rows import Difference, Row
from common.runs.metrics import metric

_SHORTEST = 1e-6
"""Seconds of training below which no cost is relative to them."""


def compare(parts: Sequence[Part]) -> list[Row]:
    """A row per method over one setting, or aggregated over several that differ in their target.

    Args:
        parts: Settings of one task with their unseen domains' resamples. A method that is missing from some is
            aggregated over those that have it. Over several, there is a difference only to as many runs of the
            reference on each, and only where the reference is the same row on all.
    """
    references = {part.setting.reference for part in parts if part.setting.has_reference}
    reference = next(iter(references)) if len(references) == 1 else None
    labels = sorted(
        {label for part in parts for label in part.setting.methods}, key=lambda one: (one != reference, one)
    )
    return [_row(label, reference, [part for part in parts if label in part.setting.methods]) for label in labels]


def _row(label: str, reference: str | None, parts: Sequence[Part]) -> Row:
    unseen = score(label, parts)
    scores = [part.scores(label) for part in parts]
    return Row(
        label=label,
        is_reference=label == reference,
        seeds=min(len(values) for values in scores),
        targets=len(parts),
        seen=over_runs((part.setting.scores(label, part.setting.seen) for part in parts), aggregate(parts)),
        unseen=unseen.value,
        unseen_interval=unseen.interval,
        unseen_error=float(standard_error(scores[0])) if len(parts) == 1 else float("nan"),
        difference=_difference(label, reference, [part for part in parts if reference in part.setting.methods]),
        cost=_cost(label, parts),
        extra=_extra(label, parts),
    )


def _difference(label: str, reference: str | None, parts: Sequence[Part]) -> Difference | None:
    if not parts or reference is None or label == reference:
        return None
    pairs = [(part.scores(label), part.scores(reference)) for part in parts]
    if len(parts) > 1 and any(len(ours) != len(theirs) for ours, theirs in pairs):
        return None  # targets would weigh otherwise in one than in the other, and that would look like a difference
    found = difference(label, reference, parts)
    higher_is_better = parts[0].setting.measure.higher_is_better
    sign = 1.0 if higher_is_better else -1.0
    probabilities = None
    if found.interval is not None:
        drawn = [(part.resamples[label], part.resamples[reference]) for part in parts]
        improved = [probability_of_improvement(sign * ours, sign * theirs) for ours, theirs in drawn]
        probabilities = percentile_interval(np.mean(improved, axis=0))
    is_oracle = any(part.setting.is_oracle(label) for part in parts)
    p_value = None if is_oracle else found.p_value
    probability = np.mean([probability_of_improvement(sign * ours, sign * theirs) for ours, theirs in pairs])
    return Difference(
        value=found.value,
        interval=found.interval,
        probability=float(probability),
        probability_interval=probabilities,
        p_value=p_value,
        adjusted=p_value,
        fewest_seeds=min(len(scores) for pair in pairs for scores in pair),
        higher_is_better=higher_is_better,
        is_oracle=is_oracle,
    )


def correct(tables: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """Adjust the p-values of all rows for having been asked together (Holm), over methods and targets.

    Args:
        tables: The rows of each target of one family, or of a single table.
    """
    rows = [row for table in tables for row in table]
    adjusted = holm_known([None if row.difference is None else row.difference.p_value for row in rows])
    corrected = iter(
        row
        if row.difference is None
        else dataclasses.replace(row, difference=dataclasses.replace(row.difference, adjusted=value))
        for row, value in zip(rows, adjusted, strict=True)
    )
    return [[next(corrected) for _ in table] for table in tables]


def _cost(label: str, parts: Sequence[Part]) -> float | None:
    ratios = []
    for setting in (part.setting for part in parts):
        ours = np.median([result.last.seconds for result in setting.methods[label].values()])
        theirs = [result.last.seconds for result in setting.methods.get(setting.reference, {}).values()]
        if theirs and np.median(theirs) > _SHORTEST:
            ratios.append(ours / np.median(theirs))
    return float(np.median(ratios)) if ratios else None


def _extra(label: str, parts: Sequence[Part]) -> dict[str, float]:
    names = {
        name
        for setting in (part.setting for part in parts)
        for result in setting.methods[label].values()
        for domain in setting.unseen
        for name in result.scores[domain]
        if name != setting.metric and (len(parts) == 1 or metric(name).has_common_unit)
    }
    values = {
        name: over_runs((part.setting.scores(label, part.domains, name) for part in parts), aggregate(parts))
        for name in names
    }
    return {name: values[name] for name in sorted(values) if not np.isnan(values[name])}
