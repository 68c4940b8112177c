"""What the committed grids found for a method, for the pages that say it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.effect import comparison, strong
from benchmarks.effect.committed import RESULTS, rows_of

DIGITS = Path(__file__).parent / "digits" / "results.md"
PAGE = "benchmarks/effect/results.md"
# Grid → what it is about.
STRONG = {
    "nuclei_invert": "nuclei",
    "nuclei_mild": "nuclei, `mild`",
    "scarce_5": "nuclei, 5 % of the masks",
    "scarce_25": "nuclei, 25 % of the masks",
    "one_labelled": "nuclei, masks of one domain",
    "one_labelled_longer": "nuclei, masks of one domain, four times the steps",
    "nuclei_longer": "nuclei, four times the steps",
    "colonies_one_labelled": "bacteria, masks of one domain",
    "microcolonies": "bacteria",
    "looks": "game frames",
}
STUDENTS = {
    "students_10": "CoinRun, a tenth of the teacher's steps",
    "students_wide": "CoinRun, a teacher of other levels",
    "students_levels": "CoinRun, a teacher of other levels, on levels alone",
}


class Found(NamedTuple):
    """A method's difference to plain training of equally many steps on domains that training has not seen.

    Attributes:
        about: The grid, in a word.
        page: Its page, from the root of the repository.
        weights: ``last`` or ``averaged``, as those of plain training.
        difference: In points, with its interval.
        time: Training time over that of plain training; empty where it was not measured.
        headline: Whether a table with room for one number of this grid shows this one: of rows with all seeds.
    """

    about: str
    page: str
    weights: str
    difference: str
    time: str
    headline: bool


def found(method: str) -> list[Found]:
    """Digits first, then segmentation, then policies; ``erm (averaged)`` is averaging itself, less the last weights."""
    return [
        *_digits(method),
        *(one for name, about in STRONG.items() for one in _strong(method, name, about)),
        *_compared(method, "core", "segmentation, small budget", lambda row: row["target"] == "*", lambda _: False),
        *_compared(method, "policies", "CoinRun, an equal teacher", lambda _: True, lambda _: False),
        *(one for name, about in STUDENTS.items() for one in _students(method, name, about)),
    ]


def seeds(about: str) -> int:
    """How many seeds there are of a grid in ``STRONG`` or ``STUDENTS``."""
    name = next(name for name, own in (STRONG | STUDENTS).items() if own == about)
    return len({row["seed"] for row in rows_of(name) if row["method"] == "erm"})


def _digits(method: str) -> Iterator[Found]:
    weights, titles = "", {"## The weights of the last step": "last", "## Averaged weights": "averaged"}
    for line in DIGITS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            weights = next((name for start, name in titles.items() if line.startswith(start)), "")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if weights and cells[0] == method:
            difference = f"{cells[4]}{' *' if float(cells[5]) <= comparison.LEVEL else ''}"
            page = "benchmarks/digits/results.md"
            yield Found("digits", page, weights, difference, cells[8], weights == "averaged")


def _strong(method: str, name: str, about: str) -> Iterator[Found]:
    if not (RESULTS / f"{name}.csv").exists():
        return
    first = strong.headline(rows_of(name)) if strong.on_all_targets(name) else None
    yield from _compared(method, name, about, lambda row: row["target"] == "*", lambda weights: weights == first)


def _students(method: str, name: str, about: str) -> Iterator[Found]:
    if (RESULTS / f"{name}.csv").exists():
        first = strong.headline(rows_of(name))
        for one in _compared(method, name, about, lambda _: True, lambda weights: weights == first):
            yield one._replace(time="")  # the machine did other work meanwhile


def _compared(
    method: str,
    name: str,
    about: str,
    wanted: Callable[[dict[str, str]], bool],
    headline: Callable[[str], bool],
) -> Iterator[Found]:
    # Averaging itself is compared with last weights, whichever the others are shown with.
    always = method.endswith(comparison.AVERAGED) and any(map(headline, comparison.WEIGHTS))
    for weights in comparison.WEIGHTS:
        for name_of, own in comparison.judged(name, weights).items():
            if name_of.removesuffix("_wide") != method:  # what the grid is about says whose student it is
                continue
            for row in own.values():
                if wanted(row) and row["difference_low"]:
                    cost = f"{float(row['relative_cost']):.2f}" if row["relative_cost"] else ""
                    first = bool(row["whole"]) and (always or headline(weights))
                    yield Found(about, PAGE, weights, comparison.difference(row), cost, first)
