"""How much the learning rate matters."""

import pandas as pd

from bench.metrics import Metric
from bench.report import figures, page, text
from bench.report.contents import DELTAS, PAIR, Contents
from bench.report.page import Block, Column, Gallery, Panel, Section
from bench.report.sections import words


def section(contents: Contents, gallery: Gallery) -> Section | None:
    if contents.response.empty:
        return None
    gallery.csv(contents.response, "lr_response")
    return Section(
        anchor="sensitivity",
        title="Sensitivity to the learning rate",
        short="Learning rate",
        blocks=[
            Block(
                paragraphs=[
                    "A wide top is an optimizer that forgives a learning rate that was not tuned; "
                    "a narrow one has to be searched for."
                ],
                panels=[_panel(contents, gallery, workload) for workload in contents.workloads],
            ),
            Block(tables=[] if contents.sensitivity.empty else [_widths(contents, gallery)]),
        ],
    )


def _panel(contents: Contents, gallery: Gallery, workload: str) -> Panel:
    metric = contents.metric(workload)
    at_random = words.at_random(contents, workload)
    best = contents.of(contents.best, workload).set_index("optimizer")
    response = contents.of(contents.response, workload)
    table = response
    if at_random:
        by_optimizer = [rows for _, rows in response.groupby("optimizer", sort=False)]
        table = pd.concat([figures.thinned(rows, by="lr", metric=metric) for rows in by_optimizer])
    drawn = figures.response(
        table,
        name="lr",
        metric=metric,
        looks=contents.looks,
        selected=best["lr"].to_dict(),
        connected=not at_random,
    )
    title = f"{workload}: final validation {text.name(metric)} against learning rate"
    others = [figures.label(name) for name in contents.study.settings if name != "lr"]
    rest = f", {text.listed(others)} at their best" if others else ""
    shown = (
        f"A mark a trial{words.left_out(table, response)}; the other settings differ too"
        if at_random
        else f"Mean over seeds{rest}; the band spans all of them"
    )
    name = figures.measured(metric).partition(" (")[0].capitalize()
    several = len(contents.workloads) > 1
    return Panel(
        title=f"{name} against learning rate" + (f", {workload}" if several else ""),
        caption=f"{shown}. The ring is the selected value. A diverged run counts as "
        f"{words.floor(metric)}; {text.CROSS} marks where runs diverged, fainter where only "
        "some did.",
        views=[gallery.figure(drawn, f"lr_sensitivity_{workload}", title=title)],
    )


def _near(metric: Metric | None) -> str:
    if metric is None:
        return "so many points of a fraction, or percent of another metric's value, of"
    if metric.relative:
        return f"so many percent of {text.name(metric)} of"
    return f"so many points of {text.name(metric)} of"


def _widths(contents: Contents, gallery: Gallery) -> page.Table:
    table = contents.sensitivity
    file = gallery.csv(table, "lr_sensitivity")
    shown = table[table["delta"] == DELTAS[0]]
    metric = contents.one_metric
    columns = [*words.workload(contents), words.OPTIMIZER]
    for delta in DELTAS:
        name = f"within_{delta}"
        rows = table[table["delta"] == delta]
        said = [words.width(row) for row in rows.to_dict("records")]
        shown = shown.merge(rows[list(PAIR)].assign(**{name: said}), on=list(PAIR), how="left")
        columns.append(words.plain(name, f"decades within {words.tolerance(delta, metric)}", str))
    shown = pd.concat([contents.of(shown, workload) for workload in contents.workloads])
    columns += [
        Column(
            f"from, to (within {words.tolerance(DELTAS[0], metric)})",
            lambda row: text.interval(row["low"], row["high"]),
        ),
        words.plain("share_diverged", "diverged %", lambda share: text.percent(share, digits=0)),
        *words.notes(shown),
    ]
    return page.table(
        shown,
        columns,
        title="How wide the region of good learning rates is",
        caption=f"Decades within {_near(metric)} the optimizer's own best, with a "
        "95 % jackknife interval over seeds; ≥ where the region reaches the end of the values "
        "tried, so that its width is a lower bound.",
        file=file,
        by="width",
    )
