"""Weights that change over training."""

import pytest

from common.errors import InputError
from common.schedule import LinearSchedule, value_at


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(-1.0, 1.0), (0.0, 1.0), (0.125, 2.0), (0.25, 3.0), (0.5, 5.0), (0.75, 5.0), (1.0, 5.0), (2.0, 5.0)],
)
def test_a_line_then_constant(progress: float, expected: float) -> None:
    assert LinearSchedule(1.0, 5.0, 0.5)(progress) == pytest.approx(expected)


def test_takes_the_whole_training_unless_told() -> None:
    schedule = LinearSchedule(1.0, 0.0)
    assert [schedule(progress) for progress in (0.0, 0.25, 1.0)] == pytest.approx([1.0, 0.75, 0.0])


@pytest.mark.parametrize("fraction", [-0.5, 1.5, float("nan")])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(InputError, match=rf"fraction={fraction} must be in \[0, 1\]"):
        LinearSchedule(0.0, 1.0, fraction)


def test_value_at() -> None:
    assert value_at(0.3, 0.9) == 0.3
    assert value_at(LinearSchedule(0.0, 1.0), 0.9) == pytest.approx(0.9)


def test_a_line_may_begin_later_and_be_a_step() -> None:
    late = LinearSchedule(1.0, 3.0, fraction=0.25, begin=0.5)
    assert [late(progress) for progress in (0.0, 0.5, 0.625, 0.75, 1.0)] == [1.0, 1.0, 2.0, 3.0, 3.0]
    step = LinearSchedule(1.0, 0.0, fraction=0.0, begin=0.5)
    assert [step(progress) for progress in (0.0, 0.499, 0.5, 1.0)] == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(InputError, match=r"begin=1 must be in \[0, 1\)"):
        LinearSchedule(0.0, 1.0, begin=1)
