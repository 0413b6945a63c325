import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.analysis.sensitivity import good_region

VALUES = 10.0 ** np.arange(-4, 1)


def test_worked_example():
    region = good_region(VALUES, np.array([0.1, 0.5, 0.9, 0.5, 0.1]), 0.2)
    assert region.width == pytest.approx(1.0)  # half of either neighbouring decade
    assert region.low == pytest.approx(10**-2.5)
    assert region.high == pytest.approx(10**-1.5)
    assert region.centre == pytest.approx(1e-2)
    assert (region.pieces, region.open_low, region.open_high) == (1, False, False)


def test_two_pieces_leave_the_gap_out():
    region = good_region(VALUES, np.array([1.0, 0.0, 0.0, 0.0, 1.0]), 0.5)
    assert region.width == pytest.approx(1.0)
    assert (region.low, region.high) == pytest.approx((1e-4, 1.0))
    assert (region.pieces, region.open_low, region.open_high) == (2, True, True)


def test_an_isolated_piece_at_the_end():
    region = good_region(VALUES, np.array([0.0, 0.0, 0.0, 0.0, 1.0]), 0.25)
    assert region.width == pytest.approx(0.25)
    assert (region.open_low, region.open_high) == (False, True)


def test_holes_are_passed_over():
    holed = good_region(VALUES, np.array([0.0, np.nan, 1.0, np.nan, 0.0]), 0.5)
    whole = good_region(VALUES[[0, 2, 4]], np.array([0.0, 1.0, 0.0]), 0.5)
    assert holed.width == pytest.approx(2.0)
    assert holed.width == pytest.approx(whole.width)


def test_uneven_grid_is_measured_in_decades():
    region = good_region(np.array([1e-3, 2e-3, 1e-2]), np.array([0.5, 0.5, 0.5]), 0)
    assert region.width == pytest.approx(1.0)


@pytest.mark.parametrize("delta", [0.0, 0.1])
def test_one_value(delta: float):
    region = good_region(np.array([1e-3]), np.array([0.5]), delta)
    assert region.width == 0
    assert region.low == region.high == region.centre == pytest.approx(1e-3)
    assert (region.pieces, region.open_low, region.open_high) == (1, True, True)


def test_nothing():
    infinite = np.array([0.1, -np.inf, np.nan, np.inf, 0.1])
    for values, scores in ((VALUES, np.full(5, np.nan)), ([], []), (VALUES, infinite)):
        region = good_region(values, scores, 0.1)
        assert np.isnan([region.width, region.low, region.high, region.centre]).all()
        assert (region.pieces, region.open_low, region.open_high) == (0, False, False)


def test_a_level_response_is_good_everywhere():
    region = good_region(VALUES, np.full(5, 0.1), 0.0)
    assert region.width == pytest.approx(4)
    assert region.centre == pytest.approx(1e-2)


def test_batch_equals_one_by_one():
    scores = np.random.default_rng(0).random((2, 3, 5))
    scores[0, 1, 2] = scores[1, 2, 0] = np.nan
    scores[1, 1] = np.nan
    batch = good_region(VALUES, scores, 0.3)
    for index in np.ndindex(2, 3):
        alone = good_region(VALUES, scores[index], 0.3)
        for together, single in zip(batch, alone, strict=True):
            np.testing.assert_allclose(together[index], single)


@pytest.mark.parametrize("values", [[1, 1], [2, 1], [0, 1], [-1, 1]])
def test_values_must_be_positive_and_ascending(values: list[float]):
    with pytest.raises(ValueError, match="positive, ascending"):
        good_region(np.array(values), np.zeros(2), 0.1)
    with pytest.raises(ValueError, match="at least 0"):
        good_region(VALUES, np.zeros(5), -0.1)


scores_of_grid = arrays(float, 5, elements=st.floats(0, 1, width=16))


@given(scores_of_grid, st.floats(0, 1, width=16))
def test_against_a_fine_grid(scores: np.ndarray, delta: float):
    x = np.linspace(-4, 0, 20_001)
    good = np.interp(x, np.log10(VALUES), scores) >= scores.max() - delta
    assert good_region(VALUES, scores, delta).width == pytest.approx(good.mean() * 4, abs=1e-3)


@given(scores_of_grid, st.floats(0, 1), st.floats(0, 1))
def test_wider_tolerance_wider_region(scores: np.ndarray, a: float, b: float):
    narrow, wide = (good_region(VALUES, scores, delta) for delta in sorted((a, b)))
    assert narrow.width <= wide.width + 1e-12
    assert wide.low <= narrow.low * (1 + 1e-12)
    assert narrow.high <= wide.high * (1 + 1e-12)


@given(scores_of_grid, st.floats(0.01, 1))
def test_units_of_the_hyperparameter_do_not_matter(scores: np.ndarray, delta: float):
    region, scaled = good_region(VALUES, scores, delta), good_region(50 * VALUES, scores, delta)
    assert scaled.width == pytest.approx(region.width)
    assert scaled.low == pytest.approx(50 * region.low)
