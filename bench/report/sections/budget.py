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
        "If k settings are drawn at random from those that were tried, and the best of them by "
        "validation is kept: what score to expect, and which optimizer is likely to win."
    ]
    if contents.expected["notes"].str.contains("given a grid").any():
        paragraphs.append(
            "The settings here are a grid, not random draws: the curves say what picking from this "
            "grid buys, and a grid that is centred on the good region flatters an optimizer."
        )
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
    chances = contents.of(contents.probability_best, workload)
    metric = contents.metric(workload)
    panels = []
    if not expected.empty:
        drawn = figures.budget(expected, metric=metric, looks=contents.looks)
        title = f"{workload}: expected best validation {text.name(metric)} after k trials"
        panels.append(
            Panel(
                title=f"Expected best {text.name(metric)}",
                caption="Each seed is one repetition of the search; the band is a 95 % interval of "
                "their mean. Drawn without replacement.",
                views=[gallery.figure(drawn, f"expected_best_{workload}", title=title)],
            )
        )
    if chances["optimizer"].nunique() > 1:
        drawn = figures.chance_of_best(chances, looks=contents.looks)
        title = f"{workload}: probability of being best after k trials each"
        panels.append(
            Panel(
                title="Probability of being best",
                caption="The chance that an optimizer's best of k random trials beats the best of "
                "k of every other, by validation.",
                views=[gallery.figure(drawn, f"probability_best_{workload}", title=title)],
            )
        )
    return panels


def _table(contents: Contents, workload: str, file: str) -> page.Table:
    expected = contents.of(contents.expected, workload)
    rows = expected.drop_duplicates("optimizer")
    metric = contents.metric(workload)
    show = partial(text.value, metric)
    sign = "" if metric.higher_is_better else "-"
    columns = [words.OPTIMIZER]
    for k in BUDGETS:
        at = expected.loc[expected["k"] == k, ["optimizer", "expected", "low", "high"]]
        if at.empty:
            break
        names = {name: f"{name}_{k}" for name in ("expected", "low", "high")}
        rows = rows.merge(at.rename(columns=names), on="optimizer", how="left")
        columns.append(
            words.plain(f"expected_{k}", text.count(k, "trial"), show, f"{sign}expected_{k}")
        )
    tunability = contents.of(contents.tunability, workload)
    for weighting in ("early", "late"):
        at = tunability.loc[tunability["weighting"] == weighting, ["optimizer", "value"]]
        rows = rows.merge(at.rename(columns={"value": weighting}), on="optimizer", how="left")
        columns.append(words.plain(weighting, f"{weighting} tunability", show, sign + weighting))
    columns.append(Column("trials", lambda row: text.number(row["trials"])))
    return page.table(
        rows,
        columns,
        title=f"Expected best {figures.measured(metric)} after k random trials",
        caption="Tunability is the mean of the whole curve up to the smallest number of trials of "
        "any optimizer, weighted towards its first trials (early) or its last (late).",
        file=file,
    )
