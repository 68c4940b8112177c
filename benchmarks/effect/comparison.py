"""Committed comparisons of the grids, read, corrected and said in words."""

import csv
from collections.abc import Sequence

import numpy as np
from scipy import stats

from benchmarks.effect.committed import RESULTS
from common.evaluation.statistics import LEVEL, holm_known, paired_interval

AVERAGED = " (averaged)"
WEIGHTS = {"last": "", "averaged": AVERAGED}
"""Weights → what is added to the name of a method of theirs."""

Rows = list[dict[str, str]]


def read(name: str) -> Rows:
    """A committed comparison; ``sure`` marks what holds after Holm's correction over all its methods and targets."""
    with (RESULTS / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Over all targets is another question than on each of them.
    for asked in ([row for row in rows if row["target"] == "*"], [row for row in rows if row["target"] != "*"]):
        p_values = [float(row["p_value"]) if row["p_value"] else None for row in asked]
        for row, adjusted in zip(asked, holm_known(p_values), strict=True):
            row["sure"] = "yes" if adjusted is not None and adjusted <= LEVEL else ""
    return rows


def judged(name: str, weights: str) -> dict[str, dict[str, dict[str, str]]]:
    """Method → target, or ``*`` for all of them → its row beside plain training, both with last or both averaged.

    Of a grid that goes on, a method that lacks one of plain training's targets has no row of all of them; ``whole``
    marks rows of as many seeds as plain training has.
    """
    suffix = WEIGHTS[weights]
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in read(f"{name}_averaged" if suffix else name):
        if row["method"].endswith(suffix):
            found.setdefault(row["method"].removesuffix(suffix), {})[row["target"]] = row
    for own in found.values():
        if set(own) != set(found["erm"]):
            own.pop("*", None)  # of fewer targets than it is said of
        for target, row in own.items():
            row["whole"] = "yes" if row["seeds"] == found["erm"].get(target, {}).get("seeds") else ""
    return found


def percent(value: str, signed: bool = False) -> str:
    """A fraction for people."""
    return f"{100 * float(value):{'+' if signed else ''}.1f}"


def difference(row: dict[str, str]) -> str:
    """Difference to the reference with its interval, and ``*`` where it is sure."""
    if not row["difference_low"]:
        return ""
    low, high = percent(row["difference_low"], True), percent(row["difference_high"], True)
    sure = " *" if row["sure"] else ""
    return f"{percent(row['difference'], True)} [{low}, {high}]{sure}"


def over_seeds(differences: Sequence[np.ndarray]) -> list[str]:
    """Means of paired differences with intervals over seeds; ``*`` where one is sure after correction over them all."""
    p_values = [
        float(stats.ttest_1samp(one, 0.0).pvalue) if len(one) > 1 and np.ptp(one) else None for one in differences
    ]
    shown = []
    for one, adjusted in zip(differences, holm_known(p_values), strict=True):
        bounds = paired_interval(one)
        interval = "" if bounds is None else f" [{100 * bounds.low:+.1f}, {100 * bounds.high:+.1f}]"
        sure = " *" if adjusted is not None and adjusted <= LEVEL else ""
        shown.append(f"{100 * one.mean():+.1f}{interval}{sure}")
    return shown
