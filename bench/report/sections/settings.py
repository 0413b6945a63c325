"""What else was varied, but not on purpose (`questions` has those): each setting alone and with the
learning rate; and how much each setting decides."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.analysis import importance, selection, tables
from bench.report import figures, page, text
from bench.report.contents import PAIR, Contents
from bench.report.page import Block, Column, Gallery, Panel, Section
from bench.report.sections import words

MOST_SETTINGS = 4  # more would be a page that nobody reads; the tables have them all
MOST_VALUES = 12  # of a setting alone, that a chart has room for


def section(contents: Contents, gallery: Gallery) -> Section | None:
    others = [name for name in contents.study.settings if name != "lr"]
    if not others:
        return None
    varied = tables.varied(contents.study.whole, contents.study.settings)
    elsewhere = set(zip(varied["workload"], varied["factor"], strict=True))
    blocks = []
    for workload in contents.workloads:
        runs = contents.study.whole
        runs = runs[runs["workload"] == workload]
        panels: list[Panel] = []
        rest = [name for name in others if (workload, name) not in elsewhere]
        for name in rest[:MOST_SETTINGS]:
            panels += alone(contents, gallery, runs, workload, name)
            panels += with_lr(contents, gallery, runs, workload, name)
        if panels:
            blocks.append(Block(heading=workload, panels=panels))
    shares = tables.importances(contents.study.whole, by=PAIR)
    shown = [*_interactions(contents, gallery, others), *_importances(contents, gallery, shares)]
    if not blocks and not shown:
        return None
    return Section(
        anchor="settings",
        title="Other settings",
        short="Other settings",
        blocks=[
            Block(paragraphs=["What else was varied, and how it acts with the learning rate."]),
            *blocks,
            Block(paragraphs=[said for said in [_untold(shares)] if said], tables=shown),
        ],
    )


def alone(
    contents: Contents, gallery: Gallery, runs: pd.DataFrame, workload: str, name: str
) -> Iterator[Panel]:
    known = runs[runs[name].notna()]
    if not 1 < known[name].nunique() <= MOST_VALUES:
        return
    table = tables.response(known, name=name, by=PAIR)
    if not (table["share_diverged"] < 1).any():
        return
    metric = contents.metric(workload)
    if pd.api.types.is_numeric_dtype(known[name]):
        best = contents.of(contents.best, workload).set_index("optimizer")
        chosen = best[name].to_dict()
        drawn = figures.response(
            table, name=name, metric=metric, looks=contents.looks, selected=chosen
        )
    else:
        drawn = figures.choices(table, name=name, metric=metric, looks=contents.looks)
    title = f"{workload}: validation {text.name(metric)} by {figures.label(name)}"
    yield Panel(
        title=figures.label(name).capitalize(),
        caption="The other settings at their best for each value; the spread is over seeds.",
        views=[gallery.figure(drawn, f"setting_{workload}_{name}", title=title)],
    )


def with_lr(
    contents: Contents, gallery: Gallery, runs: pd.DataFrame, workload: str, name: str
) -> Iterator[Panel]:
    if "lr" not in contents.study.settings:
        return
    cells = {}
    for optimizer in contents.looks:
        rows = runs[(runs["optimizer"] == optimizer) & runs[name].notna() & runs["lr"].notna()]
        if rows[name].nunique() > 1 and rows["lr"].nunique() > 1:
            cells[optimizer] = _cells(rows, name)
    if not cells:
        return
    scores = pd.concat(
        [table.loc[table["share_diverged"] < 1, "score"] for table in cells.values()]
    )
    scores = scores.dropna()
    if scores.empty:
        return
    # The worst third need not be told apart: what matters is the shape of the good region.
    metric = contents.metric(workload)
    worst = (metric.sign * scores).quantile(0.33 if len(scores) > 8 else 0)
    low, high = sorted((metric.sign * worst, metric.sign * (metric.sign * scores).max()))
    limits = float(low), float(high)
    for optimizer, table in cells.items():
        at_random = 2 * len(table) <= table["lr"].nunique() * table[name].nunique()
        if at_random and pd.api.types.is_numeric_dtype(table[name]):
            dots = figures.thinned(table, by="lr", metric=metric)
            drawn = figures.scatter(dots, x="lr", y=name, metric=metric, limits=limits)
            caption = f"A dot a trial{words.left_out(dots, table)}; "
            caption += f"{text.CROSS} where every run diverged."
        elif at_random:
            continue
        else:
            top = table.sort_values(
                "score", ascending=not metric.higher_is_better, kind="stable"
            ).iloc[0]
            drawn = figures.heat_map(
                table, x="lr", y=name, metric=metric, limits=limits, best=(top["lr"], top[name])
            )
            caption = (
                f"Mean over seeds, the best boxed; {text.CROSS} where every run diverged, * where "
                "some did."
            )
        title = f"{workload}: {optimizer}, learning rate and {figures.label(name)}"
        file = f"heatmap_{workload}_{optimizer}_lr_{name}"
        yield Panel(
            title=f"{optimizer}: learning rate and {figures.label(name)}",
            caption=f"{caption} All optimizers share the colour scale.",
            views=[gallery.figure(drawn, file, title=title)],
            optimizer=optimizer,
        )


def _cells(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The best trial for each learning rate and value of ``name``: ``lr, name, score, …``."""
    keys = ["lr", name]
    scored = runs.assign(score=selection.score(runs), lost=runs["status"] == "diverged")
    by_trial = scored.groupby([*keys, "trial"], as_index=False)["score"].mean()
    lost = scored.groupby(keys)["lost"].mean().rename("share_diverged")
    sign = selection.metric_of(runs).sign
    best = sign * (sign * by_trial["score"]).groupby([by_trial[key] for key in keys]).max()
    return best.to_frame().join(lost).reset_index()


