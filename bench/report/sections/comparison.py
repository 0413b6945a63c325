"""How certain the differences between tuned optimizers are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis import tables
from bench.metrics import Metric
from bench.report import page, text
from bench.report.contents import Contents
from bench.report.page import Block, Column, Gallery, Section
from bench.report.sections import words

FEW_SEEDS = 5  # with which Wilcoxon's test cannot reach 0.05


def section(contents: Contents, gallery: Gallery) -> Section | None:
    tests = contents.tests
    if tests.empty:
        return None
    tests = tests.merge(_chances(contents), on=["workload", "x", "y"], how="left")
    file = gallery.csv(tests, "comparisons")
    shown = pd.concat([_against_best(contents, tests, workload) for workload in contents.workloads])
    if shown.empty:
        return None
    metric = contents.one_metric
    columns = [
        *words.workload(contents),
        Column("best by validation", lambda row: row["best"], kind="optimizer"),
        Column("against", lambda row: row["other"], kind="optimizer"),
        Column("lead on test" if metric is None else _lead_title(metric), _lead(contents)),
        words.plain("probability", "P(better run)", _two_digits),
        words.plain("p_t_holm", "p, paired t", _p),
        words.plain("p_wilcoxon_holm", "p, Wilcoxon", _p),
        words.plain("pairs", "seeds"),
    ]
    table = page.table(
        shown,
        columns,
        title="The best optimizer of each workload against the others",
        caption="Lead: mean difference with its 95 % t interval. P(better run): the chance that a "
        "run of the best beats a run of the other. p-values are two-sided, and corrected by Holm's "
        "method for all pairs of all workloads, which are in the CSV.",
        file=file,
        by="-difference",
    )
    lead = f"{_name(metric)} at the selected settings, paired by seed."
    pairs = int(tests["pairs"].max())
    if 1 < pairs <= FEW_SEEDS:
        lead += (
            f" With {pairs} seeds only a difference far larger than the spread can be told from "
            f"luck, and Wilcoxon's p cannot fall below {2.0 ** (1 - pairs):g}."
        )
    return Section(
        anchor="comparison",
        title="How certain the differences are",
        short="Differences",
        blocks=[Block(paragraphs=[lead], tables=[table])],
    )


def _chances(contents: Contents) -> pd.DataFrame:
    """The probability of improvement on each workload alone."""
    runs, rng = contents.study.runs, np.random.default_rng(0)
    found = [
        tables.improvements(runs[runs["workload"] == workload], rng=rng).assign(workload=workload)
        for workload in contents.workloads
    ]
    names = {"low": "probability_low", "high": "probability_high"}
    return pd.concat(found).rename(columns=names).drop(columns="workloads")


def _against_best(contents: Contents, tests: pd.DataFrame, workload: str) -> pd.DataFrame:
    """The tests of the optimizer that is best by validation, seen from its side."""
    best = contents.of(contents.best, workload).dropna(subset=["score"])
    if best.empty:
        return tests.iloc[:0].assign(best="", other="")
    way = contents.metric(workload).sign
    first = best.loc[(way * best["score"]).idxmax(), "optimizer"]
    rows = tests[(tests["workload"] == workload) & ((tests["x"] == first) | (tests["y"] == first))]
    turned = rows["y"] == first
    sign = way * np.where(turned, -1, 1)  # a lead is what is better
    ends = sign * rows["low"], sign * rows["high"]
    rows = rows.assign(
        best=first,
        other=rows["x"].where(turned, rows["y"]),
        difference=sign * rows["difference"],
        low=np.minimum(*ends),
        high=np.maximum(*ends),
        probability=np.where(turned, 1 - rows["probability"], rows["probability"]),
    )
    return rows.sort_values("other", key=contents.place)


def _name(metric: Metric | None) -> str:
    return "Test scores" if metric is None else f"Test {text.name(metric)}"


def _lead_title(metric: Metric) -> str:
    unit = text.difference_unit(metric)
    return f"lead on test, {unit}" if unit else "lead on test"


def _lead(contents: Contents) -> Callable[[dict[str, Any]], str]:
    def show(row: dict[str, Any]) -> str:
        metric = contents.metric(row["workload"])

        def form(value: float) -> str:
            return ("" if value < 0 else "+") + text.difference(metric, value)

        said = words.with_interval("difference", "low", "high", form)(row)
        same = contents.one_metric is not None
        return said if same else f"{said} {text.difference_unit(metric)}".rstrip()

    return show


def _two_digits(value: float) -> str:
    return text.NOTHING if text.missing(value) else f"{value:.2f}"


def _p(value: float) -> str:
    if text.missing(value):
        return text.NOTHING
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
