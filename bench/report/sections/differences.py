"""What differs between studies that are set against each other: results, then configurations."""

from itertools import product
from typing import Any

import pandas as pd

from bench.analysis.tables.differences import CLEAR
from bench.metrics import Metric
from bench.report import figures, page, text
from bench.report.contents import Contents
from bench.report.joined import Joined, named
from bench.report.page import Block, Column, Gallery, Panel, Section
from bench.report.sections import words
from bench.settings.identity import NEUTRAL
from bench.study import Study

NEVER = "varied"
NOT_COMPARED = (*NEUTRAL, "workload.name", "optimizer.name", "experiment")


def section(contents: Contents, gallery: Gallery) -> Section | None:
    study = contents.study
    if not isinstance(study, Joined):
        return None
    found = table(contents)
    blocks = []
    if not found.empty:
        file = gallery.csv(found, "between_studies")
        panels = [
            _panel(contents, gallery, found[found["workload"] == workload], str(workload))
            for workload in found["workload"].unique()
        ]
        blocks.append(Block(tables=[_results(contents, found, file)], panels=panels))
    configurations = _configurations(study.parts)
    if configurations.empty:
        blocks.append(Block(paragraphs=["Their configurations and environments agree."]))
    else:
        blocks.append(Block(tables=[_settings(configurations, study.parts, gallery)]))
    return Section(anchor="differences", title="What differs", short="What differs", blocks=blocks)


def headline(contents: Contents) -> str:
    """Whether any optimizer's result differs, by the one correction that the report has."""
    found = table(contents)
    if found.empty:
        return ""
    clear = found[found["p"] < CLEAR]
    if clear.empty:
        names = list(dict.fromkeys(found["optimizer"]))
        parts = text.listed(list(dict.fromkeys([*found["against"], *found["study"]])))
        if found["p"].isna().all():
            return f"{parts} cannot be compared: {found['why_not'].iloc[0]}."
        return f"What {text.listed(names)} reached in {parts} cannot be told apart."
    said = []
    for row in clear.to_dict("records"):
        metric = contents.metric(row["workload"])
        better = metric.sign * row["difference"] > 0
        where = f" on {row['workload']}" if len(contents.workloads) > 1 else ""
        size = text.difference(metric, abs(row["difference"]))
        said.append(
            f"{row['optimizer']} does {'better' if better else 'worse'} in {row['study']} than in "
            f"{row['against']}{where}, by {size} {text.difference_unit(metric)}".rstrip()
        )
    return f"{'; '.join(said)}."


def table(contents: Contents) -> pd.DataFrame:
    """Test scores at the best setting of each optimizer in each study, less those in the first, as
    ``contents.differences`` has them."""
    study, rows = contents.study, []
    assert isinstance(study, Joined)
    first, *others = study.parts
    best = contents.best.set_index(["workload", "optimizer"])
    compared = contents.differences[contents.differences["quantity"] == "test"]
    known = {(row["workload"], row["x"], row["y"]): row for row in compared.to_dict("records")}
    for workload, optimizer, other in product(
        contents.workloads, dict.fromkeys(study.parts[first].runs["optimizer"]), others
    ):
        new, old = named(optimizer, other), named(optimizer, first)
        row, sign = known.get((workload, new, old)), 1
        if row is None:
            row, sign = known.get((workload, old, new)), -1
        if row is None:
            continue
        before, after = best.loc[(workload, old)], best.loc[(workload, new)]
        rows.append(
            {
                "workload": workload,
                "optimizer": optimizer,
                "study": other,
                "against": first,
                "difference": sign * row["difference"],
                "low": min(sign * row["low"], sign * row["high"]),
                "high": max(sign * row["low"], sign * row["high"]),
                "p": row["p_holm"],
                "seeds": row["pairs"],
                "why_not": row["why_not"],
                "before": before["test"],
                "after": after["test"],
                "before_setting": words.setting(contents, before),
                "after_setting": words.setting(contents, after),
            }
        )
    return pd.DataFrame(rows)


