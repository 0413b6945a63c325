"""The report's table in the terminal, and how good each learning rate was."""

import math
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.metrics import Metric
from bench.report import text
from bench.report.contents import Contents, setting_names
from bench.report.sections import summary, verdicts

MOST_COLUMNS = 2  # of settings, beside five others, in 80 characters
WIDEST = 64  # characters of all learning rates
WIDEST_BAR = 3  # of one
LONGEST_NAME = 20

# How far from the best: points of a fraction, else a share of the best. Each is a height.
DISTANCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, math.inf)
HEIGHTS = "█▇▆▅▄▃▁"
PLAIN_HEIGHTS = "#*+=-:."
DIVERGED = "x"


def show(contents: Contents, console: Console) -> None:
    """Prints the best setting of each optimizer, how its learning rates did, and what is to be
    noted."""
    console.print(Text(summary.headline(contents)))
    for workload in contents.workloads:
        best = _ranked(contents, workload)
        title = f"{workload}: each optimizer at its best setting by validation"
        console.print(Text(title, style="bold"))
        console.print(_fitting_table(contents, workload, best, console))
        if (plot := _plot(contents, workload, list(best["optimizer"]), console)) is not None:
            console.print(plot)
    for warning in summary.warnings(contents):
        console.print(Text(f"note: {warning}", style="yellow"))


def _ranked(contents: Contents, workload: str) -> pd.DataFrame:
    """The best by validation first, what has no score last."""
    best = contents.of(contents.best, workload)
    signed = contents.metric(workload).sign * best["score"]
    return best.loc[signed.sort_values(ascending=False, kind="stable").index]


def _fitting_table(
    contents: Contents, workload: str, best: pd.DataFrame, console: Console
) -> Table:
    """With as many of its columns as there is room for."""
    endless = console.options.update(width=1000)
    table = _table(contents, workload, best)
    for most in (2, 1):
        if console.measure(table, options=endless).maximum > console.width:
            table = _table(contents, workload, best, most=most)
    return table


def _table(contents: Contents, workload: str, best: pd.DataFrame, *, most: int = 4) -> Table:
    """
    Args:
        most: columns after the setting.
    """
    names = setting_names(contents.study)
    headings = names if len(names) <= MOST_COLUMNS else ["setting"]
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("optimizer", no_wrap=True)
    for heading in headings:
        table.add_column(Text(heading), justify="right", overflow="fold")
    metric = contents.metric(workload)
    scores = [(text.heading(split, metric), 12) for split in ("validation", "test")]
    for heading, width in (*scores, ("seeds", 5), ("diverged", 8))[:most]:
        table.add_column(Text(heading), justify="right", min_width=width)
    ahead = verdicts.clearly_best(contents, workload)
    for _, row in best.iterrows():
        values = [text.number(_known(row[name])) for name in names]
        if headings != names:
            values = ["\n".join(map("=".join, zip(names, values, strict=True)))]
        results = [
            text.spread(metric, _known(row["score"]), _known(row["std"])),
            text.spread(metric, _known(row["test"]), _known(row["test_std"])),
            str(row["seeds"]),
            f"{row['all_diverged']} of {row['runs']}",
        ]
        table.add_row(
            *map(Text, (row["optimizer"], *values, *results[:most])),
            style="bold" if row["optimizer"] == ahead else None,
        )
    return table


def _known(value: Any) -> Any:
    """Missing, where it is no finite number."""
    return math.nan if isinstance(value, float) and math.isinf(value) else value


def _plot(
    contents: Contents, workload: str, optimizers: list[str], console: Console
) -> Text | None:
    """The best score at each learning rate, a line of bars for each optimizer over one logarithmic
    axis; None where there are too few learning rates for a picture.

    A bar's height goes by the distance from the best of all, in steps of 1, 2, 5, ...: of a linear
    height, all but the worst would look alike.
    """
    metric = contents.metric(workload)
    rows = contents.of(contents.response, workload)
    rows = rows[(rows["lr"] > 0) & rows["score"].notna()]
    logs = np.log10(rows["lr"].astype(float))
    if logs.nunique() < 3:
        return None
    longest = min(LONGEST_NAME, max(map(len, optimizers)))
    room = max(10, min(WIDEST, console.width - longest - 4))
    low, decades = logs.min(), logs.max() - logs.min()
    column = ((logs - low) / decades * (room - WIDEST_BAR)).round().astype(int)
    width = int(np.clip(np.diff(np.unique(column)).min() - 1, 1, WIDEST_BAR))
    best = metric.sign * (metric.sign * rows["score"]).max()
    heights = HEIGHTS if _has_blocks(console) else PLAIN_HEIGHTS
    level = _levels(metric, rows["score"], best)
    level = level.mask(rows["share_diverged"] == 1, len(heights))
    plot, used = Text(), set()
    for optimizer in optimizers:
        own = (rows["optimizer"] == optimizer).to_numpy()
        line = [" "] * room
        at = level[own].groupby(column[own]).min()  # of draws in one place, the best
        for place, height in at.items():
            used.add(height)
            line[place : place + width] = (heights + DIVERGED)[height] * width
        name = Text(optimizer)
        name.truncate(longest, overflow="ellipsis", pad=True)
        bars = Text("".join(line).rstrip(), style=contents.looks[optimizer].dark)
        plot.append_text(Text.assemble(" ", name, "  ", bars, "\n"))
    plot.append(f" {'lr'.ljust(longest)}  {_axis(low, decades, room)}\n", style="dim")
    legend = Text(f"{_legend(metric, best, heights, sorted(used))}\n", style="dim")
    return Text.assemble(legend, plot)


def _levels(metric: Metric, scores: pd.Series, best: float) -> pd.Series:
    gap = (scores - best).abs()
    if metric.relative:
        gap = gap / abs(best) if best else gap.where(gap == 0, math.inf)
    return pd.Series(np.searchsorted(np.array(DISTANCES), gap - 1e-12), index=scores.index)


def _has_blocks(console: Console) -> bool:
    try:
        HEIGHTS.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _axis(low: float, decades: float, room: int) -> str:
    """Powers of ten below their places; where there is none, both ends."""
    powers = range(math.ceil(low - 1e-9), math.floor(low + decades + 1e-9) + 1)
    exponents: list[float] = [*powers] or [low, low + decades]
    line = ""
    for exponent in exponents:
        at = round((exponent - low) / decades * (room - WIDEST_BAR))
        if not line or at > len(line):
            line = line.ljust(at) + text.number(float(f"{10.0**exponent:.2g}"))
    return line


def _legend(metric: Metric, best: float, heights: str, used: list[int]) -> str:
    value = text.quantity(metric, text.value(metric, best))
    said = [f"{heights[0]} within 1 {'%' if metric.relative else 'point'} of the best ({value})"]
    for height in used:
        if height == len(heights):
            said.append(f"{DIVERGED} diverged")
        elif math.isinf(DISTANCES[height]):
            said.append(f"{heights[height]} further")
        elif height > 0:
            said.append(f"{heights[height]} {100 * DISTANCES[height]:g}")
    return f"validation {text.name(metric)} by learning rate: {', '.join(said)}"
