"""What ``mkdocs build`` adds to the pages of ``docs``: the benchmarks' own pages, and what they found for a method.

A line ``<!-- found: kddg kddg_teacher -->`` becomes the rows of the committed grids that are about these methods, and
``<!-- headline -->`` the README's table of methods, so that no number is typed.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from benchmarks.found import found as found_of
from benchmarks.readme import methods as headline

ROOT = Path(__file__).parents[1]
PAGES = (
    *("effect/results.md", "effect/plan.md", "effect/control.md", "digits/results.md", "augkd/results.md"),
    *("speed/results.md", "evaluation/results/nuclei.md", "evaluation/results/coinrun.md"),
)
PICTURE = "speed/growth.svg"
FOUND = re.compile(r"<!-- found: ([a-z_ ]+) -->")
HEADLINE = "<!-- headline -->"
_HEAD = ["| grid | weights | method | Δ unseen [95 %] | time |", "|---|---|---|---|--:|"]


def on_files(files: Files, config: Any) -> Files:
    """Add the benchmarks' pages, and their picture, beside those of ``docs``."""
    for page in (*PAGES, PICTURE):
        place = f"benchmarks/{page}"
        files.append(File(place, str(ROOT), config["site_dir"], config["use_directory_urls"]))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what was found; links out of ``docs`` go to the same page within the site."""
    if HEADLINE in markdown:
        markdown = markdown.replace(HEADLINE, headline().replace("](benchmarks/", "](../benchmarks/"))
    markdown = FOUND.sub(lambda match: found(match[1].split()), markdown)
    if "<!-- found" in markdown:
        raise ValueError(f"{page.file.src_uri}: what a line <!-- found: … --> asks for is not understood")
    return re.sub(r"\]\((?:\.\./)+(benchmarks/[^)]*\.md)\)", lambda match: f"]({_up(page)}{match[1]})", markdown)


def _up(page: Any) -> str:
    return "../" * page.file.src_uri.count("/")


def found(methods: Iterable[str]) -> str:
    """A table in Markdown: the difference to plain training of equally many steps on unseen domains."""
    lines = [
        f"| [{one.about}](../{one.page}) | {one.weights} | `{method}` | {one.difference} | {one.time} |"
        for method in methods
        for one in found_of(method)
    ]
    if not lines:
        return "No committed grid has a row of this method yet."
    about = "Difference to plain training of as many steps, in points, on domains never trained on; `*`: sure."
    return "\n".join([about, "", *_HEAD, *lines])
