"""Every trial, to be sorted and filtered."""

from typing import Any

import pandas as pd

from bench.report import figures, page, style, text
from bench.report.contents import Contents, setting_names
from bench.report.page import Block, Gallery, Section
from bench.report.sections import words


def section(contents: Contents, gallery: Gallery) -> Section:
    gallery.csv(contents.study.runs, "runs")
    file = gallery.csv(contents.trials, "trials")
    trials = contents.trials
    scale = trials["metric"].map(text.scale)
    shown = trials.assign(
        validation=_rounded(scale * trials["score"], scale),
        sd=_rounded(scale * trials["std"], scale),
        test=_rounded(scale * trials["test"], scale),
        metric=trials["metric"].map(lambda metric: text.heading(text.name(metric), metric)),
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
        f"{words.floor(contents.lacking_chance)}. All rows and columns:",
        file=file,
        data=data,
    )
    return Section(
        anchor="trials",
        title="Every trial",
        short="Every trial",
        blocks=[Block(paragraphs=[lead], explorer=explorer)],
    )


def _rounded(values: pd.Series, scale: pd.Series) -> pd.Series:
    """Percent to four decimals, others to six significant digits."""
    significant = values.map(lambda value: float(f"{value:.6g}"))
    return values.round(4).where(scale == 100, significant)
