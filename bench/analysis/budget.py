"""What a budget of k trials buys, when trials are drawn at random from those that were run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from bench.analysis.intervals import FEWEST, Interval, jackknife_interval

MOST_CELLS = 2_000_000  # of a table of budgets by trials
FEWEST_DRAWN = 12  # trials that answer for a budget


def selection_probabilities(
    scores: np.ndarray, budgets: np.ndarray, *, replacement: bool
) -> np.ndarray:
    """The chance that each trial is the one selected after k random trials: ``[N] -> [K, N]``.

    With F(v) the share of trials that score at most v, the best of k is at most v with probability
    F(v)^k with replacement (Dodge et al. 2019, section 3.2) and C(N F(v), k) / C(N, k) without
    (the trials at hand in random order). As estimates for a search that draws trials at random,
    the first is biased, the second not (Tang et al. 2020). Trials that tie share their probability
    equally.

    Args:
        scores: ``[N]``, higher is better; NaN, a trial without a score, is never selected.
        budgets: ``[K]``, numbers of trials, at least 1.

    Returns:
        ``[K, N]``, rows sum to 1; NaN where a budget without replacement exceeds the trials, and
        where there are none.
    """
    scores, k = np.asarray(scores, dtype=float), np.asarray(budgets)[:, None]
    if np.any(k < 1):
        raise ValueError(f"a budget is at least 1 trial, not {k.min()}")
    known = ~np.isnan(scores)
    result = np.zeros((len(k), scores.size))
    if not known.any():
        return np.full_like(result, np.nan)
    _, level, ties = np.unique(scores[known], return_inverse=True, return_counts=True)
    at_most = _best_at_most(np.cumsum(ties), k, replacement)  # [K, distinct scores]
    result[:, known] = (np.diff(at_most, axis=1, prepend=0.0) / ties)[:, level]
    return result


def expected_best(
    scores: np.ndarray,
    budgets: np.ndarray,
    *,
    replacement: bool,
    of: np.ndarray | None = None,
) -> np.ndarray:
    """The expected score of the best of k random trials, or of its value in ``of``: ``[K]``.

    ``sum_n P(n is selected) of_n`` with ``selection_probabilities``: the expected validation
    score of the selected trial (Dodge et al. 2019, section 3.2), and with ``of`` its test score.
    Infinite scores are taken as they are.
    """
    values = np.asarray(scores if of is None else of, dtype=float)
    with np.errstate(invalid="ignore"):  # an expectation over both infinities is NaN
        return np.concatenate(
            [
                _terms(selection_probabilities(scores, some, replacement=replacement), values).sum(
                    axis=1
                )
                for some in _in_parts(budgets, values.size)
            ]
        )


def _terms(probability: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of an expectation, to which an infinity without a chance adds nothing."""
    return np.where(probability != 0, probability * values, 0.0)


