"""Text from files on its way out. Names may hold anything: each way out shows them and obeys none of them.

A terminal obeys control characters, a figure formulas between dollars (switched off in the theme), a page HTML, a
spreadsheet whatever begins like a formula.
"""

import html
import unicodedata

_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of characters, separators of lines
# What turns the direction of writing around: a name could be read as another.
_TURNING = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
            "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip
_LONGEST_DRAWN = 48


def visible(text: str) -> str:
    r"""One line in which nothing is obeyed: what would not be seen is written as its code.

    >>> print(visible("a" + chr(27) + "[2J" + chr(10)))
    a\x1b[2J\x0a
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(one) if _is_unseen(one) else one for one in text)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or ord(character) in _TURNING


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def clipped(text: str, most: int) -> str:
    """At most so many characters.

    >>> clipped("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


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
