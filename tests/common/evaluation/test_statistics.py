import numpy as np
import pytest
from scipy import stats

from common.evaluation.statistics import (
    holm,
    interquartile_mean,
    paired_interval,
    percentile_interval,
    performance_profile,
    probability_of_improvement,
    standard_error,
)


def test_interquartile_mean_by_hand() -> None:
    assert interquartile_mean([100.0, 2.0, 1.0, -50.0]) == 1.5
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0  # nothing to cut from three
    np.testing.assert_array_equal(interquartile_mean(np.arange(8.0).reshape(2, 4)), [1.5, 5.5])


def test_interquartile_mean_over_runs_is_not_over_episodes() -> None:
    episodes = np.array([[10.0] * 8 + [0.0] * 2] * 4)  # four runs that succeed in 80 % of the episodes
    assert interquartile_mean(episodes.mean(1)) == 8.0
    assert interquartile_mean(episodes.ravel()) == 10.0


def test_standard_error() -> None:
    runs = np.random.default_rng(0).normal(size=(3, 7))
    np.testing.assert_allclose(standard_error(runs), stats.sem(runs, axis=-1, ddof=1))
    assert np.isnan(standard_error([1.0]))
    assert np.isnan(standard_error(np.ones((4, 1)))).tolist() == [True] * 4


def test_probability_of_improvement_is_mann_whitney() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.integers(0, 5, 6).astype(float), rng.integers(0, 5, 9).astype(float)  # with ties
    expected = stats.mannwhitneyu(ours, theirs).statistic / (6 * 9)
    assert probability_of_improvement(ours, theirs) == pytest.approx(expected)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - expected)
    assert probability_of_improvement(ours, ours) == 0.5


def test_probability_of_improvement_over_leading_axes() -> None:
    assert probability_of_improvement([[1.0, 2.0], [0.0, 0.0]], [[0.0], [0.0]]).tolist() == [1.0, 0.5]


def test_percentile_interval() -> None:
    assert percentile_interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert percentile_interval([np.nan, *np.arange(101.0)], confidence=0.5) == pytest.approx((25.0, 75.0))
    with pytest.raises(ValueError, match="between 0 and 1"):
        percentile_interval([1.0], confidence=95)
    with pytest.raises(ValueError, match="no resample"):
        percentile_interval([np.nan])


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([0.04]).tolist() == [0.04]
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, 1.2])


def test_holm_rejects_at_least_bonferroni_and_at_most_uncorrected() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        p_values = rng.random(6) ** 3
        adjusted = holm(p_values)
        assert (adjusted >= p_values).all()
        assert (adjusted <= np.minimum(1, 6 * p_values) + 1e-12).all()
        assert (np.diff(adjusted[np.argsort(p_values)]) >= 0).all()


def test_profiles_as_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    runs, thresholds = rng.normal(size=(3, 7)).round(1), np.linspace(-2, 2, 9).round(1)
    found = performance_profile(runs, thresholds)
    for row, scores in enumerate(runs):
        for column, threshold in enumerate(thresholds):
            assert found[row, column] == pytest.approx(sum(score > threshold for score in scores) / 7)
    assert (np.diff(found, axis=1) <= 0).all()


def test_a_paired_interval_is_scipys() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, size=6)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval()
    assert paired_interval(values) == pytest.approx(tuple(expected))
    assert paired_interval([2.0, 2.0]) == (2.0, 2.0)
