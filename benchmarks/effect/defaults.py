"""Default settings of segmentation, chosen by source validation alone from the grids' records.

``python benchmarks/effect/defaults.py`` prints the choices. A candidate's score is the mean IoU on held-out images of
the *source* domains, mean over these; what a run scored on its target is never looked at. Candidates are compared on
the same targets and seeds. The rule: what was the default before the grids were run stays, unless other candidates
gain more than two standard errors of the paired difference; then the one of these that gains most is taken. A default
that moves with every seed would serve nobody.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.effect.committed import rows_of, validation
from benchmarks.effect.decisions import DECISIONS
from common.evaluation.statistics import standard_error

Cells = Mapping[tuple[str, int], float]
"""(target, seed) → score on source validation."""


class Choice(NamedTuple):
    """What the rule says.

    Attributes:
        value: The chosen value.
        cells: Number of (target, seed) pairs compared.
        scores: Value → mean score.
        gains: Value → mean paired gain over the value before and its standard error.
    """

    value: Any
    cells: int
    scores: Mapping[Any, float]
    gains: Mapping[Any, tuple[float, float]]


def choose(before: Any, cells: Mapping[Any, Cells]) -> Choice:
    """Apply the rule to candidates' scores.

    Raises:
        ValueError: the value before is no candidate, or fewer than two cells are shared.
    """
    if before not in cells:
        raise ValueError(f"{before} was not tried; tried were {list(cells)}")
    shared = sorted(set.intersection(*(set(scores) for scores in cells.values())))
    if len(shared) < 2:
        raise ValueError(f"only {len(shared)} cells have every one of {list(cells)}; run the grids further")
    scores = {value: np.array([own[cell] for cell in shared]) for value, own in cells.items()}
    gains = {
        value: (float((own - scores[before]).mean()), float(standard_error(own - scores[before])))
        for value, own in scores.items()
    }
    better = [value for value, (gain, error) in gains.items() if gain > 2 * error]
    chosen = max(better, key=lambda value: gains[value][0], default=before)
    return Choice(chosen, len(shared), {value: float(own.mean()) for value, own in scores.items()}, gains)


def choices() -> dict[str, Choice]:
    """Every decision's choice, by its title."""
    rows = {grids: rows_of(*grids) for grids in {decision.grids for decision in DECISIONS}}
    return {
        decision.title: choose(
            decision.before,
            {value: validation(rows[decision.grids], *candidate) for value, candidate in decision.candidates.items()},
        )
        for decision in DECISIONS
    }


def table() -> list[str]:
    """The choices as a table in Markdown."""
    lines = ["| setting | cells | candidate: source validation (gain ± standard error) | chosen |", "|---|--:|---|---|"]
    for title, choice in choices().items():
        tried = "; ".join(
            f"{value}: {100 * choice.scores[value]:.1f}"
            + ("" if not gain else f" ({100 * gain:+.1f} ± {100 * error:.1f})")
            for value, (gain, error) in sorted(choice.gains.items())
        )
        lines.append(f"| {title} | {choice.cells} | {tried} | **{choice.value}** |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
