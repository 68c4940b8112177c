"""What is done to what is judged, in the word that stands in records: kind, name and strength between slashes.

``corruption/fog/3`` · ``attack/pgd-10/2`` (steps; radius in 255ths of the input's range) · ``unknown/images`` ·
``analysis``.
"""

import functools
from typing import Literal, NamedTuple

Kind = Literal["corruption", "attack", "unknown", "analysis"]


class Condition(NamedTuple):
    """The parts of a condition.

    Attributes:
        kind: What is done.
        name: Which of its kind; empty where there is but one.
        strength: How much of it; empty where it has none.
    """

    kind: Kind
    name: str = ""
    strength: str = ""

    def __str__(self) -> str:
        """As in records.

        >>> str(Condition("corruption", "fog", "3")), str(Condition("analysis"))
        ('corruption/fog/3', 'analysis')
        """
        return "/".join(part for part in self if part)


@functools.cache
def condition(text: str) -> Condition | None:
    """The parts of a record's condition; ``None`` where nothing is done, or nothing that is known here.

    >>> condition("attack/pgd-10/0.5")
    Condition(kind='attack', name='pgd-10', strength='0.5')
    >>> condition("") is condition("rain/1") is None
    True
    """
    kind, *parts = text.split("/")
    if kind not in ("corruption", "attack", "unknown", "analysis") or len(parts) > 2:
        return None
    return Condition(kind, *parts)  # type: ignore[arg-type]
