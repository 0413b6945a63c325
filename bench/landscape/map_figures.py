"""A map as two figures: the value at the end, and which minimum that is. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.patches import Patch
from numpy.typing import NDArray

from bench.landscape.axes import COORDINATES, DIVERGED, NOT_REACHED, Axis
from bench.report import figures, style, text
from bench.report.style import GRID, INK, PAPER, Drawing

FLOOR = 1e-12  # a value of 0 has no logarithm
NEAR_ONE = ((0, 0.5, 0.9, 0.99, 0.999, 0.9999), (0, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995))
IN_A_DECADE = ((1,), (1, 3), (1, 2, 5))
FEWEST_TICKS, MOST_TICKS = 3, 7
WORST = 0.98  # of the values, in their order: what is worse has the last colour
MINIMA = ("#0072b2", "#d08e00", "#009e73", "#c25f97", "#6f4fb3", "#45a9dc", "#8a5a2b", "#a3123a")
MOST_TOLD = 8  # minima


def draw(
    axes: tuple[Axis, Axis],
    value: NDArray[Any],
    minimum: NDArray[Any] | None,
    minima: NDArray[Any],
    *,
    title: str,
    directory: Path,
) -> list[Path]:
    """Writes ``value`` and, where it is known, ``minimum`` into a directory, as SVG, PDF and PNG.

    Args:
        value, minimum, minima: as `maps.Map` has them.
    """
    with mpl.rc_context(style.RC):
        drawings = {"value": values(axes, value, minima)}
        if minimum is not None:
            drawings["minimum"] = ends(axes, minimum, minima)
        for name, drawing in drawings.items():
            style.save(drawing, directory / name, title=f"{title}: {name}")
    return [directory / f"{name}.png" for name in drawings]


def values(axes: tuple[Axis, Axis], value: NDArray[Any], minima: NDArray[Any]) -> Drawing:
    drawing, plot = _empty(axes)
    known = value[np.isfinite(value)]
    shown = np.maximum(value, FLOOR)
    low, high = (max(float(np.quantile(known, q)), FLOOR) if known.size else 1 for q in (0, WORST))
    shades = mpl.colormaps[figures.HEAT].reversed()
    norm = LogNorm(low, max(high, low * 10))
    mesh = plot.pcolormesh(*_places(axes), shown, cmap=shades, norm=norm, rasterized=True)
    _mark(plot, axes, minima)
    beyond = known.size and known.max() > norm.vmax
    bar = drawing.colorbar(mesh, ax=plot, aspect=30, pad=0.02, extend="max" if beyond else None)
    bar.set_label("value at the end")
    bar.outline.set_visible(False)
    if known.size < value.size:
        _legend(plot, {f"diverged, {_share(~np.isfinite(value))}": PAPER})
    return drawing


def ends(axes: tuple[Axis, Axis], minimum: NDArray[Any], minima: NDArray[Any]) -> Drawing:
    drawing, plot = _empty(axes)
    colours = [MINIMA[i % len(MINIMA)] for i in range(len(minima))]
    shades = ListedColormap([PAPER, GRID, *colours])
    plot.pcolormesh(
        *_places(axes), minimum, cmap=shades, vmin=DIVERGED - 0.5, vmax=len(minima) - 0.5,
        rasterized=True,
    )  # fmt: skip
    _mark(plot, axes, minima)
    names = {DIVERGED: "diverged", NOT_REACHED: "none reached"}
    order = [*range(min(len(minima), MOST_TOLD)), NOT_REACHED, DIVERGED]
    told = {}
    for place in order:
        if (there := minimum == place).any():
            name = names.get(place) or said(minima[place])
            told[f"{name}, {_share(there)}"] = shades(place - DIVERGED)
    _legend(plot, told)
    return drawing


def said(point: NDArray[Any]) -> str:
    """``(3, 2)``; of a point with many coordinates the first two."""
    rest = ", …" if len(point) > 2 else ""
    return f"({', '.join(f'{x:.4g}' for x in point[:2])}{rest})"


def _share(where: NDArray[Any]) -> str:
    return f"{100 * where.mean():.3g} %"


def _empty(axes: tuple[Axis, Axis]) -> tuple[Drawing, Axes]:
    drawing = style.figure(extra_height=0.8)
    plot = drawing.add_subplot()
    if {axis.name for axis in axes} == {*COORDINATES}:
        plot.set_aspect("equal")
    for axis, side, name in zip(axes, (plot.xaxis, plot.yaxis), ("x", "y"), strict=True):
        start = axis.name in COORDINATES
        ticks = _ticks(axis)
        if ticks.size:
            side.set_ticks(axis.place(ticks), [text.number(tick) for tick in ticks])
        plot.set(**{f"{name}label": f"start, {axis.name}" if start else figures.label(axis.name)})
        plot.set(**{f"{name}lim": _edges(axis)[[0, -1]]})
    plot.grid(False)
    return drawing, plot


def _ticks(axis: Axis) -> NDArray[Any]:
    """Of a scale that matplotlib does not know: the coarsest that has enough of them, and every so
    many, where there are many."""
    low, high = axis.values[[0, -1]]
    if axis.scale == "linear":
        return np.empty(0)
    sets = [np.array(ticks) for ticks in NEAR_ONE]
    if axis.scale == "log":
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        sets = [np.outer(decades, steps).ravel() for steps in IN_A_DECADE]
    for ticks in sets:
        ticks = ticks[(ticks >= low * 0.999) & (ticks <= high * 1.001)]
        if len(ticks) >= FEWEST_TICKS:
            break
    return ticks[:: 1 + len(ticks) // (MOST_TICKS + 1)]


def _edges(axis: Axis) -> NDArray[Any]:
    """Between the values, where they are drawn, and half a step beyond."""
    places = axis.place(axis.values)
    between = (places[1:] + places[:-1]) / 2
    return np.concatenate([[2 * places[0] - between[0]], between, [2 * places[-1] - between[-1]]])


def _places(axes: tuple[Axis, Axis]) -> tuple[NDArray[Any], NDArray[Any]]:
    return _edges(axes[0]), _edges(axes[1])


def _mark(plot: Axes, axes: tuple[Axis, Axis], minima: NDArray[Any]) -> None:
    """The minima, on a map over starts."""
    if [axis.name for axis in axes] == [*COORDINATES]:
        plot.plot(*minima.T, "*", markersize=9, color=PAPER, markeredgecolor=INK)


def _legend(plot: Axes, named: dict[str, Any]) -> None:
    patches = [Patch(facecolor=colour, edgecolor=INK, label=name) for name, colour in named.items()]
    columns = 1 if len(patches) == 1 else 2
    plot.legend(
        handles=patches, loc="lower center", bbox_to_anchor=(0.5, 1.01), ncols=columns,
        frameon=False, fontsize=8.5, handlelength=1.1, columnspacing=1.2,
    )  # fmt: skip
