"""Columns and phrases that several sections use."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from bench.analysis.tables import drawn_together
from bench.metrics import Metric
from bench.report import figures, text
from bench.report.contents import DELTAS, Contents, setting_names
from bench.report.page import Column

MOST_SETTINGS = 5  # columns of a table, the learning rate among them

OPTIMIZER = Column("optimizer", lambda row: row["optimizer"], kind="optimizer")


def plain(
    name: str, title: str, form: Callable[[Any], str] = text.number, rank: str = ""
) -> Column:
    return Column(title, lambda row: form(row[name]), rank=rank)


def workload(contents: Contents) -> list[Column]:
    """A column that names the workload, if there are several."""
    if len(contents.workloads) == 1:
        return []
    return [Column("workload", lambda row: row["workload"], kind="word")]


def at_random(contents: Contents, workload: str) -> bool:
    """Whether settings were drawn several at once, so that neighbours differ in all of them."""
    runs = contents.study.runs
    by_optimizer = runs[runs["workload"] == workload].groupby("optimizer")
    return any(drawn_together(group) for _, group in by_optimizer)


def left_out(shown: pd.DataFrame, whole: pd.DataFrame) -> str:
    """``, 1,000 of 2,500 of them``, where not all are shown."""
    if len(shown) == len(whole):
        return ""
    return f", {len(shown):,} of {len(whole):,} of them, the best among these"


def notes(frame: pd.DataFrame) -> list[Column]:
    """A column of notes, if there are any."""
    if not (frame["notes"].fillna("") != "").any():
        return []
    return [Column("note", lambda row: row["notes"], kind="long")]


def setting(contents: Contents, row: Any) -> str:
    """A trial in words: ``lr 0.001, weight decay 0.01``."""
    known = [name for name in setting_names(contents.study) if not text.missing(row[name])]
    return ", ".join(f"{figures.label(name)} {text.number(row[name])}" for name in known)


def settings(contents: Contents) -> list[Column]:
    names = setting_names(contents.study)[:MOST_SETTINGS]
    return [plain(name, figures.label(name)) for name in names]


def with_interval(value: str, low: str, high: str, form: Callable[[float], str]) -> Callable:
    """``98.1 (97.9 to 98.4)``; the value alone where there is no interval."""

    def show(row: dict[str, Any]) -> str:
        if text.missing(row[low]):
            return form(row[value])
        return f"{form(row[value])} ({form(row[low])} to {form(row[high])})"

    return show


def time_to_target(
    form: Callable[[float], str], time: str = "time", low: str = "low", high: str = "high"
) -> Callable[[dict[str, Any]], str]:
    """``3 (2 to 4)``; where some seeds do not get there, how many do."""

    def show(row: dict[str, Any]) -> str:
        if text.missing(row["reached"]):
            return text.NOTHING  # there was no target
        if not row["reached"]:
            return "not reached"
        share = f"{row['reached']:.0f} of {row['seeds']:.0f} seeds"
        if text.missing(row[time]):
            return share
        if text.missing(row[high]):
            return f"{form(row[time])} (at best {form(row[low])}; {share})"
        alike = row[low] == row[high]
        return form(row[time]) if alike else with_interval(time, low, high, form)(row)

    return show


def width(row: dict[str, Any]) -> str:
    """Decades in a good region, with its interval; "at least" where the grid cuts it off."""
    if text.missing(row["width"]):
        return text.NOTHING
    bound = "≥" + text.SPACE if row["open_low"] or row["open_high"] else ""
    return bound + with_interval("width", "width_low", "width_high", "{:.1f}".format)(row)


def tolerance(delta: float, metric: Metric | None) -> str:
    """How far from the best is still good: a fraction's points, else percent of the best; both
    where metrics differ."""
    number = f"{100 * delta:g}"
    points = f"{number} point" + ("" if number == "1" else "s")
    if metric is None:
        return f"{points} or {number} %"
    return f"{number} %" if metric.relative else points


def score(metric: Metric | None) -> str:
    """What a table over workloads calls what it is about."""
    return "the score" if metric is None else text.name(metric)


def the_score(metric: Metric | None) -> str:
    return "the score" if metric is None else f"the {text.name(metric)}"


def target(metric: Metric, times: pd.DataFrame) -> str:
    """``97 % validation F1``, ``a validation loss of at most 3 bits``: the hardest of these."""
    hardest = metric.sign * (metric.sign * times["target"]).max()
    said = text.quantity(metric, text.number(text.scale(metric) * hardest))
    name = f"validation {text.name(metric)}"
    if metric.unit == "fraction" and metric.higher_is_better:
        return f"{said} {name}"
    return f"a {name} of at {'least' if metric.higher_is_better else 'most'} {said}"


def width_caption(metric: Metric | None) -> str:
    return (
        f"Good learning rates: the decades within which {score(metric)} stays within "
        f"{tolerance(DELTAS[0], metric)} of the optimizer's own best, with a 95 % jackknife "
        "interval over seeds; ≥ where the region reaches the end of the values tried."
    )


def floor(metric: Metric | None) -> str:
    """What a diverged run counts as."""
    if metric is None:
        return "chance (where that is not known, the worst value measured)"
    return "the worst value measured" if metric.chance is None else "chance"
