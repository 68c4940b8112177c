"""What the committed grids found for a method, for the pages that say it."""

from pathlib import Path
from typing import NamedTuple

from benchmarks.effect import comparison

DIGITS = Path(__file__).parent / "digits" / "results.md"
# Grid → what it is about, and whether only its mean over targets is wanted.
EFFECT = {"core": ("segmentation", True), "policies": ("CoinRun", False)}


class Found(NamedTuple):
    """A method's difference to plain training of equally many steps on domains that training has not seen.

    Attributes:
        about: The grid, in a word.
        page: Its page, from the root of the repository.
        weights: ``last`` or ``averaged``, as those of plain training.
        difference: In points, with its interval.
        time: Training time over that of plain training; empty where it was not measured.
    """

    about: str
    page: str
    weights: str
    difference: str
    time: str


def found(method: str) -> list[Found]:
    """Digits first, then segmentation, then policies."""
    return [*_digits(method), *_effect(method)]


def _digits(method: str) -> list[Found]:
    rows, weights = [], ""
    titles = {"## The weights of the last step": "last", "## Averaged weights": "averaged"}
    for line in DIGITS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            weights = next((name for start, name in titles.items() if line.startswith(start)), "")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if weights and cells[0] == method:
            sure = " *" if float(cells[5]) <= comparison.LEVEL else ""
            rows.append(Found("digits", "benchmarks/digits/results.md", weights, f"{cells[4]}{sure}", cells[8]))
    return rows


def _effect(method: str) -> list[Found]:
    rows = []
    for name, (about, over_targets) in EFFECT.items():
        for file, suffix, weights in ((name, "", "last"), (f"{name}_averaged", comparison.AVERAGED, "averaged")):
            for row in comparison.read(file):
                wanted = row["target"] == "*" or not over_targets
                if wanted and row["method"] == f"{method}{suffix}" and row["difference_low"]:
                    cost = f"{float(row['relative_cost']):.2f}" if row["relative_cost"] else ""
                    page = "benchmarks/effect/results.md"
                    rows.append(Found(about, page, weights, comparison.difference(row), cost))
    return rows
