"""Charts of a comparison: differences, scores per domain, learning curves."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from common.evaluation.statistics import Interval, standard_error
from common.report.escape import in_figure
from common.report.results import Domain, Result
from common.report.rows import Row, SettingTable
from common.report.settings import Setting
from common.report.table import number
from common.runs.metrics import TASKS, metric

_WIDTH = 8.0  # inches

Colours = Mapping[str, str]
"""Method's label → colour, the same in every figure of a page."""

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def differences(rows: Sequence[Row], measured: str, reference: str, colours: Colours) -> Figure | None:
    """Each method's difference to the reference on unseen domains, with its interval; ``None`` without any."""
    compared = [row for row in rows if row.difference is not None]
    if not compared:
        return None
    scale = _scale(measured)
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.42 * len(compared)))
    axes = figure.add_subplot()
    axes.axvline(0, color=colours[reference], linewidth=1.5)
    for height, row in enumerate(reversed(compared)):
        if row.difference is None:
            continue
        value = scale * row.difference.value
        axes.errorbar(
            value,
            height,
            xerr=_whiskers(value, row.difference.interval, scale),
            fmt="o",
            color=colours[row.label],
            elinewidth=3,
            markersize=8,
        )
        label = number(row.difference.value, measured, signed=True)
        axes.annotate(label, (value, height), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yticks(range(len(compared)), [in_figure(row.label) for row in reversed(compared)])
    axes.set_ylim(-0.6, len(compared) - 0.3)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{metric(measured).heading} on unseen domains, difference to {in_figure(reference).strip()}")
    return figure


def domain_bars(table: SettingTable, colours: Colours) -> Figure | None:
    """Score on each domain, a bar per method, with intervals; ``None`` if the runs share no domain."""
    setting = table.setting
    if not setting.domains:
        return None
    domains, labels = setting.domains, list(setting.methods)
    scale = _scale(setting.metric)
    figure = Figure(figsize=(_WIDTH, 3.4))
    axes = figure.add_subplot()
    width = 0.8 / len(labels)
    for index, label in enumerate(labels):
        positions = np.arange(len(domains)) + (index - (len(labels) - 1) / 2) * width
        for position, domain in zip(positions, domains, strict=True):
            value, interval = table.domains[label][domain]
            axes.bar(
                position,
                scale * value,
                0.9 * width,
                yerr=_whiskers(scale * value, interval, scale),
                color=colours[label],
                ecolor=axes.xaxis.label.get_color(),
                error_kw={"elinewidth": 1.2, "capsize": 2},
                label=in_figure(label) if domain is domains[0] else None,
            )
    axes.set_xticks(range(len(domains)), [_domain_label(domain, setting) for domain in domains])
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(setting.measure.heading)
    figure.legend(loc="outside upper left", ncols=min(4, len(labels)))
    return figure


def learning_curves(setting: Setting, colours: Colours) -> Figure | None:
    """Score against steps, mean and standard error over seeds; ``None`` if no run recorded progress."""
    measured = _progress_metric(setting)
    if measured is None:
        return None
    scale = _scale(measured)
    figure = Figure(figsize=(_WIDTH, 3.6))
    axes = figure.add_subplot()
    shown, kinds = [], set()
    for label, runs in setting.methods.items():
        for seen in (True, False):
            curves = [curve for run in runs.values() if (curve := _curve(run, measured, seen)) is not None]
            if curves:
                _draw_curves(axes, curves, scale, colours[label], "-" if seen else "--")
                shown.append(label)
                kinds.add(seen)
    handles = [
        Line2D([], [], color=colours[label], linewidth=2, label=in_figure(label)) for label in dict.fromkeys(shown)
    ]
    ink = axes.xaxis.label.get_color()
    handles += [Line2D([], [], color=ink, linestyle="-", label="seen")] if True in kinds else []
    handles += [Line2D([], [], color=ink, linestyle="--", label="unseen")] if False in kinds else []
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(TASKS[setting.task].steps)
    axes.set_ylabel(metric(measured).heading)
    figure.legend(handles=handles, loc="outside upper left", ncols=min(5, len(handles)))
    return figure


def _progress_metric(setting: Setting) -> str | None:
    recorded = {row.metric for result in setting.results() for row in result.progress}
    wanted = [name for name in (setting.metric, *TASKS[setting.task].judged_by) if name in recorded]
    return wanted[0] if wanted else None


def _curve(result: Result, measured: str, seen: bool) -> Curve | None:
    """Steps ``[T]`` and scores ``[T]``, the mean over domains measured at each step."""
    at: dict[int, list[float]] = {}
    for row in result.progress:
        if row.metric == measured and row.seen == seen:
            at.setdefault(row.steps, []).append(row.value)
    if not at:
        return None
    return np.array(list(at), dtype=np.float64), np.array([np.mean(values) for values in at.values()])


def _draw_curves(axes: Axes, curves: Sequence[Curve], scale: float, colour: str, style: str) -> None:
    start, end = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= start) & (grid <= end)]
    if not grid.size:
        return
    # Seeds may have been measured at different steps; a mean needs all of them at the same ones.
    values = scale * np.stack([np.interp(grid, steps, scores) for steps, scores in curves])
    middle = values.mean(0)
    marker = "o" if grid.size < 3 else None
    axes.plot(grid, middle, style, color=colour, linewidth=2, marker=marker, markersize=4)
    if len(curves) > 1:
        error = standard_error(values, axis=0)
        axes.fill_between(grid, middle - error, middle + error, color=colour, alpha=0.18, linewidth=0)


def _domain_label(domain: Domain, setting: Setting) -> str:
    kind = "seen" if domain.seen else "unseen"
    headline = domain in setting.unseen and bool(setting.others)
    return f"{in_figure(domain.name)}\n{kind}{', target' if headline else ''}"


def _scale(measured: str) -> float:
    return 100.0 if metric(measured).is_fraction else 1.0


def _whiskers(value: float, interval: Interval | None, scale: float) -> list[list[float]] | None:
    if interval is None:
        return None
    # Rounding may leave a whisker of length -1e-17, which would be refused.
    return [[max(0.0, value - scale * interval.low)], [max(0.0, scale * interval.high - value)]]
