"""The grids' committed results, as they lie in ``results``."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lines import read

RESULTS = Path(__file__).parent / "results"


def rows_of(*names: str) -> list[dict[str, Any]]:
    """The cells of some grids."""
    return [row for name in names for row in read(RESULTS / f"{name}.jsonl")]


def validation(rows: Sequence[Mapping[str, Any]], method: str, weights: str) -> dict[tuple[str, int], float]:
    """A method's score on source validation, the mean over domains, by (target, seed)."""
    return {
        (row["target"], row["seed"]): float(np.mean(list(row["scores"][weights]["validation"].values())))
        for row in rows
        if row["method"] == method
    }


def description(name: str) -> dict[str, Any]:
    """Under what conditions a grid was run."""
    described: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return described


def chance() -> dict[str, Any]:
    """What ``chance.py`` measured: ``games[game][seen | unseen][domain]``, and of how many episodes."""
    measured: dict[str, Any] = json.loads((RESULTS / "chance.json").read_text())
    return measured


def budget(described: dict[str, Any], steps: Iterable[int]) -> str:
    """How much there is of a grid, and on what it was run."""
    taken = " or ".join(f"{step:,}" for step in sorted(set(steps)))
    return (
        f"{described['cells']} of {described['of']} cells, {taken} steps a run, on {described['device']}, "
        f"{described['date']}, torch {described['versions']['torch']}; one thread a run."
    )
