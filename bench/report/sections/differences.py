"""What differs between studies that are set against each other: results, then configurations."""

from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.intervals import mean_interval
from bench.metrics import Metric
from bench.report import figures, page, text
from bench.report.contents import Contents
from bench.report.joined import Joined, named
from bench.report.page import Block, Column, Gallery, Panel, Section
from bench.report.sections import words
from bench.settings.identity import NEUTRAL
from bench.study import Study

LEVEL = 0.05
FEWEST = 3  # seeds, for an interval
NEVER = "varied"
NOT_COMPARED = (*NEUTRAL, "workload.name", "optimizer.name", "experiment")


def section(contents: Contents, gallery: Gallery) -> Section | None:
    study = contents.study
    if not isinstance(study, Joined):
        return None
    found = table(contents)
    blocks = []
    if not found.empty:
        file = gallery.csv(found, "differences")
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
    """Whether any optimizer's result differs by more than luck."""
    found = table(contents)
    if found.empty:
        return ""
    clear = found[(found["low"] > 0) | (found["high"] < 0)]
    if not len(clear):
        if found["low"].isna().all():
            return "One cannot tell whether any difference is more than luck: too few shared seeds."
        return "No optimizer's result differs between the studies by more than luck would explain."
    said = []
    for row in clear.to_dict("records"):
        metric = contents.metric(row["workload"])
        better = metric.sign * row["difference"] > 0
        where = f" on {row['workload']}" if len(contents.workloads) > 1 else ""
        unit = text.difference_unit(metric)
        said.append(
            f"{row['optimizer']} does {'better' if better else 'worse'} in {row['study']} than in "
            f"{row['against']}{where}, by {text.difference(metric, abs(row['difference']))} {unit}"
        )
    return f"{text.listed(said)}."


def table(contents: Contents) -> pd.DataFrame:
    """Test scores at the best setting of each optimizer in each study, less those in the first.

    Intervals are Student's, over the seeds that both have, and hold all at once: each is of the
    level that Bonferroni's correction gives it.
    """
    study, rows = contents.study, []
    assert isinstance(study, Joined)
    first, *others = study.parts
    selected = contents.selected.assign(seed=contents.selected["seed"].astype(int))
    scores = {
        key: group.set_index("seed")["test"]
        for key, group in selected.groupby(["workload", "optimizer"])
    }
    best = contents.best.set_index(["workload", "optimizer"])
    pairs = [
        (workload, optimizer, other)
        for workload in contents.workloads
        for optimizer in dict.fromkeys(study.parts[first].runs["optimizer"])
        for other in others
        if {(workload, named(optimizer, part)) for part in (first, other)} <= scores.keys()
    ]
    for workload, optimizer, other in pairs:
        keys = [(workload, named(optimizer, part)) for part in (first, other)]
        before, after = (scores[key].dropna() for key in keys)
        paired = (after - before).dropna()
        low = high = np.nan
        difference = after.mean() - before.mean()
        if len(paired) >= FEWEST:
            difference, low, high = mean_interval(paired.to_numpy(), 1 - LEVEL / len(pairs))
        rows.append(
            {
                "workload": workload,
                "optimizer": optimizer,
                "study": other,
                "against": first,
                "difference": difference,
                "low": low,
                "high": high,
                "seeds": len(paired),
                "before": before.mean(),
                "after": after.mean(),
                "before_setting": words.setting(contents, best.loc[keys[0]]),
                "after_setting": words.setting(contents, best.loc[keys[1]]),
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

    columns = [
        *words.workload(contents),
        Column("optimizer", lambda row: named(row["optimizer"], row["study"]), kind="optimizer"),
        Column("at", lambda row: row["after_setting"], kind="long"),
        Column("test", lambda row: form(row, "after")),
        Column("against", lambda row: named(row["optimizer"], row["against"]), kind="optimizer"),
        Column("at", lambda row: row["before_setting"], kind="long"),
        Column("test", lambda row: form(row, "before")),
        Column("difference", difference),
        Column("seeds shared", lambda row: text.number(row["seeds"])),
    ]
    return page.table(
        found,
        columns,
        title="Each optimizer at its best setting in both studies",
        caption="Difference: mean over the seeds that both have, with an interval by Student's t; "
        "together the intervals hold with 95 % confidence (Bonferroni). None where fewer than "
        f"{FEWEST} seeds are shared.",
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
