"""What follows from calibration's counters; see :mod:`common.evaluation.calibration`, which needs torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""The number of bins that papers have used since Guo et al."""

Counts = NDArray[Any]
Floats = NDArray[np.float64]


def of_equal_mass(fine: Counts, bins: int = BINS) -> Floats:
    """Merge neighbouring bins into some of nearly equal mass: ``[F, 3]`` → ``[bins, 3]``.

    A fine bin stays whole, and goes where its middle position would go among all, so that a bin that holds more than a
    share of its own is one alone.
    """
    number = np.asarray(fine, dtype=np.float64)[:, 0]
    middle = (np.cumsum(number) - number / 2) / max(number.sum(), 1.0)
    merged = np.zeros((bins, 3))
    np.add.at(merged, (bins * middle).astype(int).clip(0, bins - 1), fine)
    return merged


def expected_calibration_error(counts: Counts) -> Floats:
    """``ECE = Σ_m n_m / n · |accuracy_m − confidence_m|``: ``[..., M, 3]`` → ``[...]``, NaN if there is no position.

    >>> expected_calibration_error(np.array([[2, 1.0, 2], [2, 1.5, 1]])).item()
    0.375
    """
    number, confidence, right = _columns(counts)
    gaps: Floats = np.abs(right - confidence).sum(-1)
    return _divide(gaps, number.sum(-1))


def accuracy(counts: Counts) -> Floats:
    """Share of right predictions: ``[..., M, 3]`` → ``[...]``, NaN if there is no position.

    >>> accuracy(np.array([[2, 1.0, 2], [2, 1.5, 1]])).item()
    0.75
    """
    number, _, right = _columns(counts)
    return _divide(right.sum(-1), number.sum(-1))


def reliability(counts: Counts) -> tuple[Floats, Floats]:
    """Mean confidence and accuracy of each bin, for a reliability diagram: twice ``[..., M]``, NaN in empty bins."""
    number, confidence, right = _columns(counts)
    return _divide(confidence, number), _divide(right, number)


def _columns(counts: Counts) -> tuple[Floats, Floats, Floats]:
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim < 2 or table.shape[-1] != 3:
        raise ValueError(f"counts has shape {table.shape}; expected [..., bins, 3]")
    return table[..., 0], table[..., 1], table[..., 2]


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    nothing = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)