def _in_parts(budgets: np.ndarray, trials: int) -> list[np.ndarray]:
    """Few enough at a time that a table of them by trials stays small."""
    budgets = np.asarray(budgets)
    return np.array_split(budgets, 1 + budgets.size * trials // MOST_CELLS)


def _without_each(scores: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """``expected_best`` without replacement of the other trials, as each is left out: ``[N, K]``.

    Of N - 1 trials in order, the j-th is the best of k with a chance p_j. With x_r left out, those
    below it keep their place and those above it move down by one, so

        E_r = sum_{j < r} p_j x_j + sum_{j > r} p_{j-1} x_j,

    of which both sums are partial sums of the same for every r.
    """
    known = np.flatnonzero(~np.isnan(scores))
    result = np.tile(expected_best(scores, budgets, replacement=False), (scores.size, 1))
    if known.size < 2:
        result[known] = np.nan
        return result
    known = known[np.argsort(scores[known], kind="stable")]
    x, k = scores[known], np.asarray(budgets)[:, None]
    chance = np.diff(_best_at_most(np.arange(1, x.size), k, False), axis=1, prepend=0.0)
    with np.errstate(invalid="ignore"):
        below = np.cumsum(_terms(chance, x[:-1]), axis=1)
        above = np.cumsum(_terms(chance, x[1:])[:, ::-1], axis=1)[:, ::-1]
        result[known] = (np.pad(below, ((0, 0), (1, 0))) + np.pad(above, ((0, 0), (0, 1)))).T
    return result


def most_trials(drawn: int) -> int:
    """The largest budget that so many drawn trials answer for, with an interval that covers.

    The best of k depends on what the upper 1/k of trials is like, of which few are seen. Simulated
    coverage falls below 90 % from about a seventh of the trials on, so an eighth is the end; below
    12 trials there is none at all.
    """
    return drawn // 8 if drawn >= FEWEST_DRAWN else 0


def expected_best_interval(
    scores: np.ndarray,
    budgets: np.ndarray,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> list[Interval]:
    """``expected_best`` without replacement, mean over seeds, with an interval for other draws of
    the trials: ``[N, S], [K] -> K intervals``.

    The trials are what was drawn, and all seeds share them: trials are left out, each with all of
    its seeds, and then, where there are three, seeds, each with all of its trials. The interval
    unites the jackknife's with the jackknife's for the logarithm of the distance to the best trial,
    towards which the expectation grows: the first is too short below where scores have a ceiling,
    the second above. NaN ends beyond ``most_trials``.
    """
    scores, budgets = np.asarray(scores, dtype=float), np.asarray(budgets)

    def expected(rows: np.ndarray) -> np.ndarray:
        curves = [expected_best(column, budgets, replacement=False) for column in rows.T]
        return np.mean(curves, axis=0)

    estimate = expected(scores)  # [K]
    seeds, most = scores.shape[1], most_trials(len(scores))
    if not most:
        return [Interval(float(value), np.nan, np.nan) for value in estimate]
    without = [np.mean([_without_each(column, budgets) for column in scores.T], axis=0)]  # [N, K]
    if seeds >= FEWEST:
        without.append(np.stack([expected(np.delete(scores, i, axis=1)) for i in range(seeds)]))
    best = float(np.nanmax(scores, axis=0).mean())
    found = []
    for k, value, *each in zip(budgets, estimate, *(part.T for part in without), strict=True):
        if k > most:
            found.append(Interval(float(value), np.nan, np.nan))
            continue
        plain = jackknife_interval(float(value), *each, confidence=confidence)
        margin = 0.01 * (best - value) + np.finfo(float).tiny  # so that no logarithm is of zero
        gap, *gaps = (np.log(np.maximum(best - x, 0.0) + margin) for x in (value, *each))
        in_logs = jackknife_interval(float(gap), *gaps, confidence=confidence)
        ends = best + margin - np.exp([in_logs.high, in_logs.low])
        low, high = min(plain.low, ends[0]), max(plain.high, ends[1])
        found.append(Interval(float(value), *np.clip([low, high], *bounds).tolist()))
    return found


def spread_of_best(scores: np.ndarray, budgets: np.ndarray, *, replacement: bool) -> np.ndarray:
    """The standard deviation of the best score of k random trials: ``[K]``.

    ``Var = E[best^2] - E[best]^2`` (Dodge et al. 2019, section 3.2): luck of the search, for one
    k. It is not the error of the curve.
    """
    scores = np.asarray(scores, dtype=float)
    found = []
    for some in _in_parts(budgets, scores.size):
        probability = selection_probabilities(scores, some, replacement=replacement)
        with np.errstate(invalid="ignore"):
            mean = _terms(probability, scores).sum(axis=1)[:, None]
            found.append(np.sqrt(_terms(probability, (scores - mean) ** 2).sum(axis=1)))
    return np.concatenate(found)


class Tunability(NamedTuple):
    early: np.ndarray
    equal: np.ndarray
    late: np.ndarray


def tunability(incumbent: np.ndarray) -> Tunability:
    """Weighted sums of the incumbent's score over trials t = 1 ... T: ``[..., T] -> [...]`` each.

    ``sum_t w_t s_t / sum_t w_t`` with w_t = T + 1 - t (early), 1 (equal), t (late): Sivaprasad et
    al. 2020, omega-tunability, with the weights of their published code for "cumulative performance
    early, uniform, late". Comparable between optimizers for the same T and the same workload only.
    """
    incumbent = np.asarray(incumbent, dtype=float)
    if incumbent.shape[-1] == 0:
        return Tunability(*np.full((3, *incumbent.shape[:-1]), np.nan))
    t = np.arange(1, incumbent.shape[-1] + 1)
    return Tunability(
        *(incumbent @ (weight / weight.sum()) for weight in (t[::-1], np.ones_like(t), t))
    )


def probability_best(
    scores: Sequence[np.ndarray], budgets: np.ndarray, *, replacement: bool
) -> np.ndarray:
    """The chance that each optimizer's best of k random trials beats all the others': ``[K, O]``.

    With M_o the best of optimizer o, independent of the others, and a tie of n won by each with
    probability 1/n,

        P(o wins) = sum_v P(M_o = v) int_0^1 prod_{j != o} [P(M_j < v) + u P(M_j = v)] du,

    for breaking ties is giving each optimizer a uniform u. The integrand is a polynomial of degree
    O - 1, so Gauss-Legendre quadrature is exact. Sivaprasad et al. 2020 ask the same
    and answer by resampling.

    Args:
        scores: for each optimizer, its trials' scores ``[N_o]``, higher is better; NaN are left
            out, and an optimizer without any never wins.

    Returns:
        Rows sum to 1; NaN where no optimizer has a trial, and where some optimizer has fewer
        trials than a budget without replacement.
    """
    known = [np.sort(s[~np.isnan(s)]) for s in (np.asarray(s, dtype=float) for s in scores)]
    k = np.asarray(budgets)[:, None]
    levels = np.unique(np.concatenate([*known, []]))
    result = np.zeros((len(k), len(known)))
    if not levels.size:
        return np.full_like(result, np.nan)
    below, equal = [], []  # of each optimizer's best  [K, V]
    for trials in known:
        if trials.size:
            counts = np.searchsorted(trials, levels, side="right")
            at_most = _best_at_most(counts, k, replacement)
            before = np.pad(at_most, ((0, 0), (1, 0)))[:, :-1]
        else:
            at_most = before = np.ones((len(k), levels.size))
        below.append(before)
        equal.append(at_most - before)
    nodes, weights = np.polynomial.legendre.leggauss((len(known) + 1) // 2)
    for u, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        factors = [b + u * e for b, e in zip(below, equal, strict=True)]
        for o, chance in enumerate(equal):
            others = np.prod(factors[:o] + factors[o + 1 :], axis=0)
            result[:, o] += weight * (chance * others).sum(axis=1)
    return result


def fills_a_grid(settings: np.ndarray) -> bool:
    """Whether trials fill more than half of the combinations of their values, of which there are
    at least two for two hyperparameters: ``[N, H]``, NaN is a value."""
    settings = np.asarray(settings, dtype=float)
    levels = [np.unique(column).size for column in settings.T]
    levels = [size for size in levels if size > 1]
    trials = len(np.unique(settings, axis=0))
    return len(levels) > 1 and bool(trials > np.prod(levels, dtype=float) / 2)


def _best_at_most(counts: np.ndarray, k: np.ndarray, replacement: bool) -> np.ndarray:
    """P(best of k is among the worst ``counts``) of N, the last of counts: ``[V], [K, 1]``."""
    n = counts[-1]
    if replacement:
        return (counts / n) ** k
    log_factorial = gammaln(np.arange(1, n + 2))
    enough = np.maximum(counts - k, 0)
    log_ratio = log_factorial[counts] - log_factorial[enough] - log_factorial[n]
    log_ratio = log_ratio + log_factorial[np.maximum(n - k, 0)]
    probability = np.where(counts >= k, np.exp(log_ratio), 0.0)
    probability[:, counts == n] = 1.0
    return np.where(k <= n, probability, np.nan)
