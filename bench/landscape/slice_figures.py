"""Slices of a loss as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import NDArray

from bench.metrics import Metric
from bench.report import style, text
from bench.report.figures import SPLITS, measured
from bench.report.style import INK, MUTED, Drawing

Array = NDArray[np.float64]

LOOKS: Mapping[str, dict[str, Any]] = {
    "train": {"color": "#0072b2"},
    "val": {"color": "#cf5200", "dashes": (4, 1.5)},
}
LEVELS = 14  # of contours
WIDEST_RANGE = 1e3  # of a loss above its least value, that colours tell apart


def lines(
    places: Array,
    values: Mapping[str, Array],
    metrics: Mapping[str, Metric],
    *,
    x: str,
    marked: Sequence[float],
) -> Drawing:
    """A panel for each metric, in each a line for each split.

    Args:
        metrics: by the name of what is measured.
        marked: places on the way where weights of a run are.
    """
    drawing = style.figure(x=x)
    drawing.set_size_inches(1.75 * style.WIDTH, style.HEIGHT)
    panels = drawing.subplots(1, len(metrics), squeeze=False)[0]
    for axes, (name, metric) in zip(panels, metrics.items(), strict=True):
        for split, look in LOOKS.items():
            if (own := values.get(f"{split}/{name}")) is not None:
                axes.plot(places, text.scale(metric) * own, label=SPLITS[split], **look)
        for place in marked:
            axes.axvline(place, color=MUTED, linewidth=0.8, dashes=(2, 2), zorder=1)
        axes.set(xlabel=x, ylabel=measured(metric, "train").removeprefix("training "))
        set_scale(axes, np.concatenate([v for n, v in values.items() if n.endswith(f"/{name}")]))
    if any(f"val/{name}" in values for name in metrics):
        panels[0].legend(fontsize=8, frameon=False)
    return drawing


def set_scale(axes: Axes, values: Array) -> None:
    """Logarithmic where a linear one would show nothing of the lower half."""
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() > 30 * known.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: text.number(float(value)))


def plane(places: Array, losses: Array, metric: Metric) -> Drawing:
    """Contours of the loss ``[Y, X]``; by colour, and by lines."""
    drawing = style.figure(extra_height=0.6)
    axes = drawing.add_subplot()
    known = losses[np.isfinite(losses)]
    low, high = float(known.min()), float(known.max())
    norm: Normalize = Normalize(low, high)
    levels = np.linspace(low, high, LEVELS)
    if low > 0 and high > 5 * low:
        high = min(high, WIDEST_RANGE * low)
        norm, levels = LogNorm(low, high), np.geomspace(low, high, LEVELS)
    shown = np.clip(np.where(np.isfinite(losses), losses, high), low, high)
    if high > low:
        filled = axes.contourf(
            places, places, shown, levels=levels, norm=norm, cmap="viridis_r", extend="max"
        )
        axes.contour(places, places, shown, levels=levels, colors=INK, linewidths=0.4)
        bar = drawing.colorbar(filled, ax=axes, label=measured(metric, "train"))
        bar.ax.yaxis.set_major_formatter(lambda value, _: text.number(float(value)))
        bar.ax.minorticks_off()
    axes.plot([0], [0], marker="x", color=INK, markersize=6)
    axes.grid(visible=False)
    axes.set(xlabel="first direction", ylabel="second direction", aspect="equal")
    return drawing
