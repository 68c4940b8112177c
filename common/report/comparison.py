"""Compare methods: rows of the table, with differences to the reference and how sure they are."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from common.evaluation.statistics import holm, percentile_interval, probability_of_improvement, standard_error
from common.report.estimates import Part, aggregate, difference, over_runs, score
from common.report.rows import Difference, Row


def compare(parts: Sequence[Part]) -> list[Row]:
    """A row per method over one setting, or aggregated over several that differ in their target.

    Args:
        parts: Settings of one task with their unseen domains' resamples. A method that is missing from some is
            aggregated over those that have it. Over several, there is a difference only to as many runs of the
            reference on each.
    """
    reference = parts[0].setting.reference
    labels = sorted(
        {label for part in parts for label in part.setting.methods}, key=lambda one: (one != reference, one)
    )
    return [_row(label, [part for part in parts if label in part.setting.methods]) for label in labels]


def _row(label: str, parts: Sequence[Part]) -> Row:
    unseen = score(label, parts)
    scores = [part.scores(label) for part in parts]
    return Row(
        label=label,
        is_reference=label == parts[0].setting.reference,
        seeds=min(len(values) for values in scores),
        targets=len(parts),
        seen=over_runs((part.setting.scores(label, part.setting.seen) for part in parts), aggregate(parts)),
        unseen=unseen.value,
        unseen_interval=unseen.interval,
        unseen_error=float(standard_error(scores[0])) if len(parts) == 1 else float("nan"),
        difference=_difference(label, [part for part in parts if part.setting.has_reference]),
        cost=_cost(label, parts),
        extra=_extra(label, parts),
    )


def _difference(label: str, parts: Sequence[Part]) -> Difference | None:
    if not parts or label == (reference := parts[0].setting.reference):
        return None
    pairs = [(part.scores(label), part.scores(reference)) for part in parts]
    if len(parts) > 1 and any(len(ours) != len(theirs) for ours, theirs in pairs):
        return None  # targets would weigh otherwise in one than in the other, and that would look like a difference
    found = difference(label, reference, parts)
    probabilities = None
    if found.interval is not None:
        drawn = [probability_of_improvement(part.resamples[label], part.resamples[reference]) for part in parts]
        probabilities = percentile_interval(np.mean(drawn, axis=0))
    return Difference(
        value=found.value,
        interval=found.interval,
        probability=float(np.mean([probability_of_improvement(ours, theirs) for ours, theirs in pairs])),
        probability_interval=probabilities,
        p_value=found.p_value,
        adjusted=found.p_value,
        fewest_seeds=min(len(scores) for pair in pairs for scores in pair),
    )


def correct(tables: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """Adjust the p-values of each method for having been asked once per target (Holm).

    Args:
        tables: A list of rows per target, of one task and network.
    """
    result = [list(rows) for rows in tables]
    for label in {row.label for rows in tables for row in rows}:
        asked = [
            (table, position, row.difference)
            for table, rows in enumerate(tables)
            for position, row in enumerate(rows)
            if row.label == label and row.difference is not None and row.difference.p_value is not None
        ]
        adjusted = holm([found.p_value for _, _, found in asked if found.p_value is not None])
        for (table, position, found), value in zip(asked, adjusted.tolist(), strict=True):
            corrected = dataclasses.replace(found, adjusted=value)
            result[table][position] = dataclasses.replace(result[table][position], difference=corrected)
    return result


def _cost(label: str, parts: Sequence[Part]) -> float | None:
    ratios = []
    for setting in (part.setting for part in parts):
        ours = np.median([result.last.seconds for result in setting.methods[label].values()])
        theirs = [result.last.seconds for result in setting.methods.get(setting.reference, {}).values()]
        if theirs and np.median(theirs) > 0:
            ratios.append(ours / np.median(theirs))
    return float(np.median(ratios)) if ratios else None


def _extra(label: str, parts: Sequence[Part]) -> dict[str, float]:
    if len(parts) > 1 and parts[0].setting.task == "rl":
        return {}  # raw returns of different games have no common unit
    names = {
        metric
        for setting in (part.setting for part in parts)
        for result in setting.methods[label].values()
        for domain in setting.unseen
        for metric in result.scores[domain]
        if metric != setting.metric
    }
    values = {
        name: over_runs((part.setting.scores(label, part.domains, name) for part in parts), aggregate(parts))
        for name in names
    }
    return {name: values[name] for name in sorted(values) if not np.isnan(values[name])}
