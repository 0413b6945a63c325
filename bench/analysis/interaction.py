"""Whether two hyperparameters can be tuned one after the other."""

from typing import NamedTuple

import numpy as np

from bench.analysis.sensitivity import tolerance


class Rectangle(NamedTuple):
    """How a good region compares with the rectangle most like it.

    Attributes:
        distance: ``[...]``, 1 - |region and rectangle| / |region or rectangle|, counted in cells.
        good: ``[...]``, cells in the region.
        rows, columns: ``[..., 2]``, the first and last index of the rectangle, inclusive.
    """

    distance: np.ndarray
    good: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def rectangle_distance(scores: np.ndarray, delta: float, *, relative: bool = False) -> Rectangle:
    """How far the cells within delta of the best are from an axis-aligned rectangle.

    Two hyperparameters that do not interact have a rectangular good region: any good value of one
    goes with any good value of the other. Loshchilov & Hutter 2019 (figure 2) show by eye that
    the region of Adam with L2 lies along a diagonal and that of AdamW nearly along the axes. The
    number here is the Jaccard distance to the nearest of all rectangles of neighbouring cells: 0
    for a rectangle, 5/7 for a diagonal of five cells. It is 0 for one good cell too, so read it
    beside ``good``, and with the same delta and grid for what is compared. Cells count equally,
    however far apart their values are.

    Args:
        scores: ``[..., R, C]``, higher is better; NaN is a hole, which counts neither way.
        delta: at least 0, in units of the scores, or ``relative`` to the best.

    Returns:
        NaN, no good cell and rectangle -1 where there is no score.
    """
    scores = np.asarray(scores, dtype=float)
    *lead, n_rows, n_columns = scores.shape
    if n_rows > n_columns:  # the loop below is over spans of rows
        turned = rectangle_distance(np.swapaxes(scores, -1, -2), delta, relative=relative)
        return turned._replace(rows=turned.columns, columns=turned.rows)
    flat = scores.reshape(-1, n_rows * n_columns)
    known = ~np.isnan(flat)
    best = np.where(known, flat, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    good = known & (flat >= best - tolerance(best, delta, relative=relative))

    count = good.sum(axis=1)
    good_before, known_before = (_integral(cells, n_rows, n_columns) for cells in (good, known))
    first, last = np.triu_indices(n_columns)
    overlap = np.zeros(len(flat))
    nearest = np.full((len(flat), 4), -1)
    for top, bottom in zip(*np.triu_indices(n_rows), strict=True):
        bands = (before[:, bottom + 1] - before[:, top] for before in (good_before, known_before))
        both, covered = (band[:, last + 1] - band[:, first] for band in bands)  # [N, column spans]
        share = both / np.maximum(count[:, None] + covered - both, 1)
        span = share.argmax(axis=1)
        found = share.max(axis=1)
        better = found > overlap
        overlap = np.where(better, found, overlap)
        here = np.stack(np.broadcast_arrays(top, bottom, first[span], last[span]), axis=1)
        nearest = np.where(better[:, None], here, nearest)
    distance = np.where(count, 1 - overlap, np.nan)
    return Rectangle(
        distance.reshape(lead),
        count.reshape(lead),
        nearest[:, :2].reshape(*lead, 2),
        nearest[:, 2:].reshape(*lead, 2),
    )


def _integral(cells: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """How many cells lie above and to the left of each corner: ``[N, R C] -> [N, R+1, C+1]``."""
    counts = cells.reshape(-1, rows, columns).cumsum(axis=1).cumsum(axis=2)
    return np.pad(counts, ((0, 0), (1, 0), (1, 0)))
