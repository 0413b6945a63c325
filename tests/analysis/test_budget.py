from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis import budget, intervals

V = np.array([0.1, 0.5, 0.9])
few_scores = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=5).map(np.array)


def draws(n: int, k: int, replacement: bool) -> list[tuple[int, ...]]:
    return list(product(range(n), repeat=k) if replacement else combinations(range(n), k))


def test_published_values():
    with_, without = (budget.expected_best(V, [2], replacement=r)[0] for r in (True, False))
    assert with_ == pytest.approx(0.677778, abs=1e-6)
    assert without == pytest.approx(0.766667, abs=1e-6)


@given(few_scores, st.booleans(), st.integers(1, 4))
def test_against_enumeration(scores: np.ndarray, replacement: bool, k: int):
    if k > len(scores) and not replacement:
        assert np.isnan(budget.expected_best(scores, [k], replacement=False)).all()
        return
    best = [max(scores[list(draw)]) for draw in draws(len(scores), k, replacement)]
    mean = budget.expected_best(scores, [k], replacement=replacement)[0]
    spread = budget.spread_of_best(scores, [k], replacement=replacement)[0]
    assert mean == pytest.approx(np.mean(best))
    assert spread == pytest.approx(np.std(best), abs=1e-7)


@given(few_scores, st.booleans(), st.integers(1, 3), st.randoms())
def test_companion_against_enumeration_with_ties_shared(scores, replacement, k, random):
    if k > len(scores) and not replacement:
        return
    test = np.array([random.random() for _ in scores])
    expected = []
    for draw in draws(len(scores), k, replacement):
        # among all trials that reach the best score of the draw, ties are even by symmetry
        top = [n for n in draw if scores[n] == max(scores[list(draw)])]
        expected.append(np.mean(test[top]))
    found = budget.expected_best(scores, [k], replacement=replacement, of=test)[0]
    assert found == pytest.approx(np.mean(expected))


@given(
    st.lists(st.sampled_from([-np.inf, np.nan, 0.0, 1.0, 2.0, 3.5]), min_size=2, max_size=7),
    st.lists(st.integers(1, 8), min_size=1, max_size=3),
)
def test_each_trial_left_out(scores: list[float], budgets: list[int]):
    found = budget._without_each(np.array(scores), np.array(budgets))
    for i, others in enumerate(found):
        left = np.array(scores[:i] + scores[i + 1 :])
        expected = budget.expected_best(left, budgets, replacement=False)
        np.testing.assert_allclose(others, expected, rtol=1e-12)


@given(few_scores, st.booleans())
def test_properties(scores: np.ndarray, replacement: bool):
    k = np.arange(1, len(scores) + 1)
    chance = budget.selection_probabilities(scores, k, replacement=replacement)
    np.testing.assert_allclose(chance.sum(axis=1), 1)
    assert (chance >= -1e-12).all()
    curve = budget.expected_best(scores, k, replacement=replacement)
    assert curve[0] == pytest.approx(scores.mean())
    assert (np.diff(curve) >= -1e-12).all()
    if not replacement:
        assert curve[-1] == pytest.approx(scores.max())
        np.testing.assert_array_less(
            budget.expected_best(scores, k, replacement=True), curve + 1e-12
        )


def test_many_trials_stay_exact():
    scores = np.random.default_rng(0).random(3000)
    curve = budget.expected_best(scores, [1, 1500, 3000], replacement=False)
    np.testing.assert_allclose(curve[[0, 2]], [scores.mean(), scores.max()], rtol=1e-10)


def test_nan_and_infinity():
    scores = np.array([0.1, np.nan, 0.5, 0.9])
    chance = budget.selection_probabilities(scores, [1, 2], replacement=False)
    assert (chance[:, 1] == 0).all()
    np.testing.assert_allclose(budget.expected_best(scores, [2], replacement=False), 0.766667, 1e-6)
    with_loss = np.array([-np.inf, 0.5])
    assert budget.expected_best(with_loss, [1], replacement=False)[0] == -np.inf
    assert budget.expected_best(with_loss, [2], replacement=False)[0] == 0.5
    assert np.isnan(budget.expected_best([np.inf, -np.inf], [1], replacement=True)[0])


@pytest.mark.parametrize("scores", [[], [np.nan, np.nan]])
def test_nothing(scores: list[float]):
    for replacement in (True, False):
        chance = budget.selection_probabilities(scores, [1, 2], replacement=replacement)
        assert chance.shape == (2, len(scores))
        assert np.isnan(chance).all()


def test_one_trial():
    np.testing.assert_array_equal(budget.expected_best([0.7], [1, 5], replacement=True), 0.7)
    np.testing.assert_array_equal(budget.spread_of_best([0.7], [1], replacement=False), 0)


def test_budget_of_no_trials_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        budget.expected_best(V, [0], replacement=True)


