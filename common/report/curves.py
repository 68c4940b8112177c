"""Charts of what was measured beside the headline: calibration, corruptions, attacks, profiles, seen against unseen."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from common.evaluation.conditions import Kind
from common.evaluation.reliability import expected_calibration_error, reliability
from common.evaluation.statistics import performance_profile
from common.report.escape import in_figure
from common.report.extras import domains, under
from common.report.figures import Colours
from common.report.results import Result
from common.report.settings import Setting
from common.runs.metrics import metric

_WIDTH = 8.0  # inches
_MOST_PANELS = 8
_RESAMPLES = 500
_LINES: Mapping[str, Literal["-", "--"]] = {"seen": "-", "unseen": "--"}


def reliability_diagrams(setting: Setting, colours: Colours) -> Figure | None:
    """Accuracy against confidence on unseen domains, a panel a method, pooled over its runs; ``None`` without any."""
    tables = {label: table for label, runs in setting.methods.items() if (table := _pooled(setting, runs)) is not None}
    if not tables:
        return None
    shown = dict(list(tables.items())[:_MOST_PANELS])
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(_WIDTH, 0.5 + 2.2 * lines))
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, (label, table) in zip(grid.flat, shown.items(), strict=False):
        ink = axes.xaxis.label.get_color()
        axes.plot([0, 100], [0, 100], color=ink, linewidth=0.8, linestyle=":")
        for counts, style, name in zip(table, ("o-", "s--"), ("", "fitted temperature"), strict=False):
            confidence, right = reliability(counts)
            axes.plot(100 * confidence, 100 * right, style, color=colours[label], markersize=3, label=name)
        errors = " → ".join(f"{100 * float(expected_calibration_error(counts)):.1f}" for counts in table)
        axes.set_title(f"{in_figure(label)}\nECE {errors} %", fontsize=9)
    figure.supxlabel("confidence (%)", fontsize=9)
    figure.supylabel("accuracy (%)", fontsize=9)
    return figure


def _pooled(setting: Setting, runs: Mapping[int, Result]) -> NDArray[np.float64] | None:
    """Counters of all runs and unseen domains, ``[K, bins, 3]``."""
    tables = [result.array("calibration", domain) for result in runs.values() for domain in setting.unseen]
    known = [table for table in tables if table is not None]
    if not known or len(known) < len(tables):
        return None
    kinds = min(len(table) for table in known)
    pooled: NDArray[np.float64] = np.sum([table[:kinds] for table in known], axis=0)
    return pooled


def severity_curves(setting: Setting, colours: Colours) -> Figure | None:
    """The score against the severity of corruptions, the mean over them and over runs; ``None`` without any."""
    return _drawn(_curves(setting, "corruption"), setting, "severity of corruptions, 0 for none", colours)


def attack_curves(setting: Setting, colours: Colours) -> Figure | None:
    """Scores against the radius of attacks, a panel each, the mean over runs; ``None`` without any."""
    return _drawn(_curves(setting, "attack"), setting, "radius, 255ths of the range", colours)


Curves = dict[tuple[str, str], dict[float, list[float]]]
"""(label, seen or unseen) → strength → a score a run."""


def _curves(setting: Setting, kind: Kind) -> dict[str, Curves]:
    """Panel → its curves: attacks apart, corruptions together."""
    panels: dict[str, Curves] = {}
    for label, runs in setting.methods.items():
        for (word, where), result in itertools.product(domains(setting), runs.values()):
            found: dict[tuple[str, float], list[float]] = {}
            for done, value in under(result, where, setting.metric).items():
                if done.kind == kind:
                    panel = done.name if kind == "attack" else ""
                    found.setdefault((panel, float(done.strength or 0)), []).append(value)
            for (panel, strength), values in found.items():
                curve = panels.setdefault(panel, {}).setdefault((label, word), {})
                curve.setdefault(strength, []).append(float(np.mean(values)))
    return panels


def _drawn(panels: Mapping[str, Curves], setting: Setting, along: str, colours: Colours) -> Figure | None:
    """A panel a kind; a line a method, for seen and unseen domains."""
    if not panels:
        return None
    figure = Figure(figsize=(_WIDTH, 3.6))
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)
    scale = 100.0 if setting.measure.is_fraction else 1.0
    for axes, (name, curves) in zip(grid.flat, panels.items(), strict=True):
        for (label, word), curve in curves.items():
            places = sorted(curve)
            values = [scale * float(np.mean(curve[place])) for place in places]
            axes.plot(places, values, _LINES[word], marker="o", markersize=3, color=colours[label])
        axes.set_title(in_figure(name))
        axes.set_xlabel(along)
    grid[0, 0].set_ylabel(setting.measure.heading)
    _legend(figure, grid[0, 0], list(setting.methods), colours, list(_LINES))
    return figure


def profiles(settings: Sequence[Setting], colours: Colours) -> Figure | None:
    """Share of runs above a score on unseen domains, with the band of a bootstrap over seeds of each target.

    ``None`` where no method has three runs.
    """
    labels = sorted({label for setting in settings for label in setting.methods})
    runs = {
        label: [setting.scores(label, setting.unseen) for setting in settings if label in setting.methods]
        for label in labels
    }
    runs = {label: parts for label, parts in runs.items() if sum(len(part) for part in parts) > 2}
    values = np.concatenate([part for parts in runs.values() for part in parts]) if runs else np.array([])
    if not values.size or not np.isfinite(values).all():
        return None
    measured = settings[0].metric
    scale = 100.0 if metric(measured).is_fraction else 1.0
    margin = 0.05 * max(float(np.ptp(values)), 1e-6)
    thresholds = np.linspace(values.min() - margin, values.max() + margin, 101)
    figure = Figure(figsize=(_WIDTH, 3.4))
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)
    for label, parts in runs.items():
        drawn = np.concatenate([part[rng.integers(len(part), size=(_RESAMPLES, len(part)))] for part in parts], axis=1)
        low, high = np.quantile(performance_profile(drawn, thresholds), [0.025, 0.975], axis=0)
        axes.fill_between(scale * thresholds, low, high, color=colours[label], alpha=0.15, linewidth=0)
        axes.plot(scale * thresholds, performance_profile(np.concatenate(parts), thresholds), color=colours[label])
    axes.set_xlabel(f"{metric(measured).heading} on unseen domains")
    axes.set_ylabel("share of runs above")
    _legend(figure, axes, list(runs), colours, [])
    return figure


def seen_and_unseen(setting: Setting, colours: Colours) -> Figure | None:
    """Every run: its score on unseen domains against that on seen ones; ``None`` where none has both."""
    points = {
        label: (setting.scores(label, setting.seen), setting.scores(label, setting.unseen)) for label in setting.methods
    }
    if not setting.seen or not setting.unseen:
        return None
    scale = 100.0 if setting.measure.is_fraction else 1.0
    figure = Figure(figsize=(_WIDTH * 0.7, 3.8))
    axes = figure.add_subplot()
    markers = dict(zip(points, itertools.cycle("osD^vP*X"), strict=False))
    for label, (seen, unseen) in points.items():
        axes.plot(scale * seen, scale * unseen, markers[label], color=colours[label], markersize=5, alpha=0.8)
    low, high = (bound(axes.get_xlim() + axes.get_ylim()) for bound in (min, max))
    axes.plot([low, high], [low, high], color=axes.xaxis.label.get_color(), linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"{setting.measure.heading}, seen domains")
    axes.set_ylabel("unseen domains")
    _legend(figure, axes, list(points), colours, [], markers)
    return figure


def _legend(
    figure: Figure,
    axes: Axes,
    labels: Sequence[str],
    colours: Colours,
    styles: Sequence[str],
    markers: Mapping[str, str] | None = None,
) -> None:
    handles = [
        Line2D([], [], color=colours[label], label=in_figure(label), marker=markers[label], linestyle="")
        if markers
        else Line2D([], [], color=colours[label], linewidth=2, label=in_figure(label))
        for label in labels
    ]
    ink = axes.xaxis.label.get_color()
    handles += [Line2D([], [], color=ink, linestyle=_LINES[style], label=style) for style in styles]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)))
