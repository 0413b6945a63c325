import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.profiles import integrated_profile, performance_profile, performance_ratios

NEVER = np.inf
RATIOS = np.array([1, 1.37, 3.2, NEVER, 5])


def test_published_value():
    assert integrated_profile(RATIOS, up_to=4) == pytest.approx(0.428667, abs=1e-6)


def test_ratios():
    times = np.array([[10, 20, np.nan], [30, 15, NEVER], [NEVER, np.nan, NEVER]])
    expected = [[1, 2, NEVER], [2, 1, NEVER], [NEVER, NEVER, NEVER]]
    np.testing.assert_array_equal(performance_ratios(times), expected)


def test_ties_and_one_method():
    np.testing.assert_array_equal(performance_ratios(np.array([[7, 7]])), [[1, 1]])
    np.testing.assert_array_equal(performance_ratios(np.array([[7], [NEVER]])), [[1], [NEVER]])


def test_profile():
    np.testing.assert_allclose(
        performance_profile(RATIOS, np.array([0.9, 1, 1.37, 4, 5])), [0, 0.2, 0.4, 0.6, 0.8]
    )
    two = performance_profile(np.array([[1, 2], [2, 1], [1, 1]]), np.array([1, 2]))
    np.testing.assert_allclose(two, [[2 / 3, 2 / 3], [1, 1]])


def test_nothing():
    assert performance_ratios(np.empty((0, 2))).shape == (0, 2)
    assert np.isnan(performance_profile(np.empty((0, 2)), np.array([1.0]))).all()
    assert np.isnan(integrated_profile(np.empty((0, 2)))).all()
    assert integrated_profile(np.array([NEVER, np.nan])) == 0


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="positive"):
        performance_ratios(np.array([[0.0, 1.0]]))
    with pytest.raises(ValueError, match="exceed 1"):
        integrated_profile(RATIOS, up_to=1)


@given(st.lists(st.floats(1, 10), min_size=1, max_size=6), st.floats(1.1, 8))
def test_integral_of_the_profile(ratios: list[float], up_to: float):
    middle = np.linspace(1, up_to, 4001)
    middle = (middle[1:] + middle[:-1]) / 2
    area = performance_profile(np.array(ratios), middle).mean()
    assert integrated_profile(np.array(ratios), up_to) == pytest.approx(area, abs=1e-3)
