"""Curves at the selected settings, and the time each takes to the workload's target."""

from typing import Any

import pandas as pd

from bench import study as studies
from bench.report import figures, page, text
from bench.report.contents import PAIR, UNITS, Contents
from bench.report.page import Column, Gallery, Group, Panel, Section
from bench.report.sections import words

METRICS = ("val/accuracy", "val/loss", "train/loss")
AXES = (("epoch", "epochs"), ("step", "steps"), ("seconds", "seconds"))


def section(contents: Contents, gallery: Gallery) -> Section | None:
    groups = [_curves(contents, gallery, workload) for workload in contents.workloads]
    groups = [group for group in groups if group.panels]
    if not groups:
        return None
    return Section(
        anchor="convergence",
        title="Convergence",
        short="Convergence",
        paragraphs=[
            "Each optimizer at its selected setting. Seconds are training time alone: evaluation, "
            "logging and compilation are left out."
        ],
        tables=_times(contents, gallery),
        groups=groups,
    )


def _curves(contents: Contents, gallery: Gallery, workload: str) -> Group:
    runs = contents.study.runs
    best = contents.best.loc[contents.best["workload"] == workload, [*PAIR, "trial"]].dropna()
    runs = runs[runs["status"] == "completed"].merge(best, on=[*PAIR, "trial"])
    curves = {}
    for optimizer, rows in runs.groupby("optimizer"):
        curves[str(optimizer)], problems = studies.read_curves(contents.study, rows)
        contents.problems += problems
    targets = runs["target/value"].dropna().unique() if "target/value" in runs else []
    panels = []
    for y in METRICS:
        target = float(targets[0]) if len(targets) == 1 and y == "val/accuracy" else None
        views = []
        for x, word in AXES:
            drawn = figures.convergence(curves, x=x, y=y, looks=contents.looks, target=target)
            if drawn is not None:
                name = f"convergence_{workload}_{y.replace('/', '_')}_by_{word}"
                title = f"{workload}: {figures.label(y)} against {figures.label(x)}"
                views.append(gallery.figure(drawn, name, title=title, label=word))
        if views:
            title = figures.label(y).partition(" (")[0].capitalize()
            panels.append(Panel(title=title, caption=_caption(runs), views=views))
    return Group(heading=workload, panels=panels)


def _caption(runs: pd.DataFrame) -> str:
    seeds = runs.groupby("optimizer")["seed"].nunique()
    if seeds.max() == 1:
        return "One seed each: how much of a difference is luck cannot be seen."
    numbers = text.number(seeds.min())
    if seeds.min() != seeds.max():
        numbers += f" to {text.number(seeds.max())}"
    return f"Mean over {numbers} seeds; the band spans all of them."


def _times(contents: Contents, gallery: Gallery) -> list[page.Table]:
    times = contents.times
    if times.empty:
        return []
    file = gallery.csv(times, "times_to_target")
    wide = times[times["unit"] == "epochs"].drop(columns=["time", "low", "high", "unit"])
    for unit in UNITS:
        rows = times.loc[times["unit"] == unit, [*PAIR, "time", "low", "high"]]
        names = {name: f"{unit}_{name}" for name in ("time", "low", "high")}
        wide = wide.merge(rows.rename(columns=names), on=list(PAIR), how="left")
    tables = []
    for workload in contents.workloads:
        rows = contents.of(wide, workload)
        if rows.empty:
            continue
        target = text.number(100 * rows["target"].max())
        columns = [
            words.OPTIMIZER,
            *(
                Column(unit, _time(unit), best=f"-{unit}_time")
                for unit in UNITS
                if rows[f"{unit}_time"].notna().any()
            ),
            Column("seeds that reach it", lambda row: f"{row['reached']} of {row['seeds']}"),
            Column("fastest setting", lambda row: row["trial"], kind="word"),
            *words.notes(rows),
        ]
        tables.append(
            page.table(
                rows,
                columns,
                title=f"{workload}: time to {target} % validation accuracy",
                caption="Median over seeds (from least to most) at the setting that gets there "
                "fastest, which need not be the one that ends best.",
                file=file,
            )
        )
    return tables


def _time(unit: str) -> Any:
    form = text.seconds if unit == "seconds" else text.number

    def show(row: dict[str, Any]) -> str:
        time, low, high = (row[f"{unit}_{name}"] for name in ("time", "low", "high"))
        if text.missing(time) or time == float("inf"):
            return "not reached"
        if low == high:
            return form(time)
        return f"{form(time)} ({form(low)} to {'never' if high == float('inf') else form(high)})"

    return show
