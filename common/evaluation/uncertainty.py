"""Intervals and p-values that are honest with few seeds.

The percentile interval of a bootstrap over three seeds holds the truth in three cases out of four, not in 95 %: three
numbers vary less among themselves than the population does (by the factor 2/3 in variance), and nothing tells how well
three of them know their spread. Here the bootstrap keeps what it is good at (the variance that the choice of *items*
adds, with clusters and pairing), the variance between *seeds* is made unbiased (for means; for interquartile means
about so), and Student's t takes the place of the normal distribution, with Satterthwaite's degrees of freedom for a sum
of two variances. Wide intervals follow where the seeds disagree and are few, narrow ones where all seeds find the same
items hard. Where every run errs on items of its own, a bootstrap that shares items between seeds counts that noise more
than once, and the interval is wider than it need be.

Sources: Satterthwaite 1946, "An approximate distribution of estimates of variance components"; Efron and Stein 1981,
"The jackknife estimate of variance"; Hesterberg 2015, https://arxiv.org/abs/1411.5279 (percentile intervals of small
samples are too narrow). Joining them to a hierarchical bootstrap is ours; ``test_uncertainty.py`` measures the
coverage.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # type: ignore[import-untyped]

from common.evaluation.statistics import Interval

Floats = NDArray[np.float64]


class Spread(NamedTuple):
    """How far an aggregate may be off.

    Attributes:
        error: Standard error, in the aggregate's units.
        freedom: Degrees of freedom behind it.
    """

    error: float
    freedom: float


def jackknife(runs: Sequence[Floats], aggregate: Callable[[Floats], Any]) -> list[Floats]:
    """How the aggregate of all strata together moves when a run is left out, for each run: ``[S_t]`` → ``[S_t]``.

    The moves are about their stratum's mean and weighted as if the run were left out of its stratum alone, the
    stratum keeping its share of the whole; with a single stratum that is the plain jackknife. A stratum of one run
    gives 0: nobody can know how it varies.

    >>> jackknife([np.array([1.0, 2.0, 6.0])], np.mean)[0].tolist()
    [1.0, 0.5, -1.5]
    """
    together, start, result = np.concatenate(runs), 0, []
    total = len(together)
    for stratum in runs:
        size = len(stratum)
        if size == 1:
            result.append(np.zeros(1))
        else:
            left_out = np.array([aggregate(np.delete(together, start + position)) for position in range(size)])
            result.append((left_out - left_out.mean()) * (total - 1) / total * size / (size - 1))
        start += size
    return result


def spread(resamples: ArrayLike, moves: Sequence[Floats], clusters: int) -> Spread:
    """Standard error from a hierarchical bootstrap, corrected for few seeds and few clusters.

    The bootstrap's variance holds the seeds' share times (S - 1) / S; the jackknife over seeds says what that share
    is. What is left is the items', short by the factor (G - 1) / G.

    Args:
        resamples: The aggregate in each resample of seeds and items ``[R]``; NaN is left out.
        moves: Per stratum (a target, or a method where two have different seeds) :func:`jackknife`'s result ``[S_t]``.
        clusters: Number ``G`` of clusters of items that were drawn.
    """
    strata = [values for values in moves if len(values) > 1]
    sizes = np.array([len(values) for values in strata])
    seeds = np.array([(len(values) - 1) / len(values) * float((values**2).sum()) for values in strata])
    held = float(np.nanvar(np.asarray(resamples, dtype=np.float64)))
    items = max(0.0, held - float((seeds * (sizes - 1) / sizes).sum())) * clusters / max(1, clusters - 1)
    total = float(seeds.sum()) + items
    denominator = float((seeds**2 / (sizes - 1)).sum()) + items**2 / max(1, clusters - 1)
    return Spread(total**0.5, total**2 / denominator if denominator > 0 else 1.0)


def t_interval(value: float, around: Spread, confidence: float = 0.95) -> Interval:
    """``value`` plus and minus Student's quantile times the standard error.

    Raises:
        ValueError: if ``confidence`` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1")
    half = float(special.stdtrit(around.freedom, (1 + confidence) / 2)) * around.error
    return Interval(value - half, value + half)


def t_p_value(value: float, around: Spread) -> float:
    """Two-sided p-value of "it is 0"; below 0.05 exactly where the 95 % interval leaves 0 out.

    >>> t_p_value(0.0, Spread(0.0, 1.0)), t_p_value(0.1, Spread(0.0, 1.0))
    (1.0, 0.0)
    """
    if around.error == 0:
        return float(value == 0)
    return float(2 * special.stdtr(around.freedom, -abs(value) / around.error))
