"""How wide the region of good hyperparameter values is, on a logarithmic scale."""

import math
from typing import NamedTuple

import numpy as np


class GoodRegion(NamedTuple):
    """Where a response stays within delta of its best; arrays of the response's leading shape.

    Attributes:
        width: decades in the region, gaps between its pieces left out.
        low, high: its outermost values, in the units of the hyperparameter.
        centre: the middle of low and high on the logarithmic scale.
        pieces: intervals it consists of; more than one means gaps, often noise.
        open_low, open_high: whether it reaches the end of the values tried; the width is then a
            lower bound.
    """

    width: np.ndarray
    low: np.ndarray
    high: np.ndarray
    centre: np.ndarray
    pieces: np.ndarray
    open_low: np.ndarray
    open_high: np.ndarray


def tolerance(best: np.ndarray, delta: float, *, relative: bool) -> np.ndarray | float:
    """How far from the best is still good: delta, or that share of the best value's size."""
    return delta * np.abs(best) if relative else delta


def good_region(
    values: np.ndarray, scores: np.ndarray, delta: float, *, relative: bool = False
) -> GoodRegion:
    """The set ``{v : f(v) >= max f - delta}``, measured in decades.

    f interpolates the scores linearly in log10(v), so that a boundary falls between two points of
    the grid in proportion to their scores. With v drawn log-uniformly from the values tried, width
    over their range is the chance of a v within delta of the best.

    Args:
        values: ``[V]``, positive, ascending, distinct.
        scores: ``[..., V]``, higher is better; NaN is a hole, which f passes over in a
            straight line (beyond the last score it stays level).
        delta: at least 0, in units of the scores, or ``relative`` to the best.

    Returns:
        Width 0 where there is one value; NaN (0 pieces) where there is no score or an infinite one.
    """
    values, scores = np.asarray(values, dtype=float), np.asarray(scores, dtype=float)
    if np.any(values <= 0) or np.any(np.diff(values) <= 0):
        raise ValueError("values must be positive, ascending and distinct")
    if delta < 0:
        raise ValueError(f"delta must be at least 0, not {delta}")
    lead = scores.shape[:-1]
    x = np.log10(values)
    f = _filled(x, scores.reshape(math.prod(lead), x.size))
    known = np.isfinite(f).all(axis=1) & (x.size > 0)
    result = np.full((7, f.shape[0]), np.nan)
    result[4:] = 0
    if known.any():
        best = f[known].max(axis=1, keepdims=True)
        above = f[known] - best + tolerance(best, delta, relative=relative)  # >= 0 inside  [N, V]
        result[:, known] = _measure(x, above)
    width, low, high, centre, pieces, open_low, open_high = (row.reshape(lead) for row in result)
    return GoodRegion(
        width,
        10**low,
        10**high,
        10**centre,
        pieces.astype(int),
        open_low.astype(bool),
        open_high.astype(bool),
    )


def _measure(x: np.ndarray, above: np.ndarray) -> np.ndarray:
    """The seven rows of ``GoodRegion``, in log10, of ``{above >= 0}``: ``[7, N]``."""
    inside = above >= 0
    left, right = above[:, :-1], above[:, 1:]
    crosses = inside[:, :-1] != inside[:, 1:]
    # Where the segment between two neighbours meets zero, as a share of its length  [N, V-1]
    share = np.divide(left, left - right, out=np.ones_like(left), where=crosses)
    step = np.diff(x)
    inner = np.where(inside[:, :-1] & inside[:, 1:], 1.0, 0.0)
    length = step * np.where(crosses, np.where(inside[:, :-1], share, 1 - share), inner)

    rows = np.arange(len(above))
    first = inside.argmax(axis=1)
    last = above.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    beyond = np.pad(np.where(crosses, length, 0.0), ((0, 0), (1, 1)))  # past either end: nothing
    low, high = x[first] - beyond[rows, first], x[last] + beyond[rows, last + 1]
    pieces = inside[:, 0] + (~inside[:, :-1] & inside[:, 1:]).sum(axis=1)
    width, centre = length.sum(axis=1), (low + high) / 2
    return np.stack([width, low, high, centre, pieces, inside[:, 0], inside[:, -1]])


def _filled(x: np.ndarray, scores: np.ndarray) -> np.ndarray:
    holes = np.isnan(scores)
    filled = scores.copy()
    for row in np.flatnonzero(holes.any(axis=1) & ~holes.all(axis=1)):
        known = ~holes[row]
        filled[row] = np.interp(x, x[known], scores[row, known])
    return filled
