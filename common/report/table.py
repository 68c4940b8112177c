"""Rows as text: the columns of the table, and the CSV file."""

import csv
import io
import math
from collections.abc import Sequence

from common.evaluation.statistics import Interval
from common.report.analysis import Analysis
from common.report.escape import in_cell
from common.report.rows import Row
from common.report.settings import Setting
from common.runs.metrics import metric

NOTHING = "–"


def number(value: float | None, measured: str, *, signed: bool = False) -> str:
    """A score for people: fractions in percent with one decimal, all else in its unit with two.

    >>> number(0.6123, "miou")
    '61.2'
    >>> number(-0.5, "return", signed=True)
    '-0.50'
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    scaled, decimals = (100 * value, 1) if metric(measured).is_fraction else (value, 2)
    rounded = round(scaled, decimals) + 0.0  # no "-0.0"
    return f"{rounded:{'+' if signed else ''}.{decimals}f}"


def interval(value: Interval | None, measured: str, *, signed: bool = False) -> str:
    """``[low, high]``, or nothing."""
    if value is None:
        return ""
    return f"[{number(value.low, measured, signed=signed)}, {number(value.high, measured, signed=signed)}]"


def difference(row: Row, measured: str) -> str:
    """Difference to the reference with its interval."""
    if row.difference is None:
        return NOTHING
    value = number(row.difference.value, measured, signed=True)
    return f"{value} {interval(row.difference.interval, measured, signed=True)}".strip()


def probability(row: Row) -> str:
    """Probability of improvement, without its interval."""
    return NOTHING if row.difference is None else f"{row.difference.probability:.2f}"


def cost(row: Row) -> str:
    """Training time as a multiple of the reference's."""
    return NOTHING if row.cost is None else f"{row.cost:.2f}×"


def verdict(row: Row) -> str:
    """See :attr:`common.report.rows.Difference.verdict`."""
    if row.difference is not None:
        return row.difference.verdict
    return "reference" if row.is_reference else NOTHING


def headline(setting: Setting) -> str:
    """Which domains "unseen" and "seen" stand for."""
    unseen = ", ".join(domain.name for domain in setting.unseen) or "none"
    seen = ", ".join(domain.name for domain in setting.seen) or "none tested"
    return f"unseen: {unseen} · seen: {seen}"


# fmt: off
_FIXED = [
    "task", "target", "source", "network", "setting", "differs", "method", "seeds", "targets", "metric", "seen",
    "unseen", "unseen_low", "unseen_high", "unseen_standard_error", "gap", "difference",
    "difference_low", "difference_high", "probability_of_improvement", "probability_low",
    "probability_high", "p_value", "p_value_holm", "verdict",
    "relative_cost",
]
# fmt: on


def to_csv(analysis: Analysis) -> str:
    """The table as CSV: a row per setting and method, then rows over targets (``target`` is ``*``).

    ``setting`` stands for what must be equal for a fair comparison (empty for runs of before there were identities, and
    over targets), ``differs`` says in words what sets it apart from others. Scores are fractions, not percent; what is
    unknown is empty. Further metrics on the unseen domains follow in columns ``unseen_<metric>``. A name that a
    spreadsheet would take for a formula has an apostrophe in front; control characters are written as their codes.
    """
    rows = [
        _cells(setting, row, setting.target, ";".join(setting.source), setting.key, setting.differs)
        for setting, table in ((table.setting, table) for table in analysis.tables)
        for row in table.rows
    ]
    rows += [
        _cells(table.settings[0], row, "*", "*", "", table.differs)
        for table in analysis.over_targets
        for row in table.rows
    ]
    extra = sorted({name for row in rows for name in row} - set(_FIXED))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_FIXED, *extra], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _cells(setting: Setting, row: Row, target: str, source: str, key: str, differs: str) -> dict[str, str]:
    cells = {
        "task": setting.task,
        "target": in_cell(target),
        "source": in_cell(source),
        "network": in_cell(setting.network),
        "setting": key,
        "differs": in_cell(differs.strip()),
        "method": in_cell(row.label),
        "seeds": str(row.seeds),
        "targets": str(row.targets),
        "metric": setting.metric,
        "seen": _exact(row.seen),
        "unseen": _exact(row.unseen),
        "unseen_standard_error": _exact(row.unseen_error),
        "gap": _exact(row.gap),
        "relative_cost": _exact(row.cost),
        "verdict": verdict(row),
        **_bounds("unseen", row.unseen_interval),
    }
    if (found := row.difference) is not None:
        cells |= {
            "difference": _exact(found.value),
            **_bounds("difference", found.interval),
            "probability_of_improvement": _exact(found.probability),
            **_bounds("probability", found.probability_interval),
            "p_value": _exact(found.p_value),
            "p_value_holm": _exact(found.adjusted),
        }
    return cells | {f"unseen_{in_cell(name)}": _exact(value) for name, value in row.extra.items()}


def _bounds(name: str, value: Interval | None) -> dict[str, str]:
    return {} if value is None else {f"{name}_low": _exact(value.low), f"{name}_high": _exact(value.high)}


def _exact(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def shown_extra(rows: Sequence[Row]) -> list[str]:
    """Metrics beside the main one, those that are no class's first."""
    names = {name for row in rows for name in row.extra}
    return sorted(names, key=lambda name: (name.startswith("iou/"), name))
