"""Contours of a function with the ways of optimizers through it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bench.landscape.axes import around
from bench.landscape.surface import Numbers, on_grid, values_at
from bench.report import style
from bench.report.style import INK, MUTED, Drawing, Look
from bench.workloads.functions import Function

FINENESS = 160  # values a side, between which contours are interpolated
LEVELS = 15
DEEPEST = 1e-5  # of the highest value that is seen: the lowest level
MOST_POINTS = 4000  # of a way that are looked at, denser at its start
STEP = 0.004  # of a side: a shorter move is not drawn by itself
BEYOND = 1.0  # sides of the usual window that a way may widen it by

Steps = NDArray[np.int64]


@dataclass(frozen=True)
class Way:
    """One run's.

    Attributes:
        points: ``[steps + 1, 2]``, as far as they are finite.
        told: its setting, such as ``learning rate 0.1``.
        diverged: whether it was longer.
    """

    points: Numbers
    told: str
    diverged: bool

    @classmethod
    def of(cls, points: Numbers, told: str) -> Way:
        wild = np.flatnonzero(~np.isfinite(points).all(axis=1))
        until = int(wild[0]) if len(wild) else len(points)
        return cls(points[:until], told, diverged=until < len(points))


@dataclass(frozen=True)
class Landscape:
    """A function as it is seen from ways through it.

    Attributes:
        x, y, value: ``[X]``, ``[Y]``, ``[Y, X]``.
        levels: evenly spaced in the logarithm of what is above the least value.
    """

    function: Function
    minima: Numbers
    x: Numbers
    y: Numbers
    value: Numbers
    levels: Numbers

    @classmethod
    def of(cls, function: Function, ways: list[Way]) -> Landscape:
        """A square around minima and starts, and as much more as ways need, up to a limit."""
        minima = np.array(function.minima())
        starts = np.array([way.points[0] for way in ways])
        (left, right), (bottom, top) = around(np.concatenate([minima, starts]))
        low, high = np.array([left, bottom]), np.array([right, top])
        room = BEYOND * (high - low)
        for way in ways:
            near = way.points[((way.points > low - room) & (way.points < high + room)).all(1)]
            if len(near):
                left, bottom = np.minimum([left, bottom], near.min(0) - 0.03 * room)
                right, top = np.maximum([right, top], near.max(0) + 0.03 * room)
        x, y = np.linspace(left, right, FINENESS), np.linspace(bottom, top, FINENESS)
        value = on_grid(function, x, y)
        least = float(values_at(function, minima).min())
        above = value - least
        highest = float(above.max())
        lowest = max(float(above[above > 0].min(initial=highest)), DEEPEST * highest)
        levels = least + np.geomspace(lowest, highest, LEVELS + 1)[:-1]
        return cls(function, minima, x, y, value, np.unique(levels))

    def drawn(self, points: Numbers) -> Steps:
        """The steps of a way that are drawn: a move that cannot be seen is none."""
        steps = spaced(len(points) - 1, MOST_POINTS)
        side = np.array([np.ptp(self.x), np.ptp(self.y)])
        kept = [0]
        for step in steps[1:]:
            if (np.abs(points[step] - points[kept[-1]]) > STEP * side).any():
                kept.append(int(step))
        return np.unique([*kept, len(points) - 1])


def spaced(last: int, most: int) -> Steps:
    """Steps from 0 to the last one: all at first, then evenly spaced in their logarithm."""
    if last < most:
        return np.arange(last + 1)
    dense = most // 3
    rest = np.geomspace(dense, last, most - dense).round().astype(np.int64)
    return np.unique(np.concatenate([np.arange(dense), rest]))


def contours(landscape: Landscape) -> tuple[Drawing, Axes]:
    """Without a way: the lower, the darker."""
    drawing = style.figure(extra_height=0.7, x="x", y="y", step="step", value="value")
    plot = drawing.add_subplot()
    faint = np.linspace(0.85, 0.25, len(landscape.levels))
    plot.contour(
        landscape.x, landscape.y, landscape.value, levels=landscape.levels, colors=MUTED,
        alpha=faint, linewidths=0.7, zorder=1,
    )  # fmt: skip
    plot.plot(*landscape.minima.T, "*", markersize=8, color=INK, zorder=4)
    plot.set(xlabel="x", ylabel="y", xlim=landscape.x[[0, -1]], ylim=landscape.y[[0, -1]])
    plot.grid(False)
    return drawing, plot


def with_ways(landscape: Landscape, ways: Mapping[str, Way], looks: Mapping[str, Look]) -> Drawing:
    """A dot at each start, a mark at each end.

    Args:
        ways: of each optimizer.
    """
    drawing, plot = contours(landscape)
    ends = {}
    for name, look in looks.items():
        if name not in ways:
            continue
        points = ways[name].points
        steps = landscape.drawn(points)
        x, y = points[steps].T
        plot.plot(x, y, linewidth=1.3, zorder=3, **look.line())
        plot.plot(x[-1:], y[-1:], look.marker, zorder=5, **look.fill())
        plot.plot(x[:1], y[:1], "o", markersize=4, color=INK, zorder=6)
        value = values_at(landscape.function, points[steps])
        drawing.note(plot, x, y, look, optimizer=name, step=steps, value=value)
        ends[name] = float(np.clip(y[-1], *landscape.y[[0, -1]]))
    style.label_lines(plot, ends, looks)
    return drawing
