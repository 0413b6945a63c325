"""The figures: each function draws one, from a table, and decides nothing."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from bench.metrics import Metric
from bench.report import curves, text
from bench.report.style import (
    INK,
    LONGEST_WORDS,
    MUTED,
    Drawing,
    Look,
    figure,
    label_lines,
    words,
)

NEAR_ONE = (  # marks on the axis of a fraction, in percent
    (50, 80, 90, 95, 98, 99, 99.5, 99.9, 0),
    (20, 40, 60, 70, 85, *range(86, 99)),
    np.arange(85.5, 99.5, 0.5),
    np.arange(85, 100, 0.1),
)
MARKED = 15  # points of a line: in more, their marks would touch
MOST_DOTS = 1000  # of an optimizer in a figure: more would cover each other
BEST_DOTS = 100  # that are among them whatever else is
ERROR_FLOOR = 1e-4  # an error of zero has no logarithm
HEAT = "cividis"  # even in lightness, and the same to those who are colour-blind
WRITTEN_COLUMNS = 9  # of a heat map: in more, the numbers would not fit into their cells

LABELS = {
    "epoch": "epochs",
    "step": "optimizer steps",
    "seconds": "training time (s)",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "batch_size": "batch size",
    "init": "initialisation",
}
SPLITS = {"train": "training", "val": "validation", "test": "test"}


def label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def measured(metric: Metric, split: str = "val") -> str:
    """``validation loss (nats)``, as an axis has it; without a unit that the name says."""
    name, unit = text.name(metric), text.unit(metric)
    told = not unit or unit in name.split()
    return f"{SPLITS[split]} {name}" + ("" if told else f" ({unit})")


def _short(said: str) -> str:
    """In a few lines that are not longer than an axis."""
    return "\n".join(map(words, textwrap.wrap(said, LONGEST_WORDS, max_lines=3)))


def convergence(
    runs: Mapping[str, pd.DataFrame],
    *,
    x: str,
    y: str,
    metric: Metric,
    looks: Mapping[str, Look],
    target: float | None = None,
) -> Drawing | None:
    """A metric against epochs, steps or seconds: mean over seeds, with a band from least to most.

    Args:
        runs: for each optimizer, the logged rows of its runs, as ``study.read_curves`` gives them.
        y: ``metric`` on a split, such as ``val/loss``.
        target: a value of the metric to mark by a line.

    Returns:
        None when no curve has both columns.
    """
    bands = {name: curves.band(runs[name], x, y) for name in looks if name in runs}
    bands = {name: band for name, band in bands.items() if not band.empty}
    if not bands:
        return None
    drawing = figure(x=label(x), y=measured(metric, y.partition("/")[0]))
    axes = drawing.add_subplot()
    scale = text.scale(metric)
    for name, band in bands.items():
        spread = scale * band["min"], scale * band["max"]
        _curve(drawing, axes, name, looks[name], band["x"], scale * band["mean"], *spread)
    axes.set(xlabel=label(x), ylabel=_short(drawing.names["y"]))
    axes.set_xlim(left=0)
    if x == "epoch" and max(band["x"].max() for band in bands.values()) >= 3:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lowest = min(float(band["min"].min()) for band in bands.values())
    highest = max(float(band["max"].max()) for band in bands.values())
    _value_axis(axes, metric, lowest, highest)
    if target is not None and lowest < target < highest:
        axes.axhline(target * scale, color=MUTED, linewidth=0.9, dashes=(2, 2), zorder=1)
        axes.text(
            0.01,
            target * scale,
            f"target {target * scale:g}",
            transform=axes.get_yaxis_transform(),
            ha="left",
            va="bottom",
            fontsize=7.5,
            color=MUTED,
        )
    label_lines(
        axes, {name: float(band["mean"].iloc[-1]) * scale for name, band in bands.items()}, looks
    )
    return drawing


def response(
    table: pd.DataFrame,
    *,
    name: str,
    metric: Metric,
    looks: Mapping[str, Look],
    selected: Mapping[str, float],
    connected: bool = True,
) -> Drawing:
    """Final score against one hyperparameter, and below it where runs diverged.

    Args:
        table: ``analysis.tables.response`` of one workload.
        selected: each optimizer's selected value, which is ringed.
        connected: whether neighbours differ in this value only, so that a line means something.
    """
    lost = table[table["share_diverged"] > 0]
    troubled = [optimizer for optimizer in looks if optimizer in set(lost["optimizer"])]
    scale = text.scale(metric)
    drawing = figure(
        extra_height=0.12 * len(troubled) + (0.18 if troubled else 0),
        x=label(name),
        y=measured(metric),
        diverged="diverged, % of its runs",
    )
    if troubled:
        axes, strip = drawing.subplots(2, sharex=True, height_ratios=(1, 0.05 * len(troubled)))
        strip.set_xlabel(words(label(name)))
    else:
        axes = drawing.add_subplot()
        axes.set_xlabel(words(label(name)))
    _setting_axis(axes, table[name])
    shown = table[table["share_diverged"] < 1]
    if shown.empty:
        shown = table
    tops = {}
    for optimizer, look in looks.items():
        rows = shown[shown["optimizer"] == optimizer].sort_values(name)
        if rows.empty:
            continue
        score, low, high = (scale * rows[column] for column in ("score", "low", "high"))
        if connected:
            axes.plot(rows[name], score, marker=look.marker, **look.line())
            axes.fill_between(rows[name], low, high, alpha=0.16, linewidth=0, **look.fill())
        else:
            axes.plot(rows[name], score, look.marker, **look.fill())
        drawing.note(axes, rows[name], score, look, optimizer=optimizer, low=low, high=high)
        tops[optimizer] = scale * metric.sign * float((metric.sign * rows["score"]).max())
        ring = rows[np.isclose(rows[name], selected.get(optimizer, np.nan), rtol=1e-9)]
        axes.plot(
            ring[name],
            scale * ring["score"],
            "o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=look.colour,
            markeredgewidth=1.1,
            gid=look.gid,
        )
    if troubled:
        _divergence_strip(drawing, strip, lost, name, troubled, looks)
    axes.set_ylabel(_short(drawing.names["y"]))
    _value_axis(axes, metric, float(shown["low"].min()), float(shown["high"].max()))
    label_lines(axes, tops, looks)
    return drawing


def heat_map(
    cells: pd.DataFrame,
    *,
    x: str,
    y: str,
    metric: Metric,
    limits: tuple[float, float],
    best: tuple[Any, Any] | None,
) -> Drawing:
    """Mean score over a grid of two settings; a cross where every run diverged, a box at the best.

    Args:
        cells: a row a cell, with the columns ``x`` and ``y``, ``score`` and ``share_diverged``.
        limits: the lowest and the highest score of the colour scale, whose better end is the bright
            one; shared between maps to be compared.
    """
    columns, rows = (sorted(cells[name].unique()) for name in (x, y))
    drawing = figure(
        extra_height=max(0.0, 0.26 * (len(rows) - 8)),
        x=label(x),
        y=label(y),
        value=measured(metric),
        diverged="diverged, % of its runs",
    )
    axes = drawing.add_subplot()
    score = np.full((len(rows), len(columns)), np.nan)
    lost = np.zeros_like(score)
    for _, cell in cells.iterrows():
        place = rows.index(cell[y]), columns.index(cell[x])
        score[place], lost[place] = cell["score"], cell["share_diverged"]
    score[lost == 1] = np.nan
    scale = text.scale(metric)
    low, high = scale * limits[0], scale * limits[1]
    drawing.note(
        axes,
        cells[x].map(columns.index) + 0.5,
        cells[y].map(rows.index) + 0.5,
        x=cells[x],
        y=cells[y],
        value=(scale * cells["score"]).mask(cells["share_diverged"] == 1),
        diverged=_share_diverged(cells),
    )
    shades = _shades(metric)
    mesh = axes.pcolormesh(scale * score, cmap=shades, vmin=low, vmax=high, edgecolors="none")
    for row, column in np.ndindex(score.shape):
        middle = {"x": column + 0.5, "y": row + 0.5, "ha": "center", "va": "center"}
        value = float(score[row, column])
        if lost[row, column] == 1:
            axes.text(s=text.CROSS, color=MUTED, fontsize=11, **middle)
        elif np.isfinite(value) and len(columns) <= WRITTEN_COLUMNS:
            red, green, blue, _ = shades(
                (scale * value - low) / max(high - low, np.finfo(float).tiny)
            )
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            mark = "*" if lost[row, column] > 0 else ""
            colour = "#fefefe" if dark else "#101214"
            axes.text(
                s=f"{words(text.value(metric, value, digits=1))}{mark}",
                color=colour,
                fontsize=7,
                **middle,
            )
    if best is not None and best[0] in columns and best[1] in rows:
        corner = columns.index(best[0]), rows.index(best[1])
        axes.add_patch(mpl.patches.Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=2))
    named = range(0, len(columns), 1 + len(columns) // 12)
    slanted: dict[str, Any] = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(columns) > 7 else {}
    )
    values = [words(text.number(columns[i])) for i in named]
    axes.set_xticks([place + 0.5 for place in named], values, **slanted)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [words(text.number(row)) for row in rows])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel=words(label(x)), ylabel=words(label(y)))
    bar = drawing.colorbar(mesh, ax=axes, aspect=30, pad=0.02)
    bar.set_label(_short(drawing.names["value"]))
    bar.outline.set_visible(False)
    return drawing


def thinned(trials: pd.DataFrame, *, by: str, metric: Metric) -> pd.DataFrame:
    """Of trials, a dot each, what one optimizer's part of a figure has room for: the best, and of
    the others as many as fit, evenly spread over the values ``by`` which they are in order."""
    if len(trials) <= MOST_DOTS:
        return trials
    best = (metric.sign * trials["score"]).rank(method="first", ascending=False) <= BEST_DOTS
    others = curves.evenly(trials[~best].sort_values(by, kind="stable"), MOST_DOTS - BEST_DOTS)
    return pd.concat([trials[best], others]).sort_index()


def scatter(
    trials: pd.DataFrame, *, x: str, y: str, metric: Metric, limits: tuple[float, float]
) -> Drawing:
    """As ``heat_map`` where two settings were drawn at random: one dot a trial, the best on top."""
    drawing = figure(
        x=label(x), y=label(y), value=measured(metric), diverged="diverged, % of its runs"
    )
    axes = drawing.add_subplot()
    _setting_axis(axes, trials[x])  # first, so that the margins are the scale's own
    _setting_axis(axes, trials[y], vertical=True)
    lost = trials["share_diverged"] == 1
    axes.plot(trials.loc[lost, x], trials.loc[lost, y], "x", color=MUTED, markersize=4)
    kept = trials[~lost & trials["score"].notna()]
    kept = kept.sort_values("score", ascending=metric.higher_is_better)
    scale = text.scale(metric)
    for dotted in (trials[lost], kept):
        score = (scale * dotted["score"]).mask(dotted["share_diverged"] == 1)
        drawing.note(axes, dotted[x], dotted[y], value=score, diverged=_share_diverged(dotted))
    dots = axes.scatter(
        kept[x],
        kept[y],
        c=scale * kept["score"],
        cmap=_shades(metric),
        s=26,
        linewidths=0.4,
        edgecolors=MUTED,
        vmin=scale * limits[0],
        vmax=scale * limits[1],
    )
    axes.set(xlabel=words(label(x)), ylabel=words(label(y)))
    bar = drawing.colorbar(dots, ax=axes, aspect=30, pad=0.02)
    bar.set_label(_short(drawing.names["value"]))
    bar.outline.set_visible(False)
    return drawing


def choices(
    table: pd.DataFrame, *, name: str, metric: Metric, looks: Mapping[str, Look]
) -> Drawing:
    """Score for each value of a setting that is a word: a dot an optimizer, a bar over its seeds.

    Args:
        table: ``analysis.tables.response`` of one workload for ``name``.
    """
    values = ordered(table[name])
    present = [optimizer for optimizer in looks if optimizer in set(table["optimizer"])]
    drawing = figure(
        extra_height=max(0.0, 0.3 * (len(values) - 5)), x=label(name), y=measured(metric)
    )
    axes = drawing.add_subplot()
    shown = table[table["share_diverged"] < 1]
    scale = text.scale(metric)
    tops = {}
    for i, optimizer in enumerate(present):
        look = looks[optimizer]
        rows = shown[shown["optimizer"] == optimizer]
        offset = (len(present) - 1 - 2 * i) * min(0.09, 0.35 / max(len(present) - 1, 1))
        height = rows[name].map(values.index) + offset
        score, low, high = (scale * rows[column] for column in ("score", "low", "high"))
        axes.hlines(height, low, high, alpha=0.4, **look.fill())
        axes.plot(score, height, look.marker, **look.fill())
        told = {"x": rows[name], "y": score, "low": low, "high": high}
        drawing.note(axes, score, height, look, optimizer=optimizer, **told)
        tops[optimizer] = len(values) - 1 + offset
    axes.set_yticks(range(len(values)), map(words, values))
    axes.set_ylim(-0.5, len(values) - 0.5)
    axes.grid(axis="y", visible=False)
    axes.tick_params("y", length=0, labelcolor=INK)
    axes.set(xlabel=_short(drawing.names["y"]), ylabel=words(label(name)))
    label_lines(axes, tops, looks)
    return drawing


def ordered(values: pd.Series) -> list[Any]:
    """The distinct values of a setting that is a word, numbers among them by their size."""

    def place(value: Any) -> tuple[bool, float, str]:
        number = pd.to_numeric(str(value), errors="coerce")
        return bool(np.isnan(number)), 0.0 if np.isnan(number) else float(number), str(value)

    return sorted(values.unique(), key=place)


def worth(
    table: pd.DataFrame, *, name: str, metric: Metric, looks: Mapping[str, Look]
) -> Drawing | None:
    """What each value of a choice gains on test over the one that all are held to: a dot an
    optimizer, with its interval.

    Args:
        table: rows of ``analysis.tables.factors.factor_differences``, of one workload and factor.

    Returns:
        None where no difference is known.
    """
    table = table[table["difference"].notna()]
    if table.empty:
        return None
    values = ordered(table["x"])
    present = [optimizer for optimizer in looks if optimizer in set(table["group"])]
    unit = text.difference_unit(metric)
    said = f"test {text.name(metric)} less that of {table['y'].iloc[0]}"
    said += f" ({unit})" if unit else ""
    height = max(0.0, 0.3 * (len(values) - 5))
    drawing = figure(extra_height=height, x=label(name), y=said)
    axes = drawing.add_subplot()
    scale = text.scale(metric)
    tops = {}
    for i, optimizer in enumerate(present):
        look = looks[optimizer]
        rows = table[table["group"] == optimizer]
        offset = (len(present) - 1 - 2 * i) * min(0.09, 0.35 / max(len(present) - 1, 1))
        height = rows["x"].map(values.index) + offset
        gain, low, high = (scale * rows[column] for column in ("difference", "low", "high"))
        axes.hlines(height, low, high, alpha=0.4, **look.fill())
        axes.plot(gain, height, look.marker, **look.fill())
        told = {"x": rows["x"].map(str), "y": gain, "low": low, "high": high}
        drawing.note(axes, gain, height, look, optimizer=optimizer, **told)
        tops[optimizer] = len(values) - 1 + offset
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    axes.set_yticks(range(len(values)), map(words, values))
    axes.set_ylim(-0.5, len(values) - 0.5)
    axes.grid(axis="y", visible=False)
    axes.tick_params("y", length=0, labelcolor=INK)
    axes.set(xlabel=_short(said), ylabel=words(label(name)))
    label_lines(axes, tops, looks)
    return drawing


def best_rates(
    tables: Mapping[str, pd.DataFrame], *, name: str, looks: Mapping[str, Look]
) -> Drawing:
    """The best learning rate at each value of another number; hollow at an end of those tried.

    Args:
        tables: for each optimizer, ``analysis.tables.factors.best_rates``.
    """
    drawing = figure(x=label(name), y=f"best {label('lr')}")
    axes = drawing.add_subplot()
    _setting_axis(axes, pd.concat([table[name] for table in tables.values()]))
    _setting_axis(axes, pd.concat([table["lr"] for table in tables.values()]), vertical=True)
    ends = {}
    for optimizer, look in looks.items():
        if optimizer not in tables:
            continue
        rows = tables[optimizer]
        axes.plot(rows[name], rows["lr"], **look.line())
        for at, filled in ((rows["edge"].isna(), look.colour), (rows["edge"].notna(), "none")):
            axes.plot(
                rows.loc[at, name],
                rows.loc[at, "lr"],
                look.marker,
                markerfacecolor=filled,
                **look.fill(),
            )
        drawing.note(axes, rows[name], rows["lr"], look, optimizer=optimizer)
        ends[optimizer] = float(rows["lr"].iloc[-1])
    axes.set(xlabel=words(label(name)), ylabel=f"best {label('lr')}")
    label_lines(axes, ends, looks)
    return drawing


def differences(table: pd.DataFrame, *, metric: Metric, looks: Mapping[str, Look]) -> Drawing:
    """How far each optimizer's score differs, with its interval; no difference is marked.

    Args:
        table: a row an optimizer, with ``name, difference, low, high``.
    """
    unit = text.difference_unit(metric)
    said = f"difference in test {text.name(metric)}" + (f" ({unit})" if unit else "")
    drawing = figure(extra_height=-1.9 + 0.32 * len(table), x="difference", y=said)
    axes = drawing.add_subplot()
    scale = text.scale(metric)
    for place, row in enumerate(table.to_dict("records")):
        look, name = looks[row["name"]], row["name"]
        value, low, high = (scale * row[column] for column in ("difference", "low", "high"))
        axes.hlines(place, low, high, alpha=0.5, linewidth=2.4, **look.fill())
        axes.plot(value, place, look.marker, markersize=7, **look.fill())
        told = {"x": name, "y": [value], "low": [low], "high": [high]}
        drawing.note(axes, [value], [place], look, optimizer=name, **told)
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    axes.set_yticks(range(len(table)), map(words, table["name"]))
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.tick_params("y", length=0, labelcolor=INK)
    axes.set_xlabel(_short(said))
    return drawing


def budget(table: pd.DataFrame, *, metric: Metric, looks: Mapping[str, Look]) -> Drawing:
    """The expected score of the best of k trials: ``analysis.tables.expected_best``."""
    drawing = figure(x="trials", y=f"expected {measured(metric)}")
    axes = drawing.add_subplot()
    scale = text.scale(metric)
    ends = {}
    for optimizer, look in looks.items():
        rows = table[table["optimizer"] == optimizer].dropna(subset=["expected"])
        if rows.empty:
            continue
        columns = (scale * rows[column] for column in ("expected", "low", "high"))
        _curve(drawing, axes, optimizer, look, rows["k"], *columns)
        ends[optimizer] = scale * float(rows["expected"].iloc[-1])
    axes.set_ylabel(_short(drawing.names["y"]))
    _trial_axis(axes, table)
    _value_axis(axes, metric, table["expected"].min(), table["expected"].max())
    label_lines(axes, ends, looks)
    return drawing


def chance_of_best(table: pd.DataFrame, *, looks: Mapping[str, Look]) -> Drawing:
    """The chance to win with k trials each: ``analysis.tables.probability_best``."""
    drawing = figure(x="trials", y="probability of being best (%)")
    axes = drawing.add_subplot()
    ends = {}
    for optimizer, look in looks.items():
        rows = table[table["optimizer"] == optimizer]
        if rows.empty:
            continue
        _curve(drawing, axes, optimizer, look, rows["k"], 100 * rows["probability"])
        ends[optimizer] = 100 * float(rows["probability"].iloc[-1])
    axes.set_ylabel(drawing.names["y"])
    _trial_axis(axes, table)
    axes.set_ylim(-3, 103)
    label_lines(axes, ends, looks)
    return drawing


def profile(table: pd.DataFrame, *, looks: Mapping[str, Look], up_to: float) -> Drawing:
    """The share of workloads whose target is reached within a factor of the fastest optimizer.

    Args:
        table: rows with ``optimizer, tau, share``.
    """
    drawing = figure(x="time, as a multiple of the fastest", y="workloads at target (%)")
    axes = drawing.add_subplot()
    ends = {}
    for optimizer, look in looks.items():
        rows = table[table["optimizer"] == optimizer]
        if not rows.empty:
            axes.step(rows["tau"], 100 * rows["share"], where="post", **look.line())
            drawing.note(axes, rows["tau"], 100 * rows["share"], look, optimizer=optimizer)
            ends[optimizer] = 100 * float(rows["share"].iloc[-1])
    axes.set(xlabel=drawing.names["x"], ylabel=drawing.names["y"])
    axes.set_xlim(1, up_to)
    axes.set_ylim(-3, 103)
    label_lines(axes, ends, looks)
    return drawing


def ranks(
    mean_ranks: Mapping[str, float],
    *,
    difference: float,
    groups: Sequence[Sequence[str]],
    looks: Mapping[str, Look],
) -> Drawing:
    """Mean ranks over workloads, best on top; bars join those that do not differ."""
    order = sorted(mean_ranks, key=lambda name: mean_ranks[name])
    drawing = figure(extra_height=-2.0 + 0.26 * len(order), x="mean rank")
    axes = drawing.add_subplot()
    for place, name in enumerate(order):
        look = looks[name]
        axes.plot(mean_ranks[name], place, look.marker, markersize=7, **look.fill())
        drawing.note(axes, [mean_ranks[name]], [place], look, optimizer=name, y=None)
    for lane, members in enumerate(groups):
        places = [order.index(name) for name in members]
        at = len(order) + 0.35 + 0.18 * lane
        axes.plot([at] * 2, [min(places) - 0.2, max(places) + 0.2], color=INK, linewidth=2.4)
    axes.set_yticks(range(len(order)), map(words, order))
    for tick, name in zip(axes.get_yticklabels(), order, strict=True):
        tick.set(color=looks[name].colour, gid=looks[name].gid)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlim(0.7, len(order) + 0.5 + 0.18 * len(groups))
    axes.xaxis.set_major_locator(FixedLocator(range(1, len(order) + 1)))
    axes.tick_params("y", length=0)
    critical = "" if np.isnan(difference) else f"; critical difference {difference:.2f}"
    axes.set_xlabel(f"mean rank, 1 is best{critical}")
    return drawing


def _trial_axis(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_xlabel("trials")
    if table["k"].max() > 30:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _setting_axis(axes: Axes, values: pd.Series, *, vertical: bool = False) -> None:
    """A log scale for a setting that spans more than a decade; a 0 stands at its lower end."""
    axis, set_scale = (axes.yaxis, axes.set_yscale) if vertical else (axes.xaxis, axes.set_xscale)
    positive = values[values > 0]
    if positive.empty or (values < 0).any() or positive.max() < 10 * positive.min():
        return
    low, high = float(positive.min()), float(positive.max())
    if (values == 0).any():
        set_scale("symlog", linthresh=low, linscale=0.5)
    else:
        set_scale("log")
        _log_ticks(axis, low, high)


def _shades(metric: Metric) -> mpl.colors.Colormap:
    return mpl.colormaps[HEAT if metric.higher_is_better else f"{HEAT}_r"]


def _curve(
    drawing: Drawing,
    axes: Axes,
    name: str,
    look: Look,
    x: pd.Series,
    y: pd.Series,
    low: pd.Series | None = None,
    high: pd.Series | None = None,
) -> None:
    """An optimizer's line, with marks while they can be told apart, and its band."""
    axes.plot(x, y, marker=look.marker if len(x) <= MARKED else "", **look.line())
    if low is not None and high is not None:
        axes.fill_between(x, low, high, alpha=0.16, linewidth=0, **look.fill())
    drawing.note(axes, x, y, look, optimizer=name, low=low, high=high)