def test_tunability():
    result = budget.tunability(np.array([0.2, 0.5, 0.8]))
    assert result.early == pytest.approx((3 * 0.2 + 2 * 0.5 + 0.8) / 6)
    assert result.equal == pytest.approx(0.5)
    assert result.late == pytest.approx((0.2 + 2 * 0.5 + 3 * 0.8) / 6)
    assert budget.tunability(np.full((2, 4), 0.3)).early == pytest.approx([0.3, 0.3])
    assert np.isnan(budget.tunability(np.array([]))).all()
    assert np.isnan(budget.tunability(np.array([0.1, np.nan]))).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_tunability_is_ordered_for_an_incumbent(steps: list[float]):
    early, equal, late = budget.tunability(np.maximum.accumulate(steps))
    assert early <= equal + 1e-12
    assert equal <= late + 1e-12


@given(st.lists(few_scores, min_size=1, max_size=3), st.booleans(), st.integers(1, 2))
def test_probability_best_against_enumeration(scores, replacement: bool, k: int):
    if not replacement and k > min(map(len, scores)):
        return
    wins = np.zeros(len(scores))
    rounds = list(product(*(draws(len(s), k, replacement) for s in scores)))
    for chosen in rounds:
        best = np.array([max(s[list(c)]) for s, c in zip(scores, chosen, strict=True)])
        wins += (best == best.max()) / (best == best.max()).sum()
    found = budget.probability_best(scores, [k], replacement=replacement)[0]
    np.testing.assert_allclose(found, wins / len(rounds), atol=1e-12)


def test_probability_best_against_monte_carlo():
    rng = np.random.default_rng(0)
    scores = [rng.normal(mean, size=40).round(1) for mean in (0, 0.2, 0.4, 0.1, 0.3, 0.3, 0)]
    drawn = np.stack([s[rng.integers(40, size=(20_000, 5))].max(axis=1) for s in scores], axis=1)
    top = drawn == drawn.max(axis=1, keepdims=True)
    simulated = (top / top.sum(axis=1, keepdims=True)).mean(axis=0)
    exact = budget.probability_best(scores, [5], replacement=True)[0]
    np.testing.assert_allclose(exact, simulated, atol=0.015)


def test_probability_best_at_the_limits():
    np.testing.assert_allclose(budget.probability_best([V, V], [1, 3], replacement=False), 0.5)
    np.testing.assert_allclose(budget.probability_best([V], [1, 3], replacement=True), 1)
    np.testing.assert_allclose(
        budget.probability_best([V, [np.nan], []], [2], replacement=True), [[1, 0, 0]]
    )
    assert np.isnan(budget.probability_best([[], [np.nan]], [1], replacement=True)).all()
    assert np.isnan(budget.probability_best([V, V[:2]], [3], replacement=False)).all()


LOG = np.logspace(-5, 0, 16)


@pytest.mark.parametrize(
    "settings",
    [
        np.array(list(product(LOG, [0, 1e-4, 1e-2]))),
        np.array(list(product(LOG, [0, 1e-4, 1e-2])))[5:],
    ],
)
def test_grids_are_known(settings: np.ndarray):
    assert budget.fills_a_grid(settings)


@pytest.mark.parametrize("seed", range(5))
def test_random_draws_are_no_grid(seed: int):
    rng = np.random.default_rng(seed)
    lr = 10 ** rng.uniform(-5, 0, 20)
    assert not budget.fills_a_grid(np.stack([lr, rng.choice([32, 64, 128], 20)], axis=1))
    assert not budget.fills_a_grid(np.stack([lr, rng.random(20)], axis=1))


def test_too_few_to_be_a_grid():
    assert not budget.fills_a_grid(np.array([[0.1], [0.2]]))
    assert not budget.fills_a_grid(LOG[:, None])
    assert not budget.fills_a_grid(np.array(list(product(LOG, [0.9]))))
    assert not budget.fills_a_grid(np.empty((0, 2)))
    assert not budget.fills_a_grid(np.empty((3, 0)))


def test_budgets_that_trials_answer_for():
    assert [budget.most_trials(n) for n in (1, 11, 12, 18, 19, 30)] == [0, 0, 1, 2, 2, 3]


def test_interval_of_the_expected_best():
    scores = np.random.default_rng(0).normal(size=(30, 2))
    found = budget.expected_best_interval(scores, [1, 3, 4], bounds=(-0.2, 1.4))
    plain = [
        np.mean([budget.expected_best(column, [k], replacement=False) for column in scores.T])
        for k in (1, 3, 4)
    ]
    assert [interval.estimate for interval in found] == pytest.approx(plain)
    one = intervals.mean_interval(scores.mean(axis=1))
    assert found[0].low <= max(one.low, -0.2)
    assert found[0].high >= one.high
    assert found[0].low >= -0.2
    assert found[1].high <= 1.4
    assert np.isnan(found[2][1:]).all()


def test_incumbent_over_all_orders():
    scores = np.array([0.3, 0.9, 0.5, 0.5])
    orders = [np.maximum.accumulate(order) for order in permutations(scores)]
    curve = budget.expected_best(scores, [1, 2, 3, 4], replacement=False)
    np.testing.assert_allclose(curve, np.mean(orders, axis=0))
