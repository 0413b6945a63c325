"""Whether two hyperparameters can be tuned one after the other."""

from typing import NamedTuple

import numpy as np


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


def rectangle_distance(scores: np.ndarray, delta: float) -> Rectangle:
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
        delta: at least 0, in units of the scores.

    Returns:
        NaN, no good cell and rectangle -1 where there is no score.
    """
    scores = np.asarray(scores, dtype=float)
    *lead, n_rows, n_columns = scores.shape
    flat = scores.reshape(-1, n_rows * n_columns)
    known = ~np.isnan(flat)
    best = np.where(known, flat, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    good = known & (flat >= best - delta)

    rows, columns = _spans(n_rows), _spans(n_columns)  # [Rs, 2], [Cs, 2]
    covers = np.einsum("ar,bc->abrc", _mask(rows, n_rows), _mask(columns, n_columns))
    covers = covers.reshape(len(rows) * len(columns), -1).T  # [cells, rectangles]
    both = good.astype(np.float32) @ covers
    either = good.sum(axis=1, keepdims=True) + known.astype(np.float32) @ covers - both
    overlap = np.divide(both, either, out=np.zeros_like(both, dtype=float), where=either > 0)

    count = good.sum(axis=1)
    nearest = overlap.argmax(axis=1)
    distance = np.where(count, 1 - overlap.max(axis=1), np.nan)
    row, column = np.divmod(nearest, len(columns))
    none = (count == 0)[:, None]
    return Rectangle(
        distance.reshape(lead),
        count.reshape(lead),
        np.where(none, -1, rows[row]).reshape(*lead, 2),
        np.where(none, -1, columns[column]).reshape(*lead, 2),
    )


def _spans(n: int) -> np.ndarray:
    """Every first and last index of neighbouring entries: ``[n (n + 1) / 2, 2]``."""
    return np.stack(np.triu_indices(n), axis=1)


def _mask(spans: np.ndarray, n: int) -> np.ndarray:
    index = np.arange(n)
    inside = (spans[:, :1] <= index) & (index <= spans[:, 1:])
    return inside.astype(np.float32)
