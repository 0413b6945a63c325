"""The figures: each function draws one, from tables, and decides nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from bench.report.style import MUTED, Look, figure, label_lines

CURVE_POINTS = 160  # more cannot be told apart at a column's width
ERROR_FLOOR = 1e-4  # an error of zero has no logarithm


AXIS_LABELS = {
    "epoch": "epochs",
    "step": "optimizer steps",
    "seconds": "training time (s)",
    "lr": "learning rate",
    "train/loss": "training loss (nats)",
    "val/loss": "validation loss (nats)",
    "val/accuracy": "validation accuracy (%)",
    "test/accuracy": "test accuracy (%)",
}


def convergence(
    curves: Mapping[str, pd.DataFrame], *, x: str, y: str, looks: Mapping[str, Look]
) -> Figure | None:
    """A metric against epochs, steps or seconds: mean over seeds, with a band from least to most.

    Args:
        curves: for each optimizer, the logged rows of its runs, as ``study.read_curves`` gives.

    Returns:
        None when no curve has both columns.
    """
    drawing = figure()
    axes = drawing.add_subplot()
    ends, lowest, highest = {}, [], []
    for name, look in looks.items():
        band = _band(curves.get(name, pd.DataFrame()), x, y)
        if band.empty:
            continue
        scale = 100 if y.endswith("accuracy") else 1
        marker = look.marker if len(band) <= 15 else ""
        axes.plot(band["x"], band["mean"] * scale, label=name, marker=marker, **look.line())
        axes.fill_between(
            band["x"], band["min"] * scale, band["max"] * scale, color=look.colour, alpha=0.15, lw=0
        )
        ends[name] = float(band["mean"].iloc[-1]) * scale
        lowest.append(float(band["min"].min()))
        highest.append(float(band["max"].max()))
    if not ends:
        return None
    axes.set(xlabel=AXIS_LABELS[x], ylabel=AXIS_LABELS[y])
    axes.set_xlim(left=0)
    _value_axis(axes, y, min(lowest), max(highest))
    label_lines(axes, ends, looks)
    return drawing


def lr_sensitivity(
    by_lr: pd.DataFrame, *, metric: str, looks: Mapping[str, Look], selected: Mapping[str, float]
) -> Figure:
    """Final metric against learning rate, and below it where runs diverged.

    Args:
        by_lr: rows with ``optimizer, lr, mean, min, max, diverged, runs``: the metric over the
            completed runs (missing where none completed), and how many of all runs diverged.
        selected: each optimizer's selected learning rate, which is ringed.
    """
    troubled = [name for name in looks if by_lr.loc[by_lr["optimizer"] == name, "diverged"].any()]
    drawing = figure(figsize=(4.8, 3.1 + 0.13 * len(troubled)))
    if troubled:
        axes, strip = drawing.subplots(
            2, sharex=True, height_ratios=(1, 0.06 + 0.05 * len(troubled))
        )
        _divergence_strip(strip, by_lr, troubled, looks)
        bottom = strip
    else:
        axes = bottom = drawing.add_subplot()
    scale = 100 if metric.endswith("accuracy") else 1
    ends = {}
    for name, look in looks.items():
        rows = by_lr[by_lr["optimizer"] == name].sort_values("lr")
        rows = rows[rows["mean"].notna()]
        if rows.empty:
            continue
        lr, mean = rows["lr"], rows["mean"] * scale
        axes.plot(lr, mean, marker=look.marker, label=name, **look.line())
        axes.fill_between(
            lr, rows["min"] * scale, rows["max"] * scale, color=look.colour, alpha=0.15, lw=0
        )
        ends[name] = float(mean.min() if metric.endswith("loss") else mean.max())
        ring = rows[np.isclose(rows["lr"], selected.get(name, np.nan), rtol=1e-9)]
        axes.plot(
            ring["lr"],
            ring["mean"] * scale,
            linestyle="none",
            marker="o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=look.colour,
            markeredgewidth=1.1,
        )
    axes.set_xscale("log")
    _log_ticks(axes)
    axes.set_ylabel(AXIS_LABELS.get(metric, metric))
    bottom.set_xlabel(AXIS_LABELS["lr"])
    shown = by_lr[by_lr["mean"].notna()]
    if not shown.empty:
        _value_axis(axes, metric, float(shown["min"].min()), float(shown["max"].max()))
        label_lines(axes, ends, looks)
    return drawing


def _divergence_strip(
    axes: Axes, by_lr: pd.DataFrame, names: list[str], looks: Mapping[str, Look]
) -> None:
    """One row an optimizer: a cross where runs diverged, fainter where only some did."""
    for row, name in enumerate(reversed(names)):
        rows = by_lr[(by_lr["optimizer"] == name) & (by_lr["diverged"] > 0)]
        for lr, share in zip(rows["lr"], rows["diverged"] / rows["runs"], strict=True):
            axes.plot(
                lr,
                row,
                marker="x",
                markersize=4.5,
                markeredgewidth=1.5,
                color=looks[name].colour,
                alpha=0.35 + 0.65 * share,
            )
    axes.set_ylim(-0.8, len(names) - 0.2)
    axes.set_yticks([])
    axes.grid(False)
    axes.set_ylabel("diverged", rotation=0, ha="right", va="center", fontsize=8, color=MUTED)


def _band(curves: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Mean, least and most over runs at each step that every run has logged."""
    if x not in curves or y not in curves:
        return pd.DataFrame()
    rows = curves.dropna(subset=[x, y])
    by_step = rows.groupby("step").agg(
        x=(x, "mean"), mean=(y, "mean"), min=(y, "min"), max=(y, "max"), runs=("run", "nunique")
    )
    by_step = by_step[by_step["runs"] == by_step["runs"].max()]
    if len(by_step) > CURVE_POINTS:
        parts = np.linspace(0, CURVE_POINTS, len(by_step), endpoint=False).astype(int)
        by_step = by_step.groupby(parts).agg(
            {"x": "mean", "mean": "mean", "min": "min", "max": "max"}
        )
    return by_step


