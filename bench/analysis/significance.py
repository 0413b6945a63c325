"""Tests between optimizers: paired over seeds, and by ranks over workloads."""

from typing import NamedTuple

import numpy as np

from bench.analysis.intervals import FEWEST, mean_interval


class Paired(NamedTuple):
    """A paired comparison.

    Attributes:
        pairs: how many.
        difference, low, high: mean of x - y and its Student t interval.
        p: two-sided, of the paired t test.
    """

    pairs: int
    difference: float
    low: float
    high: float
    p: float


def paired(x: np.ndarray, y: np.ndarray, confidence: float = 0.95) -> Paired:
    """Compares x with y over pairs that share a seed: ``[n]`` each; pairs with a NaN or an
    infinity are left out.

    Fewer than three pairs: no interval, and p is NaN. All differences zero: p = 1. Several equal
    differences have no spread to hold them against, so p is that of their signs, 2^(1 - n).
    """
    from scipy.stats import ttest_1samp  # a second, which the table of a sweep need not wait for

    difference = np.asarray(x, dtype=float) - np.asarray(y, dtype=float)
    difference = difference[np.isfinite(difference)]
    mean, low, high = mean_interval(difference, confidence)
    n = difference.size
    if n < FEWEST:
        return Paired(n, mean, low, high, np.nan)
    if not difference.any():
        return Paired(n, mean, low, high, 1.0)
    if np.ptp(difference) <= 1e-12 * np.abs(difference).max():
        return Paired(n, mean, low, high, 2.0 ** (1 - n))
    return Paired(n, mean, low, high, float(ttest_1samp(difference, 0.0).pvalue))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values adjusted for the number of tests (Holm 1979): ``[m] -> [m]``.

    ``max over j <= i of min(1, (m - j + 1) p_(j))`` for the i-th smallest; controls the chance of
    any false rejection whatever the dependence. NaN, a test not made, stays NaN and is not counted.
    """
    p = np.asarray(p, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    factor = np.arange(order.size, 0, -1)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factor * p[order]))
    return adjusted


class CriticalDifference(NamedTuple):
    """Mean ranks and what they can tell apart.

    Attributes:
        mean_ranks: ``[O]``, 1 is the best; ties get the mean of their ranks.
        statistic, p: Friedman's chi-squared with correction for ties, and its asymptotic p-value.
        difference: mean ranks closer than this do not differ at level alpha (Nemenyi).
        blocks: rows that were ranked.
        groups: maximal sets of methods (indices, best first) whose mean ranks do not differ.
    """

    mean_ranks: np.ndarray
    statistic: float
    p: float
    difference: float
    blocks: int
    groups: list[tuple[int, ...]]


def critical_difference(scores: np.ndarray, alpha: float = 0.05) -> CriticalDifference:
    """Friedman's test and Nemenyi's critical difference (Demsar 2006, section 3.2.2).

    ``CD = q_alpha sqrt(O (O + 1) / (6 N))`` with q_alpha the studentized range for O groups and
    infinitely many degrees of freedom, over sqrt(2). Blocks must be independent: workloads are,
    seeds on one workload are for that workload only. A small N makes CD wide, and the chi-squared
    approximation poor (Demsar asks for N > 10 and O > 5).

    Args:
        scores: ``[N, O]``, blocks by methods, higher is better; blocks with a NaN are left out.

    Returns:
        NaN where it is undefined: no complete block, or fewer than two methods.
    """
    from scipy import stats

    scores = np.asarray(scores, dtype=float)
    scores = scores[~np.isnan(scores).any(axis=1)]
    blocks, methods = scores.shape
    if blocks == 0 or methods < 2:
        nothing = np.full(methods, np.nan)
        return CriticalDifference(nothing, np.nan, np.nan, np.nan, blocks, [])
    ranks = stats.rankdata(-scores, axis=1)
    mean_ranks = ranks.mean(axis=0)
    between = blocks * ((mean_ranks - (methods + 1) / 2) ** 2).sum()
    within = ranks.var(axis=1, ddof=1).sum() / blocks  # O (O + 1) / 12 without ties
    statistic = float(between / within) if within > 0 else 0.0
    p = float(stats.chi2.sf(statistic, methods - 1))
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    difference = float(q * np.sqrt(methods * (methods + 1) / (6 * blocks)))
    groups = _groups(mean_ranks, difference)
    return CriticalDifference(mean_ranks, statistic, p, difference, blocks, groups)


def _groups(mean_ranks: np.ndarray, difference: float) -> list[tuple[int, ...]]:
    order = np.argsort(mean_ranks, kind="stable")
    ends = np.searchsorted(mean_ranks[order], mean_ranks[order] + difference, side="right")
    groups: list[tuple[int, ...]] = []
    reach = 0
    for start, end in enumerate(ends):
        if end > reach:  # else it lies inside the group before
            groups.append(tuple(int(i) for i in order[start:end]))
            reach = end
    return groups
