"""What ``mkdocs build`` adds to the pages of ``docs``: the benchmarks' own pages, and what they found for a method.

A line ``<!-- found: kddg kddg_teacher -->`` becomes the rows of the committed grids that are about these methods, so
that no number is typed.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from benchmarks.effect import comparison

ROOT = Path(__file__).parents[1]
PAGES = (
    *("effect/results.md", "effect/control.md", "digits/results.md", "augkd/results.md", "speed/results.md"),
    *("evaluation/results/nuclei.md", "evaluation/results/coinrun.md"),
)
FOUND = re.compile(r"<!-- found: ([a-z_ ]+) -->")
_DIGITS = {"## The weights of the last step": "last", "## Averaged weights": "averaged"}
_HEAD = ["| grid | weights | method | Δ unseen [95 %] | time |", "|---|---|---|---|--:|"]


def on_files(files: Files, config: Any) -> Files:
    """Add the benchmarks' pages beside those of ``docs``."""
    for page in PAGES:
        place = f"benchmarks/{page}"
        files.append(File(place, str(ROOT), config["site_dir"], config["use_directory_urls"]))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what was found; links out of ``docs`` go to the same page within the site."""
    markdown = FOUND.sub(lambda match: found(match[1].split()), markdown)
    return re.sub(r"\]\((?:\.\./)+(benchmarks/[^)]*\.md)\)", lambda match: f"]({_up(page)}{match[1]})", markdown)


def _up(page: Any) -> str:
    return "../" * page.file.src_uri.count("/")


def found(methods: Iterable[str]) -> str:
    """A table in Markdown: the difference to plain training of equally many steps on unseen domains."""
    lines = [line for method in methods for line in (*_digits(method), *_effect(method))]
    if not lines:
        return "No committed grid has a row of this method yet."
    about = "Difference to plain training with equally many steps, in points, on domains that training has not seen."
    return "\n".join([about, "", *_HEAD, *lines])


def _digits(method: str) -> list[str]:
    lines, weights = [], ""
    for line in (ROOT / "benchmarks" / "digits" / "results.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            weights = next((name for start, name in _DIGITS.items() if line.startswith(start)), "")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if weights and cells[0] == method:
            lines.append(
                f"| [digits](../benchmarks/digits/results.md) | {weights} | `{method}` | {cells[4]} | {cells[8]} |"
            )
    return lines


def _effect(method: str) -> list[str]:
    lines = []
    for name, what in (("core", "segmentation"), ("policies", "CoinRun")):
        for file, suffix, weights in ((name, "", "last"), (f"{name}_averaged", comparison.AVERAGED, "averaged")):
            for row in comparison.read(file):
                whole = row["target"] == "*" or name == "policies"
                if whole and row["method"] == f"{method}{suffix}" and row["difference_low"]:
                    cost = f"{float(row['relative_cost']):.2f}" if row["relative_cost"] else ""
                    place = f"[{what}](../benchmarks/effect/results.md)"
                    lines.append(f"| {place} | {weights} | `{method}` | {comparison.difference(row)} | {cost} |")
    return lines
