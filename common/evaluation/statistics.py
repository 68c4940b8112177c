"""What a handful of runs says, and how surely.

Aggregates of runs (interquartile mean, standard error, probability of improvement), percentile intervals of resamples
and Holm's correction. The resamples come from :mod:`common.evaluation.bootstrap`; intervals of scores and their
differences, and p-values, from :mod:`common.evaluation.uncertainty`.

Sources: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
https://arxiv.org/abs/2108.13264 (interquartile mean, probability of improvement, stratified bootstrap);
Holm 1979, "A simple sequentially rejective multiple test procedure".
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # type: ignore[import-untyped]

Floats = NDArray[np.float64]

LEVEL = 0.05
"""A difference is called one where its corrected p-value is at most this."""


class Interval(NamedTuple):
    """A confidence interval, in the units of what it is about."""

    low: float
    high: float


def interquartile_mean(runs: ArrayLike, axis: int = -1) -> Any:
    """Mean of the middle half of the runs: ``[..., S]`` → ``[...]``.

    It is taken over *runs* (seeds × games), each run being the mean of its episodes, never over single episodes:
    where returns are 0 or 10 (CoinRun), the middle half of the episodes of a policy that succeeds 80 % of the time
    is all tens, and the policy would look perfect.

    As ``scipy.stats.trim_mean(runs, 0.25)``: ``floor(S / 4)`` runs are cut from each end, so three runs or fewer
    give the plain mean.

    >>> float(interquartile_mean([0.0, 1.0, 2.0, 100.0]))
    1.5
    """
    ordered = np.sort(np.asarray(runs, dtype=np.float64), axis=axis)
    cut = ordered.shape[axis] // 4
    middle: Floats = np.mean(np.take(ordered, range(cut, ordered.shape[axis] - cut), axis=axis), axis=axis)
    return middle


def standard_error(runs: ArrayLike, axis: int = -1) -> Any:
    """Standard error of the mean with ``ddof=1``: ``[..., S]`` → ``[...]``, NaN for a single run.

    >>> float(standard_error([1.0, 3.0]))
    1.0
    """
    values = np.asarray(runs, dtype=np.float64)
    count = values.shape[axis]
    if count < 2:  # one run says nothing about the spread
        return np.full(np.delete(values.shape, axis), np.nan)[()]
    return values.std(axis=axis, ddof=1) / np.sqrt(count)


def percentile_interval(resamples: ArrayLike, confidence: float = 0.95) -> Interval:
    """The central ``confidence`` of the resampled statistics ``[R]``; NaN resamples are left out.

    Raises:
        ValueError: if ``confidence`` is not between 0 and 1, or there is no resample.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1")
    values = np.asarray(resamples, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        raise ValueError("no resample to take an interval of")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike) -> Any:
    """Probability that a run of ours beats a run of theirs, ties counting one half.

    Args:
        ours: ``[..., S]``, the score of each of our runs.
        theirs: ``[..., T]``, the score of each of theirs; the leading axes match.

    Returns:
        ``[...]`` in [0, 1]: the mean over all ``S · T`` pairs (the Mann-Whitney statistic over ``S · T``).

    >>> float(probability_of_improvement([1.0, 2.0], [1.0, 0.0]))
    0.875
    """
    first = np.asarray(ours, dtype=np.float64)[..., :, None]
    second = np.asarray(theirs, dtype=np.float64)[..., None, :]
    return ((first > second) + 0.5 * (first == second)).mean(axis=(-2, -1))


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down correction for several questions asked at once: ``[M]`` → adjusted ``[M]``.

    Reject where the adjusted value is at most the level, and the chance of even one false rejection among the
    ``M`` stays below that level, whatever the dependence.

    Raises:
        ValueError: if a value is outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"p-values must lie in [0, 1], got {values.tolist()}")
    order = np.argsort(values, kind="stable")
    factors = np.arange(values.size, 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted


def holm_known(p_values: Sequence[float | None]) -> list[float | None]:
    """:func:`holm` over the questions that have a p-value; the others are no questions and stay ``None``.

    >>> holm_known([0.01, None, 0.03])
    [0.02, None, 0.03]
    """
    adjusted = iter(holm([value for value in p_values if value is not None]).tolist())
    return [None if value is None else next(adjusted) for value in p_values]


def performance_profile(runs: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Share of runs above each threshold: ``[..., S]``, ``[T]`` → ``[..., T]`` (Agarwal et al. 2021, section 4.3).

    >>> performance_profile([0.2, 0.5, 0.5, 0.9], [0.0, 0.5, 0.8]).tolist()
    [1.0, 0.25, 0.25]
    """
    values = np.asarray(runs, dtype=np.float64)[..., None, :]
    above: Floats = (values > np.asarray(thresholds, dtype=np.float64)[:, None]).mean(axis=-1)
    return above


def paired_interval(differences: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Student's interval of the mean of paired differences ``[S]``; ``None`` below two pairs.

    >>> paired_interval([1.0]) is None
    True
    >>> [round(bound, 2) for bound in paired_interval([1.0, 2.0, 3.0])]
    [-0.48, 4.48]
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return None
    reach = float(special.stdtrit(len(values) - 1, (1 + confidence) / 2) * standard_error(values))
    return Interval(float(values.mean()) - reach, float(values.mean()) + reach)
