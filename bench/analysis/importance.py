"""How much of the score each hyperparameter decides, by two methods that answer two questions.

``variance_shares`` asks over the whole space (what if all are drawn anew?), ``local_shares`` at the
best setting (what if only this one is moved?). They disagree where a hyperparameter matters only
while others are wrong: both depend on the ranges that were searched, and a wide range of learning
rates, with its diverged end, takes most of the first.
"""

from itertools import chain, combinations

import numpy as np

FEWEST_DRAWN, FEWEST_AROUND = 50, 100  # trials; `tests/analysis/test_importance.py` simulates it
MOST_DRAWN = 2000
REACHES = (0.03, 0.05, 0.08, 0.12, 0.2, 0.35)  # of a kernel, as a share of the range


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

    The share of the variance that one hyperparameter explains of trials that the explanation has
    not seen: a mean of the others' scores, weighted by how near they are in rank, at the width that
    predicts best (the first-order Sobol index by kernel regression, left out one by one), at least
    0. Interactions are not seen. In simulation, all shares of two to four hyperparameters are
    within 0.1 of the truth in three of four studies with 50 trials, in six of seven with 100: NaN
    for fewer than ``FEWEST_DRAWN``, and without variance. Trials with a NaN are left out; of more
    than ``MOST_DRAWN``, evenly spread ones serve.
    """
    from scipy.stats import rankdata  # a second, which the table of a sweep need not wait for

    settings, scores = _complete(settings, scores)
    n, width = settings.shape
    if n < FEWEST_DRAWN or not _vary(scores):
        return np.full(width, np.nan)
    kept = np.unique(np.linspace(0, n - 1, min(n, MOST_DRAWN)).round().astype(int))
    ranks = rankdata(settings[kept], axis=0) / kept.size
    scores = scores[kept]
    shares = np.zeros(width)
    for h, rank in enumerate(ranks.T):
        if np.ptp(rank) == 0:
            continue
        distance = (rank[:, None] - rank) ** 2 / 2
        for reach in REACHES:
            weights = np.exp(-distance / reach**2)
            np.fill_diagonal(weights, 0.0)
            total = weights.sum(axis=1)
            known = total > 0  # where others are within reach
            error = scores[known] - (weights @ scores)[known] / total[known]
            if known.mean() > 0.5:
                shares[h] = max(shares[h], 1 - np.mean(error**2) / scores[known].var())
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
    on which scale it was drawn), and moves one at a time from the best trial. In simulation, all
    shares are within 0.1 of the truth in three of four studies or more with ``FEWEST_AROUND``
    trials for each hyperparameter but one: NaN for fewer, and without variance. Trials with a NaN
    are left out.
    """
    from scipy.interpolate import RBFInterpolator
    from scipy.stats import rankdata

    settings, scores = _complete(settings, scores)
    n, width = settings.shape
    if n < FEWEST_AROUND * max(width - 1, 1) or width == 0 or not _vary(scores):
        return np.full(width, np.nan)
    ranks = (rankdata(settings, axis=0) - 1) / (n - 1)
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