def _share_diverged(rows: pd.DataFrame) -> pd.Series:
    """In percent; none where there is nothing to tell."""
    return (100 * rows["share_diverged"]).where(rows["share_diverged"] > 0)


def _divergence_strip(
    drawing: Drawing,
    axes: Axes,
    lost: pd.DataFrame,
    name: str,
    optimizers: list[str],
    looks: Mapping[str, Look],
) -> None:
    """One row an optimizer: a cross where runs diverged, fainter where only some did."""
    for row, optimizer in enumerate(reversed(optimizers)):
        look, rows = looks[optimizer], lost[lost["optimizer"] == optimizer]
        for _, at in rows.iterrows():
            axes.plot(
                at[name],
                row,
                "x",
                markersize=4.5,
                markeredgewidth=1.5,
                alpha=0.3 + 0.7 * at["share_diverged"],
                **look.fill(),
            )
        share = _share_diverged(rows)
        drawing.note(
            axes, rows[name], [row] * len(rows), look, optimizer=optimizer, y=None, diverged=share
        )
    axes.set_ylim(-0.9, len(optimizers) - 0.1)
    axes.set_yticks([])
    axes.grid(False)
    axes.set_ylabel("diverged", rotation=0, ha="right", va="center", fontsize=8.5, color=MUTED)


