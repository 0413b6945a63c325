from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.analysis.interaction import rectangle_distance


def brute_force(scores: np.ndarray, delta: float) -> float:
    known = ~np.isnan(scores)
    good = known & (np.nan_to_num(scores, nan=-1) >= np.nanmax(scores) - delta)
    best = 0.0
    spans = (list(combinations_with_replacement(range(n), 2)) for n in scores.shape)
    for (top, bottom), (left, right) in product(*spans):
        inside = np.zeros(scores.shape, bool)
        inside[top : bottom + 1, left : right + 1] = True
        inside &= known
        best = max(best, (inside & good).sum() / (inside | good).sum())
    return 1 - best


grids = arrays(
    float,
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    elements=st.sampled_from([0.0, 0.0, 1.0, np.nan]),
)


@given(grids)
def test_against_brute_force(scores: np.ndarray):
    found = rectangle_distance(scores, 0.5)
    if np.isnan(scores).all():
        assert np.isnan(found.distance)
        assert found.good == 0
        assert (found.rows == -1).all()
        return
    assert found.distance == pytest.approx(brute_force(scores, 0.5))
    rows, columns = (slice(first, last + 1) for first, last in (found.rows, found.columns))
    inside = np.zeros(scores.shape, bool)
    inside[rows, columns] = True
    inside &= ~np.isnan(scores)
    good = scores >= np.nanmax(scores) - 0.5
    overlap = (inside & good).sum() / (inside | good).sum()
    assert found.distance == pytest.approx(1 - overlap)


@given(grids)
def test_turning_the_grid_changes_nothing(scores: np.ndarray):
    upright, turned = rectangle_distance(scores, 0.5), rectangle_distance(scores.T, 0.5)
    np.testing.assert_allclose(upright.distance, turned.distance)


def test_a_rectangle():
    scores = np.zeros((5, 6))
    scores[1:3, 2:6] = 1
    found = rectangle_distance(scores, 0.5)
    assert (found.distance, found.good) == (0, 8)
    np.testing.assert_array_equal(found.rows, [1, 2])
    np.testing.assert_array_equal(found.columns, [2, 5])


def test_a_diagonal_is_worse_the_longer_it_is():
    distances = [rectangle_distance(np.eye(n), 0.5).distance for n in (2, 3, 5, 16)]
    assert distances == sorted(distances)
    assert distances[2] == pytest.approx(5 / 7)


def test_holes_count_neither_way():
    scores = np.ones((3, 3))
    scores[1, 1] = np.nan
    assert rectangle_distance(scores, 0.1).distance == 0


def test_batch_equals_one_by_one():
    scores = np.random.default_rng(0).random((2, 3, 4, 5))
    scores[0, 0, 0, 0] = np.nan
    batch = rectangle_distance(scores, 0.4)
    for index in np.ndindex(2, 3):
        alone = rectangle_distance(scores[index], 0.4)
        for together, single in zip(batch, alone, strict=True):
            np.testing.assert_array_equal(together[index], single)
