"""Figures of running times that survive a busy machine: contestants take turns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A turn: does its work and returns the seconds that count, on the wall's clock and of this process's processor time.
Times = tuple[float, float]
Turn = Callable[[], Times]
Seconds = NDArray[np.float64]
Result = dict[str, Any]
"""What was measured: ``value`` is its median over ``rounds``, ``low`` and ``high`` the quartiles; and facts beside."""


def take_turns(
    players: Mapping[str, Turn], rounds: int, warm_up: int = 1
) -> tuple[dict[str, Seconds], dict[str, Seconds]]:
    """Seconds and processor seconds ``[rounds]`` of every player; each round is one turn of each, in alternating order.

    What else the machine does falls on neighbours alike, so only ratios within a round are compared. Processor
    time leaves out waiting for a core: on a crowded machine it says what the clock would on a quiet one. It
    means little with more than one torch thread, which spin while they wait, and nothing on a GPU.
    """
    times: dict[str, list[Times]] = {name: [] for name in players}
    for number in range(warm_up + rounds):
        for name in list(players) if number % 2 else reversed(list(players)):
            times[name].append(players[name]())
    wall, processor = (
        {name: np.array([pair[which] for pair in values[warm_up:]]) for name, values in times.items()}
        for which in (0, 1)
    )
    return wall, processor


def figure(values: Sequence[float] | Seconds) -> Result:
    """Median of a figure over rounds and its quartiles."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"value": float(median), "low": float(low), "high": float(high), "rounds": len(values)}


def summary(seconds: Mapping[str, Seconds]) -> dict[str, Any]:
    """Median seconds of every player."""
    return {name: float(np.median(values)) for name, values in seconds.items()}
