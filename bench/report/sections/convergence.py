"""Curves at the selected settings, and the time each takes to the workload's target."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from bench.report import curves, figures, page, text
from bench.report.contents import PAIR, UNITS, Contents, setting_names
from bench.report.page import Block, Column, Gallery, Panel, Section
from bench.report.sections import words

AXES = (("epoch", "epochs"), ("step", "steps"), ("seconds", "seconds"))


def section(contents: Contents, gallery: Gallery) -> Section | None:
    blocks = [_of_workload(contents, gallery, workload) for workload in contents.workloads]
    blocks = [block for block in blocks if block.panels or block.tables]
    if not blocks:
        return None
    lead = Block(
        paragraphs=[
            "Each optimizer at its selected setting. Seconds are training time alone: evaluation, "
            "logging and compilation are left out."
        ]
    )
    return Section(
        anchor="convergence",
        title="Convergence",
        short="Convergence",
        blocks=[lead, *blocks],
    )


def _of_workload(contents: Contents, gallery: Gallery, workload: str) -> Block:
    runs = contents.study.runs
    best = contents.best.loc[contents.best["workload"] == workload, [*PAIR, "trial"]].dropna()
    runs = runs[runs["status"] == "completed"].merge(best, on=[*PAIR, "trial"])
    logged = contents.curves.get(workload, {})
    targets = runs["target/value"].dropna().unique() if "target/value" in runs else []
    panels = []
    selects = f"val/{contents.metric(workload).name}"
    for y, metric in contents.curve_metrics(workload).items():
        name_of_y = figures.measured(metric, y.partition("/")[0])
        target = float(targets[0]) if len(targets) == 1 and y == selects else None
        views = []
        for x, word in AXES:
            drawn = figures.convergence(
                logged, x=x, y=y, metric=metric, looks=contents.looks, target=target
            )
            if drawn is not None:
                name = f"convergence_{workload}_{y.replace('/', '_')}_by_{word}"
                title = f"{workload}: {name_of_y} against {figures.label(x)}"
                views.append(gallery.figure(drawn, name, title=title, label=word))
        if views:
            title = name_of_y.partition(" (")[0].capitalize()
            title += f", {workload}" if len(contents.workloads) > 1 else ""
            panels.append(Panel(title=title, caption=_caption(runs), views=views))
    return Block(heading=workload, panels=panels, tables=_times(contents, gallery, workload))


def _caption(runs: pd.DataFrame) -> str:
    seeds = runs.groupby("optimizer")["seed"].nunique()
    if seeds.max() == 1:
        return "One seed each: how much of a difference is luck cannot be seen."
    if (many := runs.groupby("optimizer").size().max()) > curves.MOST_RUNS:
        few = f"{curves.MOST_RUNS} of up to {text.number(many)} runs, evenly spread"
        return f"Mean over {few}; the band spans these."
    numbers = text.number(seeds.min())
    if seeds.min() != seeds.max():
        numbers += f" to {text.number(seeds.max())}"
    return f"Mean over {numbers} seeds; the band spans all of them."


def _times(contents: Contents, gallery: Gallery, workload: str) -> list[page.Table]:
    times = contents.of(contents.times, workload)
    if not (times["reached"] > 0).any():
        return []
    file = gallery.csv(contents.times, "times_to_target")
    rows = times[times["unit"] == "epochs"].drop(columns=["time", "low", "high", "unit"])
    for unit in UNITS:
        of_unit = times.loc[times["unit"] == unit, ["optimizer", "time", "low", "high"]]
        names = {name: f"{unit}_{name}" for name in ("time", "low", "high")}
        rows = rows.merge(of_unit.rename(columns=names), on="optimizer", how="left")
    rows = rows.merge(contents.trials[[*PAIR, "trial", *setting_names(contents.study)]], how="left")
    of_seconds = times.loc[times["unit"] == "seconds", ["optimizer", "notes"]]  # and of stacks
    rows = rows.drop(columns="notes").merge(of_seconds, on="optimizer", how="left")
    rows["notes"] = rows["notes"].mask(rows["reached"] == 0, "")
    columns = [
        words.OPTIMIZER,
        *(_time(unit) for unit in UNITS),
        Column("seeds that reach it", lambda row: f"{row['reached']} of {row['seeds']}"),
        Column("fastest setting", _setting(contents), kind="word"),
        *words.notes(rows),
    ]
    return [
        page.table(
            rows,
            columns,
            title=f"Time to {words.target(contents.metric(workload), rows)}",
            caption="Median over seeds (from least to most) at the setting that gets there "
            "fastest, which need not be the one that ends best. Seconds compare only between runs "
            "that were made alike.",
            file=file,
        )
    ]


def _setting(contents: Contents) -> Callable[[dict[str, Any]], str]:
    return lambda row: words.setting(contents, row) if row["reached"] else text.NOTHING


def _time(unit: str) -> Column:
    form = text.seconds if unit == "seconds" else text.number
    names = (f"{unit}_{name}" for name in ("time", "low", "high"))
    return Column(unit, words.time_to_target(form, *names), rank=f"-{unit}_time")
