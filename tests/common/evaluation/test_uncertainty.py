import numpy as np
import pytest
from scipy import stats

from common.evaluation.bootstrap import Items, hierarchical_bootstrap, mean_value
from common.evaluation.statistics import interquartile_mean, percentile_interval
from common.evaluation.uncertainty import Spread, jackknife, spread, t_interval, t_p_value


def resampled(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of resampled seeds and items, of scores ``[S, G]``."""
    names = tuple(str(item) for item in range(values.shape[1]))
    runs = {run: [Items("domain", names, np.stack([row, np.ones_like(row)], axis=1))] for run, row in enumerate(values)}
    return hierarchical_bootstrap({"method": runs}, mean_value, resamples=400, seed=seed)["method"].mean(axis=1)


def test_spread_by_hand() -> None:
    # Seeds at 1, 2, 3: variance of their mean 1/3. The resamples hold 2/3 of it and 2/9 from the items.
    moves = jackknife([np.array([1.0, 2.0, 3.0])], np.mean)
    assert moves[0].tolist() == [0.5, 0.0, -0.5]
    found = spread([-((4 / 9) ** 0.5), (4 / 9) ** 0.5], moves, clusters=5)
    items = 2 / 9 * 5 / 4
    assert found.error == pytest.approx((1 / 3 + items) ** 0.5)
    assert found.freedom == pytest.approx((1 / 3 + items) ** 2 / ((1 / 3) ** 2 / 2 + items**2 / 4))


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_with_a_single_item_it_is_the_t_test(seeds: int) -> None:
    differences = np.random.default_rng(seeds).normal(0.5, 1, seeds)
    every = differences[np.indices((seeds,) * seeds).reshape(seeds, -1)] if seeds < 4 else None
    # All resamples of the seeds where that many can be listed, many where not.
    drawn = np.random.default_rng(0).choice(differences, (200_000, seeds)).mean(1) if every is None else every.mean(0)
    found = spread(drawn, jackknife([differences], np.mean), clusters=1)
    expected = stats.ttest_1samp(differences, 0)
    tolerance = 1e-9 if every is not None else 0.02
    assert t_p_value(differences.mean(), found) == pytest.approx(expected.pvalue, rel=tolerance)
    assert t_interval(differences.mean(), found) == pytest.approx(tuple(expected.confidence_interval()), rel=tolerance)


def test_two_methods_of_other_seeds_have_welchs_freedom() -> None:
    ours, theirs = np.array([1.0, 2.0, 4.0]), np.array([0.0, 5.0, 5.0, 6.0])
    strata = jackknife([ours], np.mean) + jackknife([theirs], np.mean)
    held = np.sqrt(ours.var() / 3 + theirs.var() / 4)  # what a bootstrap of both finds
    found = spread([-held, held], strata, clusters=1)
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    assert t_p_value(ours.mean() - theirs.mean(), found) == pytest.approx(expected.pvalue)


def test_p_value_beside_the_interval() -> None:
    around = Spread(0.3, 3.5)
    for value in np.linspace(-2, 2, 41):
        low, high = t_interval(value, around)
        assert (t_p_value(value, around) < 0.05) == (not low <= 0 <= high)
        assert t_p_value(value, around) == t_p_value(-value, around)
    assert t_interval(1.0, around, confidence=0.5).high < t_interval(1.0, around).high
    with pytest.raises(ValueError, match="between 0 and 1"):
        t_interval(0.0, around, confidence=95)


def test_what_never_varies_is_certain() -> None:
    found = spread(np.full(100, 0.25), jackknife([np.full(3, 0.25)], np.mean), clusters=4)
    assert found.error == 0
    assert t_interval(0.25, found) == (0.25, 0.25)


def test_one_seed_leaves_the_items() -> None:
    drawn = np.random.default_rng(0).normal(size=1000)
    found = spread(drawn, jackknife([np.array([0.4])], np.mean), clusters=8)
    assert found == pytest.approx((drawn.std() * (8 / 7) ** 0.5, 7))


def test_a_trimmed_mean_moves_as_its_runs_are_left_out() -> None:
    runs = np.array([0.0, 1.0, 2.0, 9.0])
    left_out = np.array([interquartile_mean(np.delete(runs, position)) for position in range(4)])
    np.testing.assert_allclose(jackknife([runs], interquartile_mean)[0], left_out - left_out.mean())


def test_strata_keep_their_share_of_the_whole() -> None:
    # The variance of a mean over targets is the sum of share² · variance of each target's mean.
    runs = [np.array([0.0, 1.0, 5.0]), np.array([2.0, 3.0]), np.array([7.0])]
    expected = (3 / 6) ** 2 * runs[0].var(ddof=1) / 3 + (2 / 6) ** 2 * runs[1].var(ddof=1) / 2
    assert spread([0.0, 0.0], jackknife(runs, np.mean), clusters=1).error ** 2 == pytest.approx(expected)


@pytest.mark.parametrize(("between_seeds", "between_items"), [(1.0, 0.0), (1.0, 3.0), (0.0, 3.0)])
def test_the_interval_of_three_seeds_covers_what_it_says(between_seeds: float, between_items: float) -> None:
    rng = np.random.default_rng(0)
    covered, covered_by_percentiles, trials = 0, 0, 300
    for _ in range(trials):
        values = between_seeds * rng.normal(size=(3, 1)) + between_items * rng.normal(size=(1, 20))
        values += 0.5 * rng.normal(size=(3, 20))
        drawn = resampled(values)
        found = spread(drawn, jackknife([values.mean(1)], np.mean), clusters=20)
        low, high = t_interval(values.mean(), found)
        covered += low <= 0 <= high
        low, high = percentile_interval(drawn)
        covered_by_percentiles += low <= 0 <= high
    assert covered / trials > 0.91
    if not between_items:
        assert covered_by_percentiles / trials < 0.82  # what this module is for


def test_the_interval_over_three_targets_of_three_seeds_covers_what_it_says() -> None:
    rng = np.random.default_rng(1)
    covered, trials = 0, 300
    for _ in range(trials):
        targets = [rng.normal(size=(3, 1)) + np.zeros((3, 2)) for _ in range(3)]
        drawn = np.mean([resampled(values, seed) for seed, values in enumerate(targets)], axis=0)
        found = spread(drawn, jackknife([values.mean(1) for values in targets], np.mean), clusters=2)
        low, high = t_interval(float(np.mean(targets)), found)
        covered += low <= 0 <= high
    assert 0.92 < covered / trials < 0.995
