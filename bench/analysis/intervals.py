"""Confidence intervals, of the kind that covers with few observations: Student's t, of a mean or by
the jackknife. Each is NaN, not a guess, where there are fewer than three observations.

The bootstrap is not among them: of three seeds, a percentile interval that says 95 % covers 55 to
70. ``python -m bench.calibration`` simulates every interval that a report shows.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

FEWEST = 3  # observations: the interval of two is t(1) = 12.7 standard errors on either side


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
    if n < FEWEST or not np.isfinite(values).all():
        return Interval(float(values.mean()) if n else np.nan, np.nan, np.nan)
    mean = float(values.mean())
    margin = t_quantile((1 + confidence) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return Interval(mean, float(mean - margin), float(mean + margin))


def jackknife_interval(
    estimate: float,
    *without: np.ndarray,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Student's t interval of a statistic by the jackknife (Efron & Tibshirani 1993, chapter 11).

    The variance that a sample of n adds is ``(n - 1) / n sum_i (theta_(i) - mean)^2``, with
    theta_(i) the statistic when its i-th member is left out. Degrees of freedom are n - 1, and of
    several independent samples Welch's and Satterthwaite's.

    Args:
        estimate: the statistic of all.
        without: for each sample, ``theta_(i)``: ``[n]``.
        bounds: what the statistic cannot leave; the interval does not either.

    Returns:
        NaN ends where a sample has fewer than ``FEWEST`` members, or a number is not finite.
    """
    error, degrees = jackknife_error(*without)
    if not np.isfinite([estimate, error]).all():
        return Interval(float(estimate), np.nan, np.nan)
    margin = t_quantile((1 + confidence) / 2, degrees) * error
    low, high = np.clip([estimate - margin, estimate + margin], *bounds)
    return Interval(float(estimate), float(low), float(high))


def jackknife_error(*without: np.ndarray) -> tuple[float, float]:
    """The standard error and the degrees of freedom of ``jackknife_interval``; NaN error where it
    has none."""
    if not without or min(part.size for part in without) < FEWEST:
        return np.nan, 1.0
    variances = np.array([(part.size - 1) * part.var() for part in without])
    total = variances.sum()
    freedom = np.array([part.size - 1 for part in without])
    if not np.isfinite(total) or total == 0:
        return float(np.sqrt(total)), float(freedom.min())
    return float(np.sqrt(total)), float(total**2 / (variances**2 / freedom).sum())


def means_without_each(values: np.ndarray) -> np.ndarray:
    """Means over the last axis with each of its members left out: ``[..., S] -> [S, ...]``.

    NaN are left out of a mean; NaN of nothing.
    """
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    count = known.sum(axis=-1, keepdims=True) - known
    total = filled.sum(axis=-1, keepdims=True) - filled
    means = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return np.moveaxis(means, -1, 0)


@lru_cache
def t_quantile(share: float, degrees: float) -> float:
    return float(stdtrit(degrees, share))
