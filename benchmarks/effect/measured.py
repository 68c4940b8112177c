"""Corruptions, attacks and unknown inputs: what the finished cells of a grid keep of their scores, by ``--measure``."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.effect.comparison import over_seeds
from benchmarks.effect.grids import GRIDS
from common.evaluation.conditions import Condition, condition
from common.runs.folder import Run

MEASURES = ("experiment=quick", "measures=[corruptions,attacks,unknown]", "device=cpu")
COLUMNS = {
    "clean": "mIoU of these",
    "corrupted": "corrupted",
    "attacked": "attacked",
    "corrupted_ece": "ECE, corrupted",
    "unknown": "AUROC, unknown",
}


def _column(done: Condition, metric: str) -> str | None:
    """Where a number belongs."""
    if done.kind == "corruption" and metric in ("miou", "ece"):
        if done.name == "none":
            return "clean" if metric == "miou" else None
        return "corrupted" if metric == "miou" else "corrupted_ece"
    if done.kind == "attack" and metric == "miou" and done.strength == "1":
        return "attacked"
    return "unknown" if done.kind == "unknown" and metric == "auroc/energy" else None


def numbers(run: Run) -> dict[str, float]:
    """A column's mean over the conditions that were measured on the unseen domain; none where nothing was."""
    found: dict[str, list[float]] = {}
    for row in run.measures():
        done = condition(row.condition)
        column = None if done is None or row.seen else _column(done, row.metric)
        if column is not None:
            found.setdefault(column, []).append(row.value)
    return {column: round(float(np.mean(found[column])), 6) for column in COLUMNS if column in found}


def section(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Scores of plain training and the others' differences to it, mean over targets, intervals over seeds."""
    own = {method: _by_seed(name, rows, method) for method in GRIDS[name].methods}
    plain = own.pop("erm")
    if not plain:
        return []
    cells = [
        (method, column, np.array([(scores[seed][column] - plain[seed][column]) for seed in sorted(scores)]))
        for method, scores in own.items()
        if scores
        for column in COLUMNS
    ]
    told: dict[str, list[str]] = {}
    for (method, *_), shown in zip(cells, over_seeds([differences for *_, differences in cells]), strict=True):
        told.setdefault(method, []).append(shown)
    means = [f"{100 * np.mean([scores[column] for scores in plain.values()]):.1f}" for column in COLUMNS]
    return [
        "",
        f"Beside the score ({len(plain)} seeds, up to eight images of the unseen domain): four corruptions of severity "
        "3, FGSM of radius 1/255 and, told from them, images of noise, flat colour and other kinds. Points less plain "
        "training with its last weights, mean over targets [95 % over seeds]; `*`: p ≤ 0.05 after Holm's correction "
        "over all of this table.",
        "",
        f"| method | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---|' * len(COLUMNS)}",
        f"| **erm** | {' | '.join(means)} |",
        *(f"| `{method}` | {' | '.join(shown)} |" for method, shown in told.items()),
    ]


def _by_seed(name: str, rows: Iterable[Mapping[str, Any]], method: str) -> dict[int, dict[str, float]]:
    """Seed → column → mean over targets, of seeds that were measured on all of them."""
    found: dict[int, list[Mapping[str, float]]] = {}
    for row in rows:
        if row["method"] == method and "measured" in row:
            found.setdefault(row["seed"], []).append(row["measured"])
    return {
        seed: {column: float(np.mean([one[column] for one in own])) for column in COLUMNS}
        for seed, own in found.items()
        if len(own) == len(GRIDS[name].targets)
    }
