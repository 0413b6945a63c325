"""Aggregates over runs of several tasks (Agarwal et al. 2021, Statistical Precipice).

Scores are ``[runs, tasks]``; NaN is a run that is missing.
"""

import numpy as np
from scipy.special import ndtri

from bench.analysis.intervals import FEWEST, Interval, jackknife_interval

FEWEST_OF_A_TASK = 5  # runs, for an interval of their interquartile mean


def interquartile_mean(scores: np.ndarray) -> float:
    """The mean of the middle half of all scores, pooled over runs and tasks.

    A quarter of the scores, rounded down, is trimmed at either end (with fewer than four: none).
    NaN are left out, an infinity counts as the extreme that it is, and nothing is NaN.
    """
    scores = np.ravel(np.asarray(scores, dtype=float))
    scores = scores[~np.isnan(scores)]
    return float(_trimmed(scores)) if scores.size else np.nan


def interquartile_mean_interval(scores: np.ndarray, confidence: float = 0.95) -> Interval:
    """``interquartile_mean`` with a jackknife interval, runs left out one by one within each task.

    Agarwal et al. 2021 draw runs anew within each task, which covers too little with few of them.
    So does this one with three (85 % in place of 95): it is NaN below ``FEWEST_OF_A_TASK``.
    """
    tasks = [task[~np.isnan(task)] for task in np.asarray(scores, dtype=float).T]
    tasks = [task for task in tasks if task.size]
    if not tasks:
        return Interval(np.nan, np.nan, np.nan)
    pooled = np.concatenate(tasks)
    estimate = float(_trimmed(pooled))
    if min(task.size for task in tasks) < FEWEST_OF_A_TASK:
        return Interval(estimate, np.nan, np.nan)
    without = _trimmed(np.stack([np.delete(pooled, i) for i in range(pooled.size)]))
    ends = np.cumsum([task.size for task in tasks])[:-1]
    return jackknife_interval(estimate, *np.split(without, ends), confidence=confidence)


def probability_of_improvement(x: np.ndarray, y: np.ndarray) -> float:
    """The chance that a run of x scores higher than a run of y, averaged over tasks.

    On a task with N runs of x and M of y it is ``1 / (N M) sum_ij S(x_i, y_j)``, with S = 1 if
    x_i > y_j, 1/2 if they are equal, else 0 (the Mann-Whitney U over N M; Agarwal et al. 2021,
    section 4.3). Tasks where either has no run are left out; NaN if none is left.

    Args:
        x, y: ``[N, tasks]`` and ``[M, tasks]``, higher is better, unpaired.
    """
    wins = _wins(x, y)
    return float(np.mean([task.mean() for task in wins])) if wins else np.nan


def improvement_interval(x: np.ndarray, y: np.ndarray, confidence: float = 0.95) -> Interval:
    """``probability_of_improvement`` on one task with Newcombe's interval: ``[N], [M]``.

    The values theta with ``|estimate - theta| <= z sd(theta)``, where ``sd(theta)^2``, after Hanley
    and McNeil, is ``theta (1 - theta) (1 + n ((1 - theta) / (2 - theta) + theta / (1 + theta)))``
    over N M, with n = (N + M) / 2 - 1 (Newcombe 2006, part 2, method 5): never outside 0 and 1, and
    of some width where one always wins.
    """
    (wins,) = _wins(np.reshape(x, (-1, 1)), np.reshape(y, (-1, 1))) or [np.empty((0, 0))]
    estimate = float(wins.mean()) if wins.size else np.nan
    if not wins.size or min(wins.shape) < FEWEST:
        return Interval(estimate, np.nan, np.nan)
    theta = np.linspace(0, 1, 10_001)
    n = sum(wins.shape) / 2 - 1
    variance = theta * (1 - theta) * (1 + n * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
    z = ndtri((1 + confidence) / 2)
    inside = theta[np.abs(estimate - theta) <= z * np.sqrt(variance / wins.size)]
    return Interval(estimate, float(inside.min()), float(inside.max()))


def _trimmed(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    from scipy.stats import trim_mean  # a second, which the table of a sweep need not wait for

    with np.errstate(invalid="ignore"):  # a mean over both infinities is NaN
        return trim_mean(scores, 0.25, axis=axis)


def _wins(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """S(x_i, y_j) of each task that both have runs of: ``[N_t, M_t]``."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x has {x.shape[1]} tasks and y has {y.shape[1]}")
    pairs = ((a[~np.isnan(a), None], b[~np.isnan(b)]) for a, b in zip(x.T, y.T, strict=True))
    return [(a > b) + 0.5 * (a == b) for a, b in pairs if a.size and b.size]
