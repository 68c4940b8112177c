"""Policies of a part of their teachers' steps: sections of the results' page."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.effect.committed import RESULTS, budget, chance, description, rows_of
from benchmarks.effect.comparison import difference, judged
from benchmarks.effect.grids import GRIDS
from benchmarks.effect.strong import headline_first
from common.report.analysis import Analysis
from common.report.comparison import compare, correct
from common.report.estimates import resample

TITLES = {
    "students_10": "Policies of a tenth of their teachers' steps (normalised return)",
    "students_25": "Policies of a quarter of their teachers' steps (normalised return)",
    "students_wide": "Policies of a teacher that was trained on 10,000 other levels (normalised return)",
    "students_levels": "Its best rows once more, with other seeds, on unseen levels alone (normalised return)",
}
Scores = dict[tuple[str, str], float]
"""Part (``seen``, ``unseen``) and domain → score."""


def on_all_unseen(analysis: Analysis) -> Analysis:
    """The comparison on the mean over all that is unseen; ``kd-report`` has unseen levels in the look of training."""
    tables = []
    for table in analysis.tables:
        setting = table.setting
        setting = dataclasses.replace(setting, unseen=[*setting.unseen, *setting.others], others=[])
        part = resample(setting, setting.unseen, resamples=analysis.resamples, seed=0)
        (rows,) = correct([compare([part])])
        tables.append(dataclasses.replace(table, setting=setting, rows=rows))
    return dataclasses.replace(analysis, tables=tables)


def sections() -> list[str]:
    """Every grid that has results."""
    return [line for name in TITLES if (RESULTS / f"{name}.csv").exists() for line in section(name)]


def section(name: str) -> list[str]:
    """What chance, teachers and students earn, and the differences to plain training of as many steps."""
    rows, grid = rows_of(name), GRIDS[name]
    steps = {row["steps"] for row in rows if row["method"] in grid.methods}
    taught = {row["steps"] for row in rows if row["method"] in grid.teachers}
    told = budget(description(name), steps)
    lines = [
        f"## {TITLES[name]}",
        "",
        f"{told} Teachers: {' or '.join(f'{one:,}' for one in sorted(taught))} steps.",
        "",
    ]
    for game in grid.targets:
        mine = [row for row in rows if row["target"] == game]
        for weights, why in headline_first(mine, "validation levels"):
            lines += [f"{game}, {weights} weights{why}:", "", *table(name, game, weights, mine), ""]
    return lines


def table(name: str, game: str, weights: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row for chance and each teacher, then one a method, the best on unseen levels and looks first.

    ``of the teacher's`` is what is earned above chance on them, over what the first teacher earns above it.
    """
    grid = GRIDS[name]
    by_chance = {
        (part, domain): score["normalized_return"]
        for part, scores in chance()["games"][game].items()
        for domain, score in scores.items()
    }
    teachers = {one: scores_of(rows, one, "last") for one in grid.teachers}
    teacher = next(iter(teachers.values()))
    found = {method: own for method in grid.methods if (own := scores_of(rows, method, weights))}
    differences = judged(name, weights)
    lines = [
        "| policy | seeds | seen levels | unseen levels | unseen look | of the teacher's | Δ to plain, unseen [95 %] |",
        "|---|--:|--:|--:|--:|--:|---|",
        _row("chance", "", by_chance),
        *(_row(f"teacher `{one}`", "1", scores) for one, scores in teachers.items() if scores),
    ]
    for method in sorted(found, key=lambda one: -unseen(found[one])):
        part = part_of(found[method], teacher, by_chance) if teacher else float("nan")
        row = differences.get(method, {}).get(f"{game}/themed")
        label = "**erm**" if method == "erm" else f"`{method}`"
        seeds = str(len({one["seed"] for one in rows if one["method"] == method}))
        lines.append(_row(label, seeds, found[method], f"{100 * part:.0f} %", difference(row) if row else ""))
    return lines


def scores_of(rows: Sequence[Mapping[str, Any]], method: str, weights: str) -> Scores:
    """Means over seeds; none where there is no such cell."""
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["method"] == method:
            for part in ("seen", "unseen"):
                for domain, score in row["scores"][weights][part].items():
                    values.setdefault((part, domain), []).append(score)
    return {key: float(np.mean(scores)) for key, scores in values.items()}


def unseen(scores: Scores) -> float:
    """The mean over what was unseen."""
    return float(np.mean([score for (part, _), score in scores.items() if part == "unseen"]))


def part_of(own: Scores, teacher: Scores, by_chance: Scores) -> float:
    """Of what the teacher earns above chance on what this one was judged on."""
    taught, random = ({key: scores[key] for key in own if key in scores} for scores in (teacher, by_chance))
    return (unseen(own) - unseen(random)) / (unseen(taught) - unseen(random))


def _row(label: str, seeds: str, scores: Scores, part: str = "", delta: str = "") -> str:
    def shown(wanted: str, look: str) -> str:
        values = [score for (part, domain), score in scores.items() if part == wanted and domain.endswith(f"/{look}")]
        return f"{100 * values[0]:.1f}" if values else "–"

    columns = (shown("seen", "themed"), shown("unseen", "themed"), shown("unseen", "generated"))
    return f"| {' | '.join((label, seeds, *columns, part, delta))} |"
