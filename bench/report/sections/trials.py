"""Every trial, to be sorted and filtered."""

from typing import Any

import pandas as pd

from bench.analysis import selection
from bench.report import figures, page, style, text
from bench.report.contents import PAIR, Contents, setting_names
from bench.report.page import Block, Gallery, Section
from bench.report.sections import words

MOST_ROWS = 2000  # of a page that opens at once; the tables beside it have all


def section(contents: Contents, gallery: Gallery) -> Section:
    gallery.csv(contents.study.runs, "runs")
    file = gallery.csv(contents.trials, "trials")
    trials = contents.trials
    shown = _best_of_each(trials)
    cut = len(shown) < len(trials)
    scale = shown["metric"].map(text.scale)
    shown = shown.assign(
        validation=_rounded(scale * shown["score"], scale),
        sd=_rounded(scale * shown["std"], scale),
        test=_rounded(scale * shown["test"], scale),
        metric=shown["metric"].map(lambda metric: text.heading(text.name(metric), metric)),
    )
    metric = contents.one_metric
    titles = [s if metric is None else text.heading(s, metric) for s in ("validation", "test")]
    digits = {"digits": 2} if metric is not None and not metric.relative else {}
    columns: list[tuple[str, dict[str, Any]]] = []
    if len(contents.workloads) > 1:
        columns.append(("workload", {}))
    columns.append(("optimizer", {}))
    if metric is None:
        columns.append(("metric", {}))
    columns += [(name, {"title": figures.label(name)}) for name in setting_names(contents.study)]
    columns += [
        ("validation", {"title": titles[0], "first": True} | digits),
        ("sd", {"title": "± sd"} | digits),
        ("test", {"title": titles[1]} | digits),
        ("seeds", {}),
        ("diverged", {}),
    ]
    columns += [(name, {}) for name in ("failed", "missing") if shown[name].any()]
    data = page.explorer_data(shown, columns, style.places(contents.looks))
    lead = (
        "One row a setting. Sort by a heading; filter by words and comparisons, such as "
        "optimizer = adam or momentum, lr < 0.01. All must hold; 'or' joins "
        "what stands beside it."
    )
    explorer = page.Explorer(
        caption="Means over seeds; a diverged run counts as "
        f"{words.floor(contents.lacking_chance)}. "
        + (f"Here are the {len(shown):,} best of {len(trials):,} settings. " if cut else "")
        + "All rows and columns:",
        file=file,
        data=data,
    )
    return Section(
        anchor="trials",
        title="The best trials" if cut else "Every trial",
        short="Trials" if cut else "Every trial",
        blocks=[Block(paragraphs=[lead], explorer=explorer)],
    )


def _best_of_each(trials: pd.DataFrame) -> pd.DataFrame:
    """As many as a page holds: of each optimizer on each workload the best by validation."""
    if len(trials) <= MOST_ROWS:
        return trials
    rank = (
        (selection.signs(trials) * trials["score"])
        .groupby([trials[key] for key in PAIR])
        .rank(method="first", ascending=False, na_option="bottom")
    )
    return trials.loc[rank.sort_values(kind="stable").index[:MOST_ROWS]].sort_index()


def _rounded(values: pd.Series, scale: pd.Series) -> pd.Series:
    """Percent to four decimals, others to six significant digits."""
    significant = values.map(lambda value: float(f"{value:.6g}"))
    return values.round(4).where(scale == 100, significant)
