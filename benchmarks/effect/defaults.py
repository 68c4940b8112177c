"""Default settings of segmentation, chosen by source validation alone from the grids' records.

``python benchmarks/effect/defaults.py`` prints the choices. A candidate's score is the mean IoU on held-out images of
the *source* domains, mean over these; what a run scored on its target is never looked at. Candidates are compared on
the same targets and seeds. The rule: what was the default before the grids were run stays, unless other candidates
gain more than two standard errors of the paired difference; then the one of these that gains most is taken. A default
that moves with every seed would serve nobody.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.effect.committed import rows_of, validation
from common.directories import config_directory
from common.evaluation.statistics import standard_error

Cells = Mapping[tuple[str, int], float]
"""(target, seed) → score on source validation."""


class Candidate(NamedTuple):
    """Where a candidate's runs are: their name in the grids and the judged weights."""

    method: str
    weights: str = "last"


@dataclasses.dataclass(frozen=True)
class Decision:
    """A default and what it could be.

    Attributes:
        title: The setting as a user writes it.
        file: Configuration file that holds the default, under ``configs``.
        key: The key in it.
        before: The default before the grids were run: a paper's value, or the cheaper one.
        candidates: Value → its runs.
        grids: Where these are.
    """

    title: str
    file: str
    key: str
    before: Any
    candidates: Mapping[Any, Candidate]
    grids: tuple[str, ...] = ("core", "settings", "buffers")

    def default(self) -> Any:
        """The value in the configuration."""
        return OmegaConf.select(OmegaConf.load(config_directory() / self.file), self.key)


DECISIONS = (
    Decision(
        "KDDG: strength.threshold",
        "kdseg/train.yaml",
        "strength.threshold",
        0.95,
        {0.95: Candidate("kddg"), **{value: Candidate(f"kddg_n{value}") for value in (0.9, 0.99, 0.999)}},
    ),
    Decision(
        "KDDG: reading",
        "kdseg/train.yaml",
        "strength.reading",
        "student",
        {"student": Candidate("kddg"), "teacher": Candidate("kddg_teacher")},
    ),
    Decision(
        "KD: strength.kd",
        "kdseg/train.yaml",
        "strength.kd",
        0.1,
        {value: Candidate(f"kd_w{value}_t3.0") for value in (0.1, 0.3, 1.0, 3.0)},
        ("strength",),
    ),
    Decision(
        "KD: strength.temperature",
        "kdseg/train.yaml",
        "strength.temperature",
        3.0,
        {value: Candidate(f"kd_w0.1_t{value}") for value in (1.0, 3.0)},
        ("strength",),
    ),
    Decision(
        "Recipe: learning_rate.shape",
        "recipe/seg.yaml",
        "learning_rate.shape",
        "constant",
        {
            "constant": Candidate("erm"),
            **{shape: Candidate(f"erm_{shape}") for shape in ("cosine", "one_cycle")},
        },
        ("recipe",),
    ),
    Decision(
        "Recipe: strength.kd",
        "recipe/seg.yaml",
        "strength.kd",
        1.0,
        {value: Candidate(f"kd_w{value}_t2.0") for value in (0.3, 1.0, 3.0)},
        ("recipe",),
    ),
    Decision(
        "Recipe: strength.temperature",
        "recipe/seg.yaml",
        "strength.temperature",
        2.0,
        {value: Candidate(f"kd_w1.0_t{value}") for value in (1.0, 2.0, 4.0)},
        ("recipe",),
    ),
    Decision(
        "Recipe: teacher_view",
        "recipe/seg.yaml",
        "teacher_view",
        "same",
        {"same": Candidate("kd_w1.0_t2.0"), "clean": Candidate("kd_clean")},
        ("recipe",),
    ),
    Decision(
        "SD-Dropout: strength.sd_dropout.end",
        "kdseg/train.yaml",
        "strength.sd_dropout.end",
        0.1,
        # Averaged: the last weights of a constant rate jump by twenty points from seed to seed.
        {value: Candidate(f"sd_dropout_w{value}", "averaged") for value in (0.01, 0.03, 0.1)},
        ("dropout",),
    ),
    Decision(
        "WAKD: averaging.buffers",
        "averaging/wakd.yaml",
        "buffers",
        "average",
        {
            "average": Candidate("erm_buffers_average", "averaged"),
            "reestimate": Candidate("erm", "averaged"),
        },
    ),
)


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
