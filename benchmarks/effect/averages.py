"""Which average of the weights, where all of a run's iterates are there: a section of the results' page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.effect.committed import RESULTS, budget, description, rows_of
from benchmarks.effect.comparison import over_seeds

NAME = "averages"
METHODS = ("erm", "kd")
# Heading → what is added to a method's name, and which weights of these runs.
RULES: Mapping[str, tuple[str, str]] = {
    "none: the last weights": ("", "last"),
    "`wakd`": ("", "averaged"),
    "`swad`": ("_swad", "averaged"),
    "`sma`": ("_sma", "averaged"),
}


def section() -> list[str]:
    """A row a rule: plain training and KD on the unseen stain, and their differences; none where it was not run."""
    if not (RESULTS / f"{NAME}.jsonl").exists():
        return []
    rows = rows_of(NAME)
    found = [[_unseen(rows, f"{method}{ending}", weights) for ending, weights in RULES.values()] for method in METHODS]
    seeds = sorted(set.intersection(*(set(own) for of_method in found for own in of_method)))
    plain, kd = (np.array([[own[seed] for seed in seeds] for own in of_method]) for of_method in found)
    taught, averaged = over_seeds(list(kd - plain)), ["", *over_seeds(list(plain[1:] - plain[0]))]
    target = rows[0]["target"]
    return [
        "## Which average: WAKD, SWAD and SMA on one stain",
        "",
        f"{budget(description(NAME), (row['steps'] for row in rows))} SWAD and SMA validate every 20 steps. mIoU on "
        f"{target}, {len(seeds)} seeds; intervals over seeds; `*`: p ≤ 0.05 after Holm's correction over a column.",
        "",
        "| averaged by | plain | `kd` | `kd` less plain | plain, less its last weights |",
        "|---|--:|--:|---|---|",
        *(
            f"| {rule} | {100 * own.mean():.1f} | {100 * other.mean():.1f} | {difference} | {gain} |"
            for rule, own, other, difference, gain in zip(RULES, plain, kd, taught, averaged, strict=True)
        ),
        "",
    ]


def _unseen(rows: Sequence[Mapping[str, Any]], method: str, weights: str) -> dict[int, float]:
    """Seed → mean over what is unseen."""
    return {
        row["seed"]: float(np.mean(list(row["scores"][weights]["unseen"].values())))
        for row in rows
        if row["method"] == method
    }
