"""Weights that change over training."""

import dataclasses

from common.arguments import NotNegative, UpToOne, checked_fields


@checked_fields
@dataclasses.dataclass(frozen=True)
class LinearSchedule:
    """A line from ``start`` to ``end`` over the first ``fraction`` of training, constant after it.

    Args:
        start: Value at the beginning.
        end: Value from ``fraction`` on.
        fraction: Part of training the change takes, in (0, 1].

    Raises:
        InputError: ``fraction`` outside (0, 1], or a negative value.

    >>> LinearSchedule(start=0.0, end=0.1, fraction=0.5)(0.25)
    0.05
    """

    start: NotNegative
    end: NotNegative
    fraction: UpToOne = 1.0

    def __call__(self, progress: float) -> float:
        """Value at ``progress`` in [0, 1], the part of training that is done."""
        done = min(max(progress / self.fraction, 0.0), 1.0)
        return self.start + (self.end - self.start) * done


Weight = NotNegative | LinearSchedule
"""A factor in the total loss, constant or a schedule over training."""


def value_at(weight: "float | LinearSchedule", progress: float) -> float:
    """The weight's value at ``progress``: itself if it is constant."""
    return weight(progress) if isinstance(weight, LinearSchedule) else weight