def _value_axis(axes: Axes, metric: str, lowest: float, highest: float) -> None:
    """Losses on a log scale; accuracies that come close to 1 by the logarithm of the error.

    On a linear axis 0.97 and 0.98 look alike, though one makes half as many errors again.
    """
    if not metric.endswith("accuracy"):
        if lowest > 0:
            axes.set_yscale("log")
            _log_ticks(axes, y=True, low=lowest, high=highest)
        return
    low, high = 100 * lowest, min(100 * highest, 100 * (1 - ERROR_FLOOR))
    if highest < 0.85:
        margin = max(0.04 * (high - low), 0.2)
        axes.set_ylim(low - margin, high + margin)
        return

    def forward(percent: Any) -> Any:
        return -np.log10(np.maximum(1 - np.asarray(percent, dtype=float) / 100, ERROR_FLOOR))

    def inverse(value: Any) -> Any:
        return 100 * (1 - 10.0 ** -np.asarray(value, dtype=float))

    axes.set_yscale("function", functions=(forward, inverse))
    start, end = forward(low), forward(high)
    margin = max(0.05 * (end - start), 0.01)
    axes.set_ylim(inverse(start - margin), inverse(end + margin))
    marks = [0, 20, 40, 50, 60, 70, 80, 85, 90, 92, 94, 95, 96, 97, 98, 98.5, 99, 99.5, 99.8, 99.9]
    kept: list[float] = []
    for mark in sorted(marks, key=lambda mark: (mark not in (50, 80, 90, 95, 98, 99), mark)):
        place = (forward(mark) - start) / (end - start + 2 * margin)
        apart = all(abs(forward(mark) - forward(other)) > 0.075 * (end - start) for other in kept)
        if -0.06 <= place <= 1.06 and apart:
            kept.append(mark)
    axes.yaxis.set_major_locator(FixedLocator(kept))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _log_ticks(axes: Axes, *, y: bool = False, low: float = 0, high: float = 0) -> None:
    axis = axes.yaxis if y else axes.xaxis
    if y and high < 30 * low:  # a decade or so: powers of ten alone would leave one tick
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10))))
    axis.set_minor_formatter(NullFormatter())
