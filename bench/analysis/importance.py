"""How much of the score each hyperparameter decides, by two methods that answer two questions.

``variance_shares`` asks over the whole space (what if all are drawn anew?), ``local_shares`` at the
best setting (what if only this one is moved?). They disagree where a hyperparameter matters only
while others are wrong: both depend on the ranges that were searched, and a wide range of learning
rates, with its diverged end, takes most of the first.
"""

from itertools import chain, combinations

import numpy as np
from scipy import stats
from scipy.interpolate import RBFInterpolator


def variance_shares(scores: np.ndarray) -> dict[tuple[int, ...], float]:
    """Functional ANOVA of a complete grid: each set of axes and its share of the variance.

    With f_U the mean over the axes outside U, less the effects of the subsets of U,
    ``V_U = mean f_U^2`` and ``share_U = V_U / sum_U V_U`` (Hutter, Hoos & Leyton-Brown 2014; exact
    here, where they ask a random forest). Shares are at least 0 and sum to 1; those of single axes
    are main effects, the others interactions.

    Args:
        scores: ``[n_1, ..., n_H]``, one score a cell.

    Returns:
        NaN throughout if there is a hole, an infinity or no variance.
    """
    scores = _finite(scores)
    axes = range(scores.ndim)
    subsets = chain.from_iterable(combinations(axes, size) for size in range(scores.ndim + 1))
    effects: dict[tuple[int, ...], np.ndarray] = {}
    for subset in subsets:
        outside = tuple(axis for axis in axes if axis not in subset)
        marginal = scores.mean(axis=outside, keepdims=True)
        lower = [effect for inner, effect in effects.items() if set(inner) < set(subset)]
        effects[subset] = marginal - np.sum([np.broadcast_to(e, marginal.shape) for e in lower], 0)
    variance = {subset: float(np.mean(effects[subset] ** 2)) for subset in effects if subset}
    total = sum(variance.values()) if _vary(scores) else np.nan
    return {subset: share / total for subset, share in variance.items()}


def main_effects(settings: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Main effects from trials drawn at random: ``[N, H], [N] -> [H]``.

    The correlation ratio ``Var(E[score | bin]) / Var(score)`` over bins of each hyperparameter
    (an estimate of the first-order Sobol index, Plischke et al. 2013), less what bins explain by
    chance: ``1 - (1 - ratio) (N - 1) / (N - B)`` (Kelley 1935's epsilon-squared), at least 0. Bins
    are the values themselves if they are at most B = max(2, round(N^(1/3))), else B quantiles.
    Interactions are not seen. Trials with a NaN are left out; NaN for fewer than 8 trials or
    without variance.
    """
    settings, scores = _complete(settings, scores)
    n, width = settings.shape
    if n < 8 or not _vary(scores):
        return np.full(width, np.nan)
    shares = np.empty(width)
    for h, column in enumerate(settings.T):
        bins = _bins(column, max(2, round(n ** (1 / 3))))
        count = np.bincount(bins)
        mean = np.bincount(bins, scores) / count
        ratio = (count * (mean - scores.mean()) ** 2).sum() / n / scores.var()
        shares[h] = max(0.0, 1 - (1 - ratio) * (n - 1) / (n - count.size))
    return shares


def local_shares(scores: np.ndarray) -> np.ndarray:
    """Importance around the best cell of a grid: ``[n_1, ..., n_H] -> [H]``.

    The variance of the scores along each axis through the best cell, as a share of their sum over
    axes (local parameter importance, Biedenkapp et al. 2018; they ask a random forest, a grid has
    the answers). Holes and infinities are passed over; the first best cell serves if several tie.
    NaN without a score or without variance.
    """
    scores = _finite(scores)
    if not scores.size or np.isnan(scores).all():
        return np.full(scores.ndim, np.nan)
    best = np.unravel_index(np.nanargmax(scores), scores.shape)
    lines = [
        scores[tuple(slice(None) if a == axis else i for a, i in enumerate(best))]
        for axis in range(scores.ndim)
    ]
    known = [line[~np.isnan(line)] for line in lines]
    return _shares(np.array([line.var() if _vary(line) else 0.0 for line in known]))


def local_shares_of_surrogate(
    settings: np.ndarray, scores: np.ndarray, *, points: int = 21
) -> np.ndarray:
    """``local_shares`` for trials drawn at random, asked of a surrogate: ``[N, H], [N] -> [H]``.

    Biedenkapp et al. 2018 fit a random forest; this fits a smoothed linear radial basis function
    to the trials, each hyperparameter replaced by its rank in [0, 1] (so that it does not matter
    on which scale it was drawn), and moves one at a time from the best trial. Rough below some ten
    trials for each hyperparameter: NaN then, and without variance. Trials with a NaN are left out.
    """
    settings, scores = _complete(settings, scores)
    n, width = settings.shape
    if n < 10 * width or width == 0 or not _vary(scores):
        return np.full(width, np.nan)
    ranks = (stats.rankdata(settings, axis=0) - 1) / (n - 1)
    surrogate = RBFInterpolator(
        ranks, scores, neighbors=min(n, 100), kernel="linear", smoothing=0.1, degree=0
    )
    moved = np.tile(ranks[scores.argmax()], (width, points, 1))  # [H, points, H]
    moved[range(width), :, range(width)] = np.linspace(0, 1, points)
    predicted = surrogate(moved.reshape(-1, width)).reshape(width, points)
    varies = np.ptp(settings, axis=0) > 0
    return _shares(np.where(varies, predicted.var(axis=1), 0.0))


def _vary(scores: np.ndarray) -> bool:
    """Whether scores differ by more than rounding; False if one is missing or there is none."""
    return bool(scores.size and np.ptp(scores) > 1e-12 * np.abs(scores).max())


def _shares(variance: np.ndarray) -> np.ndarray:
    total = variance.sum()
    return variance / total if total > 0 else np.full(variance.shape, np.nan)


def _finite(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    return np.where(np.isfinite(scores), scores, np.nan)


def _complete(settings: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    settings, scores = np.asarray(settings, dtype=float), np.asarray(scores, dtype=float)
    kept = np.isfinite(scores) & np.isfinite(settings).all(axis=1)
    return settings[kept], scores[kept]


def _bins(values: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each value, from 0, none of them empty: ``[N] -> [N]``."""
    levels, level = np.unique(values, return_inverse=True)
    if levels.size <= bins:
        return level
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)[1]
