from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from bench.analysis import importance


def test_additive_grid_has_no_interaction():
    shares = importance.variance_shares(np.add.outer([0.0, 1, 2], [0.0, 2]))
    # variances of the axes: 2/3 and 1
    assert shares == pytest.approx({(0,): 0.4, (1,): 0.6, (0, 1): 0.0}, abs=1e-12)


def test_pure_interaction():
    shares = importance.variance_shares(np.array([[1.0, -1], [-1, 1]]))
    assert shares == pytest.approx({(0,): 0, (1,): 0, (0, 1): 1})


@given(arrays(float, st.sampled_from([(2,), (2, 3), (3, 2, 2)]), elements=st.integers(0, 5)))
def test_variance_shares_against_least_squares(scores: np.ndarray):
    """A main effect is what a regression on that axis' indicators explains of the variance."""
    shares = importance.variance_shares(scores)
    if np.ptp(scores) == 0:
        assert np.isnan(list(shares.values())).all()
        return
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0
    for axis in range(scores.ndim):
        index = np.indices(scores.shape)[axis].ravel()
        indicators = np.eye(scores.shape[axis])[index]
        fit = indicators @ np.linalg.lstsq(indicators, scores.ravel(), rcond=None)[0]
        assert shares[axis,] == pytest.approx(fit.var() / scores.var(), abs=1e-9)


def test_hole_or_no_variance_is_not_applicable():
    for missing in (np.nan, np.inf, -np.inf):
        holed = np.array([[1.0, missing], [2, 3]])
        assert np.isnan(list(importance.variance_shares(holed).values())).all()
        np.testing.assert_allclose(importance.local_shares(holed), [0, 1])
    assert np.isnan(list(importance.variance_shares(np.full((2, 2), 0.1)).values())).all()
    assert np.isnan(importance.local_shares(np.full((2, 2), 0.1))).all()
    assert np.isnan(importance.local_shares(np.full((2, 2), np.nan))).all()
    assert np.isnan(importance.local_shares(np.empty((0, 2)))).all()


def test_local_and_global_disagree():
    # The second axis matters only where the first is wrong.
    scores = np.array([[0.9, 0.9, 0.9], [0.5, 0.1, 0.5]])
    assert importance.variance_shares(scores)[1,] > 0.05
    np.testing.assert_allclose(importance.local_shares(scores), [1, 0])


def test_local_shares():
    scores = np.array([[0.2, 0.5, np.nan], [0.6, 0.9, 0.9], [0.0, 0.8, 0.1]])
    along, across = np.var([0.5, 0.9, 0.8]), np.var([0.6, 0.9, 0.9])
    np.testing.assert_allclose(
        importance.local_shares(scores), np.array([along, across]) / (along + across)
    )


def random_trials(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    settings = np.random.default_rng(seed).random((n, 3))
    return 10 ** (5 * settings - 5), 2 * settings[:, 0] + settings[:, 1]


def test_main_effects_of_random_trials():
    """Of 2 a + b, uniform: 0.8 and 0.2."""
    settings, scores = random_trials(1000)
    np.testing.assert_allclose(importance.main_effects(settings, scores), [0.8, 0.2, 0], atol=0.06)


def test_main_effects_of_noise_are_near_zero():
    settings = np.random.default_rng(0).random((200, 4))
    scores = np.random.default_rng(1).random(200)
    assert importance.main_effects(settings, scores).mean() < 0.03


def test_main_effects_equal_grid_shares_without_the_correction():
    settings = np.array(list(product([1, 2], [1, 2], range(1000))))[:, :2]
    scores = settings @ [2.0, 1.0]
    np.testing.assert_allclose(importance.main_effects(settings, scores), [0.8, 0.2], atol=0.01)


def test_surrogate():
    settings, scores = random_trials(200)
    found = importance.local_shares_of_surrogate(settings, scores)
    np.testing.assert_allclose(found, [0.8, 0.2, 0], atol=0.06)
    logs = importance.local_shares_of_surrogate(np.log(settings), scores)
    np.testing.assert_allclose(logs, found)  # ranks do not see the scale


def test_surrogate_with_a_constant_and_repeated_settings():
    settings, scores = random_trials(200)
    settings[:, 2] = 0.9
    settings[1], scores[1] = settings[0], scores[0] + 0.1
    found = importance.local_shares_of_surrogate(settings, scores)
    assert found[2] == 0
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("method", [importance.main_effects, importance.local_shares_of_surrogate])
def test_too_little_to_tell(method):
    settings, scores = random_trials(220)
    assert np.isnan(method(settings[:49], scores[:49])).all()
    assert np.isnan(method(settings, np.full(220, 0.5))).all()
    assert np.isnan(method(settings, np.full(220, np.nan))).all()
    assert method(settings[:0], scores[:0]).shape == (3,)
    scores[0], settings[1, 0] = np.inf, np.nan
    np.testing.assert_allclose(method(settings, scores), method(settings[2:], scores[2:]))


def response(rng: np.random.Generator, hyperparameters: int):
    """An accuracy as a function of settings in [0, 1]: a hill, narrow in the first, whose best
    moves with the second, and a cliff at which training diverges."""
    centre = rng.uniform(0.2, 0.8, hyperparameters)
    width = np.append(rng.uniform(0.08, 0.25), rng.uniform(0.2, 1.5, hyperparameters - 1))
    tilt, cliff = rng.normal(0, 0.075), rng.uniform(1, 2)

    def accuracy(settings: np.ndarray) -> np.ndarray:
        moved = settings - centre
        moved[:, 0] += tilt * (settings[:, 1] - 0.5)
        hill = np.exp(-((moved / width) ** 2).sum(axis=1) / 4)
        diverged = moved[:, 0] / width[0] > cliff
        return np.where(diverged, 0.1, 0.1 + 0.87 * hill + rng.normal(0, 0.003, len(settings)))

    return accuracy


@pytest.mark.parametrize(("trials", "often"), [(importance.FEWEST_DRAWN, 0.65), (100, 0.8)])
@pytest.mark.parametrize("hyperparameters", [2, 3, 4])
def test_shares_of_few_trials_are_near_the_truth(hyperparameters, trials, often):
    rng = np.random.default_rng(hyperparameters)
    near = []
    for _ in range(60):
        accuracy = response(rng, hyperparameters)
        many = rng.random((50_000, hyperparameters))
        scores = accuracy(many)
        means = [stats.binned_statistic(column, scores, bins=100)[0] for column in many.T]
        truth = np.var(means, axis=1) / scores.var()
        settings = rng.random((trials, hyperparameters))
        found = importance.main_effects(settings, accuracy(settings))
        near.append(np.abs(found - truth).max() <= 0.1)
    assert np.mean(near) > often
