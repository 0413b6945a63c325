import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.analysis.significance import critical_difference, holm, paired

A = np.array([0.91, 0.93, 0.95, 0.97])
B = np.array([0.90, 0.90, 0.93, 0.92])


def test_paired_is_scipys():
    found = paired(A, B)
    t = stats.ttest_rel(A, B)
    assert found.pairs == 4
    assert found.difference == pytest.approx(np.mean(A - B))
    assert (found.low, found.high) == pytest.approx(tuple(t.confidence_interval()))
    assert found.p == pytest.approx(t.pvalue)


def test_paired_leaves_incomplete_pairs_out():
    holed = np.append(B, [0.5, np.inf])
    assert paired(np.append(A, [np.nan, 0.5]), holed) == paired(A, B)


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_few_pairs_have_no_interval(pairs: int):
    found = paired(A[:pairs], B[:pairs])
    assert found.pairs == pairs
    assert np.isnan([found.low, found.high, found.p]).all()
    assert np.isnan(found.difference) == (pairs == 0)


def test_paired_degenerate():
    assert paired(A, A)[1:] == (0, 0, 0, 1)
    assert paired(A, A - 0.1).p == 0.125  # of the signs


def test_holm_worked_example():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.01, np.nan, 0.9])), [0.02, np.nan, 0.9])
    assert holm(np.array([])).size == 0
    np.testing.assert_allclose(holm(np.array([0.8, 0.9])), [1, 1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_by_its_step_down_definition(p: list[float]):
    """Rejecting adjusted p <= alpha is stepping down until the first p_(i) > alpha / (m - i)."""
    adjusted = holm(np.array(p))
    order = np.argsort(p, kind="stable")
    for alpha in (0.01, 0.05, 0.2):
        thresholds = alpha / np.arange(len(p), 0, -1)
        passed = np.logical_and.accumulate(np.array(p)[order] <= thresholds)
        clear = np.abs(adjusted - alpha) > 1e-12  # not decided by rounding
        assert ((adjusted <= alpha)[order] == passed)[clear[order]].all()


def test_nemenyi_quantiles_are_demsars():
    """Demsar 2006, table 5a: q at 0.05 for two to ten classifiers."""
    table = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 7: 2.949, 10: 3.164}
    for methods, q in table.items():
        found = critical_difference(np.arange(2.0 * methods).reshape(2, -1))
        expected = q * np.sqrt(methods * (methods + 1) / 12)
        assert found.difference == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("decimals", [8, 0])
def test_friedman_is_scipys(decimals: int):
    scores = np.random.default_rng(1).normal(size=(9, 4)).round(decimals)
    found = critical_difference(scores)
    expected = stats.friedmanchisquare(*scores.T)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    np.testing.assert_allclose(found.mean_ranks, stats.rankdata(-scores, axis=1).mean(axis=0))


def test_groups_are_maximal_and_by_rank():
    # Ranks 1, 2, 3, 4 on each of 12 blocks: CD = 1.35 joins neighbours only.
    found = critical_difference(np.tile([0.4, 0.3, 0.1, 0.2], (12, 1)))
    assert found.difference == pytest.approx(2.569 * np.sqrt(20 / 72), abs=1e-3)
    assert found.groups == [(0, 1), (1, 3), (3, 2)]
    assert critical_difference(np.tile([3.0, 2, 1], (40, 1))).groups == [(0,), (1,), (2,)]
    assert critical_difference(np.array([[3.0, 2, 1]])).groups == [(0, 1, 2)]


def test_all_tied():
    found = critical_difference(np.ones((3, 3)))
    assert (found.statistic, found.p) == (0, 1)
    assert found.groups == [(0, 1, 2)]


def test_two_methods():
    found = critical_difference(np.array([[2.0, 1], [2, 1], [1, 2]]))
    assert found.statistic == pytest.approx(1 / 3)  # the sign test's (2 - 1)^2 / 3


def test_incomplete_blocks_and_nothing():
    scores = np.array([[1.0, 2, 3], [np.nan, 2, 3]])
    found = critical_difference(scores)
    assert found.blocks == 1
    np.testing.assert_array_equal(found.mean_ranks, [3, 2, 1])
    assert np.isnan(critical_difference(scores[1:]).difference)
    assert critical_difference(np.empty((3, 1))).groups == []
    infinite = critical_difference(np.array([[-np.inf, 0.5, np.inf]]))
    np.testing.assert_array_equal(infinite.mean_ranks, [3, 2, 1])
