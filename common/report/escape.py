"""Text from files on its way out. Names may hold anything: each way out shows them and obeys none of them.

A terminal obeys control characters, a figure formulas between dollars (switched off in the theme), a page HTML, a
spreadsheet whatever begins like a formula.
"""

import html

from common.text import clipped, visible

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
            "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip
_LONGEST_DRAWN = 48


def on_page(text: str) -> str:
    """For HTML."""
    return html.escape(visible(text))


def in_figure(text: str) -> str:
    """For a figure, which has no room for much and leaves names with an underscore in front out of its legend."""
    shown = clipped(visible(text), _LONGEST_DRAWN)
    return f" {shown}" if shown.startswith("_") else shown


def in_cell(text: str) -> str:
    """For a spreadsheet: what it would take for a formula gets an apostrophe in front.

    >>> in_cell("=1+1"), in_cell("kd")
    ("'=1+1", 'kd')
    """
    shown = visible(text)
    return f"'{shown}" if text.startswith(_FORMULA) else shown
