"""Every trial, to be sorted and filtered."""

from typing import Any

from bench.report import figures, page, style
from bench.report.contents import Contents, setting_names
from bench.report.page import Block, Gallery, Section


def section(contents: Contents, gallery: Gallery) -> Section:
    gallery.csv(contents.study.runs, "runs")
    file = gallery.csv(contents.trials, "trials")
    trials = contents.trials
    shown = trials.assign(
        validation=(100 * trials["score"]).round(4),
        sd=(100 * trials["std"]).round(4),
        test=(100 * trials["test"]).round(4),
    )
    columns: list[tuple[str, dict[str, Any]]] = []
    if len(contents.workloads) > 1:
        columns.append(("workload", {}))
    columns.append(("optimizer", {}))
    columns += [(name, {"title": figures.label(name)}) for name in setting_names(contents.study)]
    columns += [
        ("validation", {"title": "validation %", "digits": 2, "first": True}),
        ("sd", {"title": "± sd", "digits": 2}),
        ("test", {"title": "test %", "digits": 2}),
        ("seeds", {}),
        ("diverged", {}),
    ]
    columns += [(name, {}) for name in ("failed", "missing") if shown[name].any()]
    data = page.explorer_data(shown, columns, style.variables(contents.looks))
    lead = (
        "One row a setting. Sort by a heading; filter by words, and by comparisons such as "
        "lr<0.01 or diverged=0."
    )
    explorer = page.Explorer(
        caption="Means over seeds; a diverged run counts as chance. All rows and columns:",
        file=file,
        data=data,
    )
    return Section(
        anchor="trials",
        title="Every trial",
        short="Every trial",
        blocks=[Block(paragraphs=[lead], explorer=explorer)],
    )
