"""Intervals and p-values that are honest with few seeds.

The percentile interval of a bootstrap over three seeds holds the truth in three cases out of four, not in 95 %: three
numbers vary less among themselves than the population does (by the factor 2/3 in variance), and nothing tells how well
three of them know their spread. Here the bootstrap keeps what it is good at (the variance that the choice of *items*
adds, with clusters and pairing), the variance between *seeds* is made unbiased, and Student's t takes the place of the
normal distribution, with Satterthwaite's degrees of freedom for a sum of two variances. Wide intervals follow where the
seeds disagree and are few, narrow ones where the items decide.

Sources: Satterthwaite 1946, "An approximate distribution of estimates of variance components"; Efron and Stein 1981,
"The jackknife estimate of variance"; Hesterberg 2015, https://arxiv.org/abs/1411.5279 (percentile intervals of small
samples are too narrow). Joining them to a hierarchical bootstrap is ours; ``test_uncertainty.py`` measures the
coverage.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats  # type: ignore[import-untyped]

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


def leave_one_out(runs: Sequence[Floats], aggregate: Callable[[Floats], Any]) -> list[Floats]:
    """The aggregate of all runs but one, for each run: strata ``[S_t]`` → ``[S_t]``; NaN where no run is left.

    >>> [values.tolist() for values in leave_one_out([np.array([1.0, 2.0, 6.0])], np.mean)]
    [[4.0, 3.5, 1.5]]
    """
    together, start, result = np.concatenate(runs), 0, []
    for stratum in runs:
        rest = [np.delete(together, start + position) for position in range(len(stratum))]
        result.append(np.array([aggregate(one) if one.size else np.nan for one in rest]))
        start += len(stratum)
    return result


def spread(resamples: ArrayLike, left_out: Sequence[Floats], clusters: int) -> Spread:
    """Standard error from a hierarchical bootstrap, corrected for few seeds.

    The bootstrap's variance holds the seeds' share times (S - 1) / S; the jackknife over seeds says what that share
    is, so that the missing part is added and the degrees of freedom are weighted.

    Args:
        resamples: The aggregate in each resample of seeds and items ``[R]``; NaN is left out.
        left_out: Per stratum (a target, or a method where two have different seeds) the aggregate without each seed
            in turn ``[S_t]``; a stratum of one seed counts as if it had no variance, which nobody can know.
        clusters: Number of clusters of items that were drawn.
    """
    variances, counts = [], []
    for values in left_out:
        if len(values) > 1:
            variances.append((len(values) - 1) / len(values) * float(((values - values.mean()) ** 2).sum()))
            counts.append(len(values))
    seeds, sizes = np.array(variances), np.array(counts)
    total = float(np.nanvar(np.asarray(resamples, dtype=np.float64))) + float((seeds / sizes).sum())
    items = max(0.0, total - float(seeds.sum()))
    denominator = float((seeds**2 / (sizes - 1)).sum()) + items**2 / max(1, clusters - 1)
    return Spread(total**0.5, total**2 / denominator if denominator > 0 else 1.0)


def t_interval(value: float, around: Spread, confidence: float = 0.95) -> Interval:
    """``value`` plus and minus Student's quantile times the standard error.

    Raises:
        ValueError: if ``confidence`` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1")
    half = float(stats.t.ppf((1 + confidence) / 2, around.freedom)) * around.error
    return Interval(value - half, value + half)


def t_p_value(value: float, around: Spread) -> float:
    """Two-sided p-value of "it is 0"; below 0.05 exactly where the 95 % interval leaves 0 out.

    >>> t_p_value(0.0, Spread(0.0, 1.0)), t_p_value(0.1, Spread(0.0, 1.0))
    (1.0, 0.0)
    """
    if around.error == 0:
        return float(value == 0)
    return float(2 * stats.t.sf(abs(value) / around.error, around.freedom))