def _interactions(contents: Contents, gallery: Gallery, others: list[str]) -> list[page.Table]:
    if "weight_decay" not in others:
        return []
    found = tables.interactions(contents.study.whole, by=PAIR)
    if found.empty:
        return []
    file = gallery.csv(found, "lr_weight_decay_interaction")
    columns = [
        *words.workload(contents),
        words.OPTIMIZER,
        Column(
            "within",
            lambda row: words.tolerance(row["delta"], contents.metric(row["workload"])),
        ),
        Column(
            "distance from a rectangle",
            words.with_interval("distance", "low", "high", "{:.2f}".format),
        ),
        Column("good settings", lambda row: f"{row['good']} of {row['cells']}"),
        *words.notes(found),
    ]
    return [
        page.table(
            found.sort_values("optimizer", key=contents.place, kind="stable").sort_values(
                ["workload", "delta"], kind="stable"
            ),
            columns,
            title="Do learning rate and weight decay have to be tuned together?",
            caption="How far the region within so much of the best is from a rectangle on "
            "the grid: 0 means that each can be tuned by itself. With a 95 % jackknife interval "
            "over seeds.",
            file=file,
        )
    ]


def _importances(contents: Contents, gallery: Gallery, found: pd.DataFrame) -> list[page.Table]:
    known = found[found["share"].notna()]
    if known.empty:
        return []
    file = gallery.csv(found, "importance")
    keys = [*PAIR, "hyperparameter"]
    wide = known.pivot_table(index=keys, columns="kind", values="share", sort=False).reset_index()
    wide = wide.reindex(columns=[*keys, "global", "local"])
    columns = [
        *words.workload(contents),
        words.OPTIMIZER,
        Column("setting", _setting, kind="word"),
        words.plain("global", "over all trials %", lambda share: text.percent(share, digits=0)),
        words.plain("local", "near the best %", lambda share: text.percent(share, digits=0)),
    ]
    return [
        page.table(
            wide,
            columns,
            title=f"How much of {words.the_score(contents.one_metric)} each number decides",
            caption=f"Shares of the variance of {words.score(contents.one_metric)} over all "
            "trials, and over the lines through the best trial. The two disagree where a setting "
            "decides whether training works at all, but little among those that do. "
            + _noted(contents, known[known["kind"] == "global"]),
            file=file,
        )
    ]


def _noted(contents: Contents, found: pd.DataFrame) -> str:
    """The notes of a table, each with whom it is of: ``sgd: 21% of trials at chance weigh in.``"""
    of: dict[str, dict[str, None]] = {}
    for row in found.itertuples():
        where = f" on {row.workload}" if len(contents.workloads) > 1 else ""
        if row.notes:
            of.setdefault(row.notes, {})[f"{row.optimizer}{where}"] = None
    return " ".join(f"{text.listed(list(names))}: {note}." for note, names in of.items())


def _untold(found: pd.DataFrame) -> str:
    """For which optimizers importances are left out."""
    none = found.groupby([*PAIR, "trials"])["share"].apply(lambda share: share.isna().all())
    fewest = sorted({trials for (_, _, trials), untold in none.items() if untold})
    if not fewest or fewest[-1] >= importance.FEWEST_DRAWN:
        return ""
    return (
        f"How much each number decides is not said of optimizers with fewer than "
        f"{importance.FEWEST_DRAWN} trials that were drawn: so few cannot tell."
    )


def _setting(row: dict[str, Any]) -> str:
    names = row["hyperparameter"].split(" x ")
    return f" {text.CROSS} ".join(map(figures.label, names))
