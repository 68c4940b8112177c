"""The table in a terminal, readable from 80 columns."""

from collections.abc import Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.report import table as text
from common.report.analysis import Analysis
from common.report.rows import Row
from common.report.settings import Setting
from common.text import visible

WIDE = 100
"""From this width on, verdicts and raw returns are shown too."""

_STYLES = {"better": "bold green", "worse": "bold red", "better (few seeds)": "green", "worse (few seeds)": "red"}


def show(analysis: Analysis, console: Console) -> None:
    """Print every table, then what to be wary of."""
    for table in analysis.tables:
        _show(console, table.setting.title, table.setting, table.rows, table.setting.reference)
        console.print(Text(visible(text.headline(table.setting)), style="dim"))
        console.print()
    for targets in analysis.over_targets:
        _show(console, targets.title, targets.settings[0], targets.rows, targets.reference)
        console.print()
    reference = visible(analysis.reference)
    console.print(
        Text(
            f"diff: unseen minus that of {reference}, with its 95 % interval · P: probability that a run beats one of "
            f"{reference} · cost: training time over that of {reference} · better, worse: p ≤ 0.05 after Holm's "
            "correction over methods and targets",
            style="dim",
        )
    )
    for note in analysis.notes:
        console.print(Text(f"note: {visible(note)}", style="yellow"))
    for skipped in analysis.skipped:
        console.print(Text(f"skipped: {visible(skipped)}", style="yellow"))


def _show(console: Console, title: str, setting: Setting, rows: Sequence[Row], reference: str) -> None:
    wide = console.width >= WIDE
    extra = [name for name in text.shown_extra(rows) if name == "return"] if wide else []
    console.print(Text(visible(title), style="bold"))
    console.print(Text(visible(setting.measure.heading)))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("method", overflow="fold", min_width=8)
    names = [
        "seeds",
        "seen",
        "unseen",
        "gap",
        f"diff to {visible(reference)} [95 %]" if wide else "diff [95 %]",
        "P",
        "cost",
        *extra,
        *(["verdict"] if wide else []),
    ]
    cells = [_cells(row, setting.metric, extra, wide) for row in rows]
    for position, name in enumerate(names):
        width = max(len(name), *(len(row[position]) for row in cells))
        justify: Literal["left", "right"] = "left" if name == "verdict" else "right"
        table.add_column(Text(name), justify=justify, no_wrap=True, min_width=width)  # as Text: no markup
    for row, own in zip(rows, cells, strict=True):
        style = _STYLES.get(text.verdict(row), "")
        table.add_row(
            Text(visible(row.label)), *(Text(cell, style=style if i >= 4 else "") for i, cell in enumerate(own))
        )
    console.print(table)


def _cells(row: Row, metric: str, extra: Sequence[str], wide: bool) -> list[str]:
    cells = [
        str(row.seeds),
        text.number(row.seen, metric),
        text.number(row.unseen, metric),
        text.number(row.gap, metric, signed=True),
        text.difference(row, metric),
        text.probability(row),
        text.cost(row),
        *(text.number(row.extra.get(name), name) for name in extra),
    ]
    return [*cells, text.verdict(row)] if wide else cells
