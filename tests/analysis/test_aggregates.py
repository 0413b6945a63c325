import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from bench.analysis import aggregates, intervals

X = np.array([[1, 2], [2, 2], [1, 1], [2, 1]])
Y = np.array([[1, 1], [2, 2], [3, 3]])
small = arrays(float, st.tuples(st.integers(1, 5), st.just(2)), elements=st.integers(0, 3))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_published_values():
    assert aggregates.interquartile_mean(X) == 1.5
    assert aggregates.probability_of_improvement(X, Y) == pytest.approx(1 / 3)


def test_interquartile_mean_drops_the_outer_quarters():
    assert aggregates.interquartile_mean(np.array([-100, 1, 2, 100])) == 1.5
    assert aggregates.interquartile_mean(np.array([1, 2, 6])) == 3  # too few to trim
    assert aggregates.interquartile_mean(np.array([-np.inf, 1, 2, np.inf, np.nan])) == 1.5
    assert aggregates.interquartile_mean(np.array([-np.inf, 1])) == -np.inf
    assert np.isnan(aggregates.interquartile_mean(np.array([-np.inf, np.inf])))
    assert np.isnan(aggregates.interquartile_mean(np.full((2, 2), np.nan)))
    assert np.isnan(aggregates.interquartile_mean(np.empty((0, 2))))


@given(small, small)
def test_improvement_against_all_pairs(x: np.ndarray, y: np.ndarray):
    pairs = [
        np.mean([(a > b) + (a == b) / 2 for a in x[:, task] for b in y[:, task]])
        for task in range(2)
    ]
    found = aggregates.probability_of_improvement(x, y)
    assert found == pytest.approx(np.mean(pairs))
    assert found + aggregates.probability_of_improvement(y, x) == pytest.approx(1)


@given(small, small)
def test_improvement_is_mann_whitney(x: np.ndarray, y: np.ndarray):
    u = stats.mannwhitneyu(x, y, axis=0, method="asymptotic").statistic
    found = aggregates.probability_of_improvement(x, y)
    assert found == pytest.approx(np.mean(u / len(x) / len(y)))


def test_improvement_with_missing_runs():
    x, y = np.array([[1.0, np.nan], [3, np.nan]]), np.array([[2.0, 1.0]])
    assert aggregates.probability_of_improvement(x, y) == 0.5  # the second task has no x
    assert np.isnan(aggregates.probability_of_improvement(x[:, 1:], y[:, 1:]))
    assert aggregates.probability_of_improvement([[np.inf]], [[np.inf]]) == 0.5
    with pytest.raises(ValueError, match="tasks"):
        aggregates.probability_of_improvement(X, Y[:, :1])


@pytest.mark.parametrize("interval_of", ["interquartile_mean", "improvement"])
def test_intervals_hold_the_estimate_and_follow_the_generator(interval_of: str):
    def interval(seed: int) -> intervals.Interval:
        x, y = generator(9).normal(size=(2, 8, 3))
        if interval_of == "improvement":
            return aggregates.improvement_interval(x, y, rng=generator(seed))
        return aggregates.interquartile_mean_interval(x, rng=generator(seed))

    first = interval(0)
    assert first.low < first.estimate < first.high
    assert interval(0) == first
    assert interval(1) != first


def test_one_run_has_no_interval():
    for found in (
        aggregates.interquartile_mean_interval(X[:1], rng=generator()),
        aggregates.improvement_interval(X[:1], Y[:1], rng=generator()),
    ):
        assert np.isfinite(found.estimate)
        assert np.isnan([found.low, found.high]).all()
    nothing = aggregates.interquartile_mean_interval(np.full((3, 2), np.nan), rng=generator())
    assert np.isnan(nothing).all()
    nothing = aggregates.improvement_interval(X, np.full((3, 2), np.nan), rng=generator())
    assert np.isnan(nothing).all()


def test_strata_are_resampled_apart():
    # Two tasks without spread: every resample has the same runs.
    scores = np.tile([0.0, 1.0], (4, 1))
    found = aggregates.interquartile_mean_interval(scores, rng=generator())
    assert found == (0.5, 0.5, 0.5)


def test_stratified_bootstrap_against_scipy():
    runs = generator(3).normal(size=12)
    found = intervals.stratified_bootstrap([runs], np.mean, rng=generator(), resamples=20_000)
    by_scipy = stats.bootstrap(
        (runs,), np.mean, method="percentile", n_resamples=20_000, rng=generator(1)
    ).confidence_interval
    np.testing.assert_allclose(found[1:], by_scipy, atol=0.03)


def test_mean_interval():
    values = np.array([0.9, 0.92, 0.97, np.nan])
    expected = stats.ttest_1samp(values[:3], 0).confidence_interval(0.95)
    np.testing.assert_allclose(intervals.mean_interval(values)[1:], expected)
    assert intervals.mean_interval(np.array([0.5]))[0] == 0.5
    assert np.isnan(intervals.mean_interval(np.array([0.5]))[1:]).all()
    assert np.isnan(intervals.mean_interval(np.array([np.nan]))).all()
    assert intervals.mean_interval(np.array([0.5, np.inf]))[0] == np.inf


def test_bootstrap_over_columns():
    values = generator(1).normal(size=(4, 3))
    values[2, 0] = np.nan

    def best(means: np.ndarray) -> np.ndarray:  # [B, 4] -> [B]
        return means[:, [0, 1, 3]].max(axis=1)

    def interval(seed: int, resamples: int = 2000) -> intervals.Interval:
        return intervals.bootstrap_over_columns(
            values, best, rng=generator(seed), resamples=resamples
        )

    found = interval(0)
    assert found.estimate == pytest.approx(np.nanmean(values, axis=1)[[0, 1, 3]].max())
    draws = generator(5).integers(3, size=(2000, 3))
    slow = np.quantile(
        [values[[0, 1, 3]][:, draw].mean(axis=1).max() for draw in draws], [0.025, 0.975]
    )
    np.testing.assert_allclose(found[1:], slow, atol=1e-12)
    assert interval(0, 7) == interval(0, 7)
    assert interval(0, 7) != interval(1, 7)
    alone = intervals.bootstrap_over_columns(values[:, 1:2], best, rng=generator())
    assert np.isnan(alone[1:]).all()
