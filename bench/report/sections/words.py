"""Columns and phrases that several sections use."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from bench.analysis.budget import is_grid
from bench.report import figures, text
from bench.report.contents import DELTAS, Contents, setting_names
from bench.report.page import Column

MOST_SETTINGS = 5  # columns of a table, the learning rate among them

OPTIMIZER = Column("optimizer", lambda row: row["optimizer"], kind="optimizer")


def plain(
    name: str, title: str, form: Callable[[Any], str] = text.number, best: str = ""
) -> Column:
    return Column(title, lambda row: form(row[name]), best=best)


def workload(contents: Contents) -> list[Column]:
    """A column that names the workload, if there are several."""
    if len(contents.workloads) == 1:
        return []
    return [Column("workload", lambda row: row["workload"], kind="word")]


def at_random(contents: Contents, workload: str) -> bool:
    """Whether settings were drawn at random, several at once, so that neighbours differ in all."""
    trials = contents.trials[contents.trials["workload"] == workload]
    names = [
        name
        for name in contents.study.settings
        if pd.api.types.is_numeric_dtype(trials[name]) and trials[name].nunique() > 1
    ]
    return len(names) > 1 and not any(
        is_grid(rows[names].to_numpy()) for _, rows in trials.groupby("optimizer")
    )


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


def width(row: dict[str, Any]) -> str:
    """Decades in a good region, with its interval; "at least" where the grid cuts it off."""
    if text.missing(row["width"]):
        return text.NOTHING
    bound = "≥" + text.SPACE if row["open_low"] or row["open_high"] else ""
    return bound + with_interval("width", "width_low", "width_high", "{:.1f}".format)(row)


def points(delta: float) -> str:
    number = f"{100 * delta:g}"
    return f"{number} point" + ("" if number == "1" else "s")


WIDTH_CAPTION = (
    f"Good learning rates: the decades within which accuracy stays within {points(DELTAS[0])} of "
    "the optimizer's own best, with a 95 % bootstrap interval over seeds; ≥ where the region "
    "reaches the end of the values tried."
)
