"""Which levels of a game to play: blocks of level numbers to train, validate and test on."""

import dataclasses

import numpy as np

from common.errors import InputError

LAST_LEVEL = 2**31 - 2


def whole_number(value: object, what: str, low: int, high: int) -> int:
    """Return ``value`` as ``int`` if it is a whole number within ``[low, high]``.

    Raises:
        InputError: otherwise, naming ``what`` and the range.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and low <= value <= high:
        return int(value)
    raise InputError(f"{what}={value!r} cannot be used; give a whole number from {low} to {high}")


@dataclasses.dataclass(frozen=True)
class LevelSet:
    """The levels an engine draws its episodes from, each drawn uniformly and with replacement.

    Use :meth:`seen`, :meth:`unseen` or :meth:`validation`.

    Args:
        start: Number of the first level.
        count: How many levels follow from there; 0 stands for all 2³¹ - 1 of them (then ``start`` is 0).

    Raises:
        InputError: if either is out of range.
    """

    start: int = 0
    count: int = 200

    def __post_init__(self) -> None:
        whole_number(self.start, "levels.start", 0, LAST_LEVEL)
        whole_number(self.count, "levels.count", 0, LAST_LEVEL - self.start + 1)
        if self.count == 0 and self.start != 0:
            raise InputError(f"levels.start={self.start} has no meaning for all levels (count=0); leave it 0")

    @classmethod
    def seen(cls, start: int = 0, count: int = 200) -> "LevelSet":
        """``count`` levels from ``start`` on: the ones to train on.

        >>> LevelSet.seen()
        LevelSet(start=0, count=200)
        """
        whole_number(count, "levels.count", 1, LAST_LEVEL)
        return cls(start, count)

    @classmethod
    def unseen(cls) -> "LevelSet":
        """The full distribution, on which the protocol tests.

        It contains the training levels, with a chance of one in ten million to draw one of 200. More
        often a test level merely looks like a training level: 24 % of easy CoinRun's, 20 % of easy Maze's.

        >>> LevelSet.unseen().bounded
        False
        """
        return cls(0, 0)

    @classmethod
    def validation(cls, seen: "LevelSet | None" = None, start: int | None = None, count: int = 200) -> "LevelSet":
        """A block of levels to choose between models on, apart from the ones trained on.

        Args:
            seen: The training levels. Default: ``LevelSet.seen()``.
            start: First level. Default: the one after the last training level.
            count: How many.

        Raises:
            InputError: if the block overlaps ``seen``, or ``seen`` is the full distribution.

        >>> LevelSet.validation(LevelSet.seen(0, 200))
        LevelSet(start=200, count=200)
        """
        seen = seen if seen is not None else cls.seen()
        if not seen.bounded:
            raise InputError("levels.count=0 (all levels) leaves none to validate on; train on a bounded block")
        block = cls.seen(seen.start + seen.count if start is None else start, count)
        if block.overlaps(seen):
            raise InputError(
                f"levels.start={block.start} with levels.count={block.count} overlaps the training levels "
                f"{seen.start} to {seen.start + seen.count - 1}; start at {seen.start + seen.count}"
            )
        return block

    @property
    def bounded(self) -> bool:
        """Whether this is a finite block, not the full distribution."""
        return self.count > 0

    def overlaps(self, other: "LevelSet") -> bool:
        """Whether the two have a level in common."""
        return not (self.bounded and other.bounded) or self.shared(other) > 0

    def shared(self, other: "LevelSet") -> int:
        """How many levels two finite blocks have in common.

        >>> LevelSet(400, 10_000).shared(LevelSet(200, 1_000))
        800
        """
        end = min(self.start + self.count, other.start + other.count)
        return max(0, end - max(self.start, other.start))

    def __contains__(self, level: int) -> bool:
        return not self.bounded or self.start <= level < self.start + self.count
