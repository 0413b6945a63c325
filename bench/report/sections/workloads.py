"""What holds over several workloads: profiles, aggregates, ranks."""

import numpy as np
import pandas as pd

from bench.analysis import tables
from bench.report import figures, page, text
from bench.report.contents import UNITS, Contents
from bench.report.page import Block, Column, Gallery, Panel, Section, View
from bench.report.sections import words

UP_TO = 4.0  # times the fastest, as in AlgoPerf


def section(contents: Contents, gallery: Gallery) -> Section | None:
    if not contents.compares_workloads:
        return None
    runs = contents.study.whole
    means = tables.interquartile_means(runs)
    ranks = tables.ranks(runs)
    if means.empty:
        return None
    rows = means.merge(ranks[["optimizer", "mean_rank"]], on="optimizer", how="left")
    scores = tables.profile_scores(runs, "steps")[["optimizer", "score"]]
    rows = rows.merge(scores, on="optimizer", how="left")
    file = gallery.csv(rows, "over_workloads")
    columns = [
        words.OPTIMIZER,
        Column(
            "interquartile mean",
            words.with_interval("normalised", "normalised_low", "normalised_high", "{:.3f}".format),
            rank="normalised",
        ),
        words.plain("mean_rank", "mean rank", rank="-mean_rank"),
        words.plain("score", "profile score, steps", _three_digits, rank="score"),
        words.plain("workloads", "workloads"),
        words.plain("runs", "runs"),
        *words.notes(rows),
    ]
    panels = [
        panel for panel in (_profiles(contents, gallery), _ranks(contents, gallery, ranks)) if panel
    ]
    table = page.table(
        rows.sort_values("optimizer", key=contents.place),
        columns,
        title="Tuned optimizers over all workloads",
        caption=f"Interquartile mean of test {_scores(contents)} over seeds and workloads, where 0 "
        f"is {words.floor(contents.lacking_chance)} and 1 the best optimizer of the workload, with "
        "a 95 % jackknife interval. Rank 1 is the best. Profile score: the area under "
        f"the performance profile up to {UP_TO:g} times the fastest, from 0 to 1.",
        file=file,
    )
    few = (
        f"{len(contents.workloads)} workloads are few: these numbers describe them, and promise "
        "little about others."
    )
    return Section(
        anchor="workloads",
        title="Over all workloads",
        short="All workloads",
        blocks=[
            Block(
                paragraphs=[few] if len(contents.workloads) < 10 else [],
                tables=[table],
                panels=panels,
            )
        ],
    )


def _profiles(contents: Contents, gallery: Gallery) -> Panel | None:
    views: list[View] = []
    for unit in UNITS:
        profile = tables.performance_profiles(contents.study.whole, unit, up_to=UP_TO)
        if profile.empty or profile["share"].isna().all():
            continue
        drawn = figures.profile(profile, looks=contents.looks, up_to=UP_TO)
        title = f"Performance profiles by {unit} to target"
        views.append(gallery.figure(drawn, f"profiles_by_{unit}", title=title, label=unit))
    if not views:
        return None
    return Panel(
        title="Performance profiles",
        caption="The share of workloads on which an optimizer reaches the target within so many "
        "times the fastest optimizer's time. Higher and further left is better.",
        views=views,
    )


def _ranks(contents: Contents, gallery: Gallery, ranks: pd.DataFrame) -> Panel | None:
    ranks = ranks.dropna(subset=["mean_rank"])
    if ranks.empty:
        return None
    numbers = sorted({group for groups in ranks["groups"] for group in groups})
    groups = [
        [str(row.optimizer) for row in ranks.itertuples() if number in row.groups]
        for number in numbers
    ]
    drawn = figures.ranks(
        dict(zip(ranks["optimizer"], ranks["mean_rank"], strict=True)),
        difference=float(ranks["difference"].iloc[0]),
        groups=[group for group in groups if len(group) > 1],
        looks=contents.looks,
    )
    p = ranks["p"].iloc[0]
    return Panel(
        title="Mean ranks",
        caption=f"By test {_scores(contents)}, a workload a block. A bar joins optimizers whose "
        "mean ranks differ by less than Nemenyi's critical difference at the 5 % level"
        + (f"; Friedman's p is {p:.3f}." if np.isfinite(p) else "."),
        views=[gallery.figure(drawn, "ranks", title="Mean ranks over workloads")],
    )


def _scores(contents: Contents) -> str:
    metric = contents.one_metric
    return "scores" if metric is None else text.name(metric)


def _three_digits(value: float) -> str:
    return text.NOTHING if text.missing(value) else f"{value:.3f}"
