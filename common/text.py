"""Values and names of others as text that a message or a report can show: on one line, and obeyed by nothing."""

import unicodedata

_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of characters, separators of lines
# What turns the direction of writing around: a name could be read as another.
_TURNING = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


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


def shown(value: object, most: int = 200) -> str:
    """A value as a message shows it.

    >>> shown("a" * 9, 6)
    "'aaaa…"
    """
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"a huge {type(value).__name__}"
    return clipped(visible(text), most)
