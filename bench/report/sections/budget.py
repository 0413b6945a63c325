"""What a budget of k trials buys."""

from functools import partial

from bench.report import figures, page, text
from bench.report.contents import Contents
from bench.report.page import Block, Column, Gallery, Panel, Section
from bench.report.sections import words

BUDGETS = (1, 2, 4, 8, 16, 32, 64)


def section(contents: Contents, gallery: Gallery) -> Section | None:
    if contents.expected.empty or contents.expected["trials"].max() < 2:
        return None
    expected = gallery.csv(contents.expected, "expected_best")
    gallery.csv(contents.probability_best, "probability_best")
    gallery.csv(contents.tunability, "tunability")
    paragraphs = [
        "If k settings are drawn at random, and the best of them by validation is kept: what score "
        "to expect. Only settings that were drawn at random can answer; the interval speaks of "
        "other draws from the same priors, and ends where so few trials stop telling."
    ]
    return Section(
        anchor="budget",
        title="What tuning buys",
        short="Tuning budget",
        blocks=[
            Block(paragraphs=paragraphs),
            *(
                Block(
                    heading=workload,
                    panels=_panels(contents, gallery, workload),
                    tables=[_table(contents, workload, expected)],
                )
                for workload in contents.workloads
            ),
        ],
    )


def _panels(contents: Contents, gallery: Gallery, workload: str) -> list[Panel]:
    expected = contents.of(contents.expected, workload)
    metric = contents.metric(workload)
    panels = []
    if not expected.empty:
        drawn = figures.budget(expected, metric=metric, looks=contents.looks)
        title = f"{workload}: expected best validation {text.name(metric)} after k trials"
        panels.append(
            Panel(
                title=f"Expected best {text.name(metric)}",
                caption="Each seed is one repetition of the search. The band is a 90 % interval "
                "for other draws of the trials; beyond it the curve says what these draws gave.",
                views=[gallery.figure(drawn, f"expected_best_{workload}", title=title)],
            )
        )
    return panels


def _table(contents: Contents, workload: str, file: str) -> page.Table:
    expected = contents.of(contents.expected, workload)
    rows = expected.drop_duplicates("optimizer")
    metric = contents.metric(workload)
    show = partial(text.value, metric)
    columns = [words.OPTIMIZER]
    for k in BUDGETS:
        at = expected.loc[expected["k"] == k, ["optimizer", "expected", "low", "high"]]
        if at.empty or (at["low"].isna().all() and k > 1):
            break
        names = {name: f"{name}_{k}" for name in ("expected", "low", "high")}
        rows = rows.merge(at.rename(columns=names), on="optimizer", how="left", suffixes=("_", ""))
        cell = words.with_interval(f"expected_{k}", f"low_{k}", f"high_{k}", show)
        columns.append(Column(text.count(k, "trial"), cell))
    columns.append(Column("trials drawn", lambda row: text.number(row["trials"])))
    return page.table(
        rows,
        [*columns, *words.notes(rows)],
        title=f"Expected best {figures.measured(metric)} after k drawn trials",
        caption="With a 90 % interval for other draws of the trials.",
        file=file,
    )