def _results(contents: Contents, found: pd.DataFrame, file: str) -> page.Table:
    def form(row: dict[str, Any], name: str) -> str:
        metric = contents.metric(row["workload"])
        return text.quantity(metric, text.value(metric, row[name]))

    def difference(row: dict[str, Any]) -> str:
        metric = contents.metric(row["workload"])

        def signed(value: float) -> str:
            return ("" if value < 0 else "+") + text.difference(metric, value)

        said = words.with_interval("difference", "low", "high", signed)(row)
        return f"{said} {text.difference_unit(metric)}".rstrip()

    any_not = found["why_not"].fillna("").ne("").any()
    columns = [
        *words.workload(contents),
        Column("optimizer", lambda row: named(row["optimizer"], row["study"]), kind="optimizer"),
        Column("at", lambda row: row["after_setting"], kind="long"),
        Column("test", lambda row: form(row, "after")),
        Column("against", lambda row: named(row["optimizer"], row["against"]), kind="optimizer"),
        Column("at", lambda row: row["before_setting"], kind="long"),
        Column("test", lambda row: form(row, "before")),
        Column("difference", difference),
        Column("p, corrected", lambda row: text.p(row["p"])),
        Column("seeds shared", lambda row: text.number(row["seeds"])),
        *(
            [Column("not compared", lambda row: row["why_not"] or "", kind="long")]
            if any_not
            else []
        ),
    ]
    return page.table(
        found,
        columns,
        title="Each optimizer at its best setting in both studies",
        caption="Difference: mean over the seeds that both have, with its 95 % t interval; p is "
        "corrected for every difference that this report mentions.",
        file=file,
    )


def _panel(contents: Contents, gallery: Gallery, found: pd.DataFrame, workload: str) -> Panel:
    metric: Metric = contents.metric(workload)
    shown = found.assign(name=list(map(named, found["optimizer"], found["study"])))
    drawn = figures.differences(shown, metric=metric, looks=contents.looks)
    title = f"{workload}: test {text.name(metric)} less that of {found['against'].iloc[0]}"
    return Panel(
        title=title,
        caption="Where an interval includes 0, the difference may be luck.",
        views=[gallery.figure(drawn, f"differences_{workload}", title=title)],
    )


def _configurations(parts: dict[str, Study]) -> pd.DataFrame:
    """A row for each key on which the studies do not agree."""
    flat = {label: _described(part) for label, part in parts.items()}
    keys = dict.fromkeys(key for described in flat.values() for key in described)
    rows = [
        {"what": key} | {label: described.get(key, NEVER) for label, described in flat.items()}
        for key in keys
        if len({described.get(key, NEVER) for described in flat.values()}) > 1
    ]
    return pd.DataFrame(rows)


def _described(part: Study) -> dict[str, str]:
    """What all runs of a study share, and the values of what they do not."""
    runs, usual = part.runs, part.environments[0][0] if part.environments else {}
    swept = {
        f"{figures.label(name)}, swept": ", ".join(
            map(text.number, sorted(runs[name].dropna().unique()))
        )
        for name in (*part.settings, "seed")
    }
    shared = {key: str(value) for key, value in part.shared.items() if key not in NOT_COMPARED}
    versions = {name: str(value) for name, value in usual.items()}
    data = {f"checksum of {name}'s data": value for name, value in part.data.items()}
    return swept | shared | versions | data


def _settings(found: pd.DataFrame, parts: dict[str, Study], gallery: Gallery) -> page.Table:
    def of(label: str) -> Column:
        return Column(label, lambda row: row[label], kind="long")

    return page.table(
        found,
        [Column("what", lambda row: row["what"], kind="word"), *map(of, parts)],
        title="What differs in their configurations and environments",
        caption=f"As their records have it; '{NEVER}' where the runs of a study do not agree.",
        file=gallery.csv(found, "configurations"),
    )