def _value_axis(axes: Axes, metric: Metric, lowest: float, highest: float) -> None:
    """What should be small, and is positive, on a log scale; a fraction that should be large, and
    comes close to 1, by the logarithm of what is missing.

    On a linear axis 0.97 and 0.98 look alike, though one makes half as many errors again.
    """
    if not np.isfinite([lowest, highest]).all():
        return
    if not metric.higher_is_better and lowest > 0:
        scale = text.scale(metric)
        axes.set_yscale("log")
        _log_ticks(axes.yaxis, scale * lowest, scale * highest)
    if not metric.higher_is_better or metric.unit != "fraction":
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
    start, end = float(forward(low)), float(forward(high))
    margin = max(0.05 * (end - start), 0.01)
    start, end = start - margin, end + margin
    axes.set_ylim(float(inverse(start)), float(inverse(end)))
    kept: list[float] = []
    for marks in NEAR_ONE:  # finer ones only while there are few
        for mark in marks if len(kept) < 4 else ():
            place = float(forward(mark))
            clear = all(abs(place - float(forward(other))) > 0.09 * (end - start) for other in kept)
            if start <= place <= end and clear:
                kept.append(float(mark))
    axes.yaxis.set_major_locator(FixedLocator(kept))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _log_ticks(axis: Any, low: float, high: float) -> None:
    """Powers of ten; 2 and 5 between them, or unnamed marks, where there would be too few."""
    if high < 30 * low:
        narrow = high < 4 * low
        axis.set_major_locator(MaxNLocator(5) if narrow else LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    few_decades = 4 * low <= high < 3000 * low
    axis.set_minor_locator(LogLocator(subs=range(2, 10)) if few_decades else NullLocator())
    axis.set_minor_formatter(NullFormatter())
