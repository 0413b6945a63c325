"""Confidence intervals. Each returns NaN, not a guess, where one observation is all there is."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    estimate: float
    low: float
    high: float


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Student's t interval of a mean: ``mean -+ t(n - 1) s / sqrt(n)``; NaN are left out.

    Assumes that means of n values are near normal; with three seeds it is wide, and should be.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n = values.size
    if n == 0 or not np.isfinite(values).all():
        return Interval(float(values.mean()) if n else np.nan, np.nan, np.nan)
    mean = float(values.mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan)
    margin = _t_quantile((1 + confidence) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return Interval(mean, float(mean - margin), float(mean + margin))


def percentile_interval(
    estimate: float, resampled: np.ndarray, confidence: float = 0.95
) -> Interval:
    """The middle share of bootstrap replicates (Efron & Tibshirani 1993, section 13.3)."""
    known = resampled[~np.isnan(resampled)]
    if not known.size:
        return Interval(estimate, np.nan, np.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))


def stratified_bootstrap(
    strata: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap that resamples runs within each task (Agarwal et al. 2021, section 4.1).

    ``scipy.stats.bootstrap`` refuses a task with one run. Here such a task adds no spread; if no
    task has two runs, the interval is NaN.

    Args:
        strata: for each task, its runs, ``[n_t]``; NaN are left out, and so are empty tasks.
        statistic: of all runs pooled, ``statistic(x, axis=-1)``: ``[..., N] -> [...]``.
    """
    kept = [np.asarray(runs, dtype=float) for runs in strata]
    kept = [runs[~np.isnan(runs)] for runs in kept]
    kept = [runs for runs in kept if runs.size]
    if not kept:
        return Interval(np.nan, np.nan, np.nan)
    estimate = float(statistic(np.concatenate(kept), axis=-1))
    if max(runs.size for runs in kept) == 1:
        return Interval(estimate, np.nan, np.nan)
    drawn = [runs[rng.integers(runs.size, size=(resamples, runs.size))] for runs in kept]
    resampled = statistic(np.concatenate(drawn, axis=1), axis=-1)  # [B]
    return percentile_interval(estimate, resampled, confidence)


def bootstrap_over_columns(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a statistic of means over seeds, all rows sharing the seeds drawn.

    Of S seeds there are only C(2S - 1, S) different draws (ten for three), so the statistic is
    computed once for each that occurs. NaN are left out of a mean.

    Args:
        values: ``[..., S]``.
        statistic: of the means, vectorised: ``[B, ...] -> [B]``.
    """
    seeds = values.shape[-1]
    estimate = float(statistic(_weighted_means(values, np.ones((1, seeds))))[0])
    if seeds == 1:
        return Interval(estimate, np.nan, np.nan)
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)  # [B, S]
    distinct, which = np.unique(drawn, axis=0, return_inverse=True)
    resampled = statistic(_weighted_means(values, distinct.astype(float)))[which]
    return percentile_interval(estimate, resampled, confidence)


def _weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means over the last axis, NaN left out: ``[..., S], [B, S] -> [B, ...]``; NaN of nothing."""
    known = ~np.isnan(values)
    count = np.tensordot(weights, known.astype(float), axes=(1, -1))
    total = np.tensordot(weights, np.where(known, values, 0.0), axes=(1, -1))
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


@lru_cache
def _t_quantile(share: float, degrees: int) -> float:
    return float(stats.t.ppf(share, degrees))
