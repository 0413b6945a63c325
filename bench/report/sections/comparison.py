"""How certain the differences between tuned optimizers are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from bench.report import page, text
from bench.report.contents import Contents
from bench.report.page import Block, Column, Gallery, Section
from bench.report.sections import words

ABOUT = {
    "test": "score on test",
    "steps": "steps to the target",
    "width": "good learning rates",
    "budget": "one drawn trial",
}


def section(contents: Contents, gallery: Gallery) -> Section | None:
    rows = contents.differences
    if rows.empty:
        return None
    file = gallery.csv(rows, "differences")
    tested = rows[rows["p"].notna()]
    shown = pd.concat(
        [tested[tested["workload"] == workload] for workload in contents.workloads]
    ).sort_values(["workload", "p_holm", "p"], kind="stable")
    left_out = rows[rows["p"].isna()]
    paragraphs = [
        f"Every difference that could be tested, {len(tested)} of {len(rows)}, and what is left of "
        "it once all of them are corrected for by Holm's method: below 0.05 it is called a lead. "
        "Test scores are at the selected settings."
    ]
    reasons = left_out["why_not"].value_counts()
    if len(reasons):
        said = [f"{reason} ({number})" for reason, number in reasons.items()]
        paragraphs.append(f"Not compared: {'; '.join(said)}.")
    columns = [
        *words.workload(contents),
        Column("of", _about, kind="word"),
        Column("one", lambda row: row["better"], kind="optimizer"),
        Column("other", lambda row: row["worse"], kind="optimizer"),
        Column("lead of the one (95 % interval)", _lead(contents)),
        words.plain("p_holm", "p, corrected", text.p),
        words.plain("pairs", "seeds or draws"),
    ]
    table = page.table(
        _turned(contents, shown),
        columns,
        title="Differences between optimizers, the clearest first",
        caption="Mean difference paired by seed with its 95 % t interval; of widths by the "
        "jackknife, of drawn trials unpaired. p-values are two-sided.",
        file=file,
    )
    return Section(
        anchor="comparison",
        title="How certain the differences are",
        short="Differences",
        blocks=[Block(paragraphs=paragraphs, tables=[table] if len(shown) else [])],
    )


def _turned(contents: Contents, rows: pd.DataFrame) -> pd.DataFrame:
    """Each difference from the side that is ahead."""
    way = np.where(
        rows["quantity"] == "steps",
        -1,
        np.where(
            rows["quantity"] == "width",
            1,
            [contents.metric(workload).sign for workload in rows["workload"]],
        ),
    )
    turned = way * rows["difference"] < 0
    way = way * np.where(turned, -1, 1)
    ends = way * rows["low"], way * rows["high"]
    return rows.assign(
        better=rows["x"].mask(turned, rows["y"]),
        worse=rows["y"].mask(turned, rows["x"]),
        lead=way * rows["difference"],
        low=np.minimum(*ends),
        high=np.maximum(*ends),
    )


def _about(row: dict[str, Any]) -> str:
    about = ABOUT.get(row["quantity"], row["quantity"])
    return f"{about}, {row['group']}" if row["group"] else about


def _lead(contents: Contents) -> Callable[[dict[str, Any]], str]:
    def show(row: dict[str, Any]) -> str:
        metric = contents.metric(row["workload"])
        if row["quantity"] == "steps":
            said = [f"{2.0 ** row[name]:.2g}" for name in ("lead", "low", "high")]
            return f"a factor of {said[0]} ({said[1]} to {said[2]})"
        if row["quantity"] == "width":
            said = [f"{row[name]:.2f}" for name in ("lead", "low", "high")]
            return f"{said[0]} ({said[1]} to {said[2]}) decades"
        said = [text.difference(metric, row[name]) for name in ("lead", "low", "high")]
        unit = text.difference_unit(metric)
        return f"{said[0]} ({said[1]} to {said[2]}) {unit}".rstrip()

    return show
