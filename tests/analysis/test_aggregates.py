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


def test_interquartile_mean_leaves_runs_out_within_each_task():
    scores = generator(9).normal(size=(5, 3))
    found = aggregates.interquartile_mean_interval(scores)
    variances = []
    for task in range(3):
        without = []
        for run in range(5):
            holed = scores.copy()
            holed[run, task] = np.nan
            without.append(aggregates.interquartile_mean(holed))
        variances.append(4 / 5 * np.sum((without - np.mean(without)) ** 2))
    total = sum(variances)
    degrees = total**2 / sum(variance**2 / 4 for variance in variances)
    margin = stats.t.ppf(0.975, degrees) * np.sqrt(total)
    assert found.estimate == pytest.approx(aggregates.interquartile_mean(scores))
    assert (found.low, found.high) == pytest.approx(
        (found.estimate - margin, found.estimate + margin)
    )


def test_newcombes_interval():
    """Stays within 0 and 1, has the width of a score interval, and turns with its arguments."""
    x, y = generator(2).normal(size=(2, 12))
    found, other = aggregates.improvement_interval(x, y), aggregates.improvement_interval(y, x)
    assert found.low < found.estimate < found.high
    turned = (1 - other.estimate, 1 - other.high, 1 - other.low)
    assert found == pytest.approx(turned, abs=2e-4)
    always = aggregates.improvement_interval(x, y - 100)
    assert (always.estimate, always.high) == (1, 1)
    assert 0.7 < always.low < 0.95


@pytest.mark.parametrize("runs", [1, 2])
def test_few_runs_have_no_interval(runs: int):
    for found in (
        aggregates.interquartile_mean_interval(X[:runs]),
        aggregates.improvement_interval(X[:runs, 0], Y[:runs, 0]),
        intervals.mean_interval(X[:runs, 0]),
    ):
        assert np.isfinite(found.estimate)
        assert np.isnan([found.low, found.high]).all()
    nothing = aggregates.interquartile_mean_interval(np.full((3, 2), np.nan))
    assert np.isnan(nothing).all()
    nothing = aggregates.improvement_interval(X[:, 0], np.full(3, np.nan))
    assert np.isnan(nothing).all()


def test_tasks_without_spread():
    scores = np.tile([0.0, 1.0], (6, 1))
    found = aggregates.interquartile_mean_interval(scores)
    assert found == pytest.approx((0.5, 0.5, 0.5))


def test_mean_interval():
    values = np.array([0.9, 0.92, 0.97, np.nan])
    expected = stats.ttest_1samp(values[:3], 0).confidence_interval(0.95)
    np.testing.assert_allclose(intervals.mean_interval(values)[1:], expected)
    assert intervals.mean_interval(np.array([0.5]))[0] == 0.5
    assert np.isnan(intervals.mean_interval(np.array([0.5]))[1:]).all()
    assert np.isnan(intervals.mean_interval(np.array([np.nan]))).all()
    assert intervals.mean_interval(np.array([0.5, np.inf]))[0] == np.inf


def test_the_jackknife_of_a_mean_is_students_interval():
    values = generator(4).normal(size=7)
    without = intervals.means_without_each(values)
    found = intervals.jackknife_interval(float(values.mean()), without)
    assert found == pytest.approx(intervals.mean_interval(values))


def test_the_jackknife_of_a_difference_of_means_is_welchs():
    x, y = generator(5).normal(size=9), 3 * generator(6).normal(size=5)
    found = intervals.jackknife_interval(
        float(x.mean() - y.mean()), *map(intervals.means_without_each, (x, y))
    )
    oracle = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    assert found[1:] == pytest.approx((oracle.low, oracle.high))


def test_jackknife_stays_within_its_bounds():
    values = np.array([0.0, 0.1, 0.9])
    without = intervals.means_without_each(values)
    found = intervals.jackknife_interval(float(values.mean()), without, bounds=(0.0, 1.0))
    assert found[1:] == (0, 1)
    assert np.isnan(intervals.jackknife_interval(0.5, without[:2])[1:]).all()
    assert np.isnan(intervals.jackknife_interval(0.5, np.array([1, 2, np.nan]))[1:]).all()


def test_means_without_each():
    values = generator(1).normal(size=(4, 3))
    values[2, 0] = np.nan
    found = intervals.means_without_each(values)
    for seed in range(3):
        np.testing.assert_allclose(found[seed], np.nanmean(np.delete(values, seed, 1), axis=1))
    alone = intervals.means_without_each(np.array([[1.0, np.nan]]))
    np.testing.assert_array_equal(alone, [[np.nan], [1.0]])
