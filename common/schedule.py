"""Weights that change over training."""

import dataclasses

from common.arguments import Fraction, NotNegative, Share, checked_fields


@checked_fields
@dataclasses.dataclass(frozen=True)
class LinearSchedule:
    """A line from ``start`` to ``end`` over a part of training, constant before and after it.

    Args:
        start: Value at the beginning.
        end: Value from ``begin + fraction`` on.
        fraction: Part of training the change takes, in [0, 1]; 0 is a step.
        begin: Part of training, in [0, 1), that is done when it begins.

    Raises:
        InputError: a value outside its range.

    >>> LinearSchedule(start=0.0, end=0.1, fraction=0.5)(0.25)
    0.05
    >>> step = LinearSchedule(start=0.0, end=1.0, fraction=0.0, begin=0.5)
    >>> step(0.49), step(0.5)
    (0.0, 1.0)
    """

    start: NotNegative
    end: NotNegative
    fraction: Fraction = 1.0
    begin: Share = 0.0

    def __call__(self, progress: float) -> float:
        """Value at ``progress`` in [0, 1], the part of training that is done."""
        gone = progress - self.begin
        done = float(gone >= 0) if self.fraction == 0 else min(max(gone / self.fraction, 0.0), 1.0)
        return self.start + (self.end - self.start) * done


Weight = NotNegative | LinearSchedule
"""A factor in the total loss, constant or a schedule over training."""


def value_at(weight: "float | LinearSchedule", progress: float) -> float:
    """The weight's value at ``progress``: itself if it is constant."""
    return weight(progress) if isinstance(weight, LinearSchedule) else weight
