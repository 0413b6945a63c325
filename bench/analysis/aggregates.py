"""Aggregates over runs of several tasks (Agarwal et al. 2021, Statistical Precipice).

Scores are ``[runs, tasks]``; NaN is a run that is missing.
"""

import numpy as np
from scipy import stats

from bench.analysis.intervals import Interval, percentile_interval, stratified_bootstrap


def interquartile_mean(scores: np.ndarray) -> float:
    """The mean of the middle half of all scores, pooled over runs and tasks.

    A quarter of the scores, rounded down, is trimmed at either end (with fewer than four: none).
    NaN are left out, an infinity counts as the extreme that it is, and nothing is NaN.
    """
    scores = np.ravel(np.asarray(scores, dtype=float))
    scores = scores[~np.isnan(scores)]
    return float(_trimmed(scores)) if scores.size else np.nan


def interquartile_mean_interval(
    scores: np.ndarray,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """``interquartile_mean`` with a bootstrap interval stratified by task; NaN for one run each."""
    return stratified_bootstrap(
        list(np.asarray(scores, dtype=float).T),
        _trimmed,
        rng=rng,
        resamples=resamples,
        confidence=confidence,
    )


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


def improvement_interval(
    x: np.ndarray,
    y: np.ndarray,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """``probability_of_improvement`` with runs of x and of y resampled within each task."""
    wins = _wins(x, y)
    estimate = probability_of_improvement(x, y)
    if not wins or max(max(task.shape) for task in wins) == 1:
        return Interval(estimate, np.nan, np.nan)
    resampled = np.zeros(resamples)
    for task in wins:
        drawn_x, drawn_y = (rng.multinomial(n, np.full(n, 1 / n), resamples) for n in task.shape)
        resampled += np.einsum("bn,nm,bm->b", drawn_x, task, drawn_y) / task.size / len(wins)
    return percentile_interval(estimate, resampled, confidence)


def _trimmed(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a mean over both infinities is NaN
        return stats.trim_mean(scores, 0.25, axis=axis)


def _wins(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """S(x_i, y_j) of each task that both have runs of: ``[N_t, M_t]``."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x has {x.shape[1]} tasks and y has {y.shape[1]}")
    pairs = ((a[~np.isnan(a), None], b[~np.isnan(b)]) for a, b in zip(x.T, y.T, strict=True))
    return [(a > b) + 0.5 * (a == b) for a, b in pairs if a.size and b.size]
