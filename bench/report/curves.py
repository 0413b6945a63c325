"""The logged curves of the selected settings, averaged over seeds."""

import numpy as np
import pandas as pd

from bench import study as studies
from bench.study import Study

POINTS = 160  # more cannot be told apart at a column's width
MOST_RUNS = 100  # of one setting, whose curves are read: what more would add is not to be seen


def read(study: Study, best: pd.DataFrame) -> tuple[dict[str, dict[str, pd.DataFrame]], list[str]]:
    """The curves of the completed runs of each selected trial, by workload and optimizer; of very
    many, those of ``MOST_RUNS``.

    Args:
        best: rows with ``workload, optimizer, trial``; those without a trial are left out.

    Returns:
        The curves, and one line for each file that could not be read.
    """
    keys = ["workload", "optimizer", "trial"]
    completed = study.runs[study.runs["status"] == "completed"]
    selected = best[keys].dropna().astype({"trial": completed["trial"].dtype})  # floats, if none
    runs = completed.merge(selected, on=keys)
    curves: dict[str, dict[str, pd.DataFrame]] = {}
    problems = []
    for (workload, optimizer), rows in runs.groupby(keys[:2]):
        found, why_not = studies.read_curves(study, evenly(rows, MOST_RUNS))
        curves.setdefault(str(workload), {})[str(optimizer)] = found
        problems += why_not
    return curves, problems


def evenly(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, evenly spread over all of them."""
    if len(rows) <= most:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def band(curves: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Mean, least and most over runs, at each step that every run has logged.

    Returns:
        Columns ``x`` (mean over runs), ``mean, min, max``, by ``step``; empty without data. Long
        curves are averaged in ``POINTS`` pieces.
    """
    if x not in curves or y not in curves:
        return pd.DataFrame()
    rows = curves.assign(at=curves["step"]).dropna(subset=[x, y])
    by_step = rows.groupby("at").agg(
        x=(x, "mean"), mean=(y, "mean"), min=(y, "min"), max=(y, "max"), runs=("run", "nunique")
    )
    by_step = by_step[by_step["runs"] == by_step["runs"].max()].drop(columns="runs")
    by_step = by_step.rename_axis("step").reset_index()
    if len(by_step) > POINTS:
        pieces = np.linspace(0, POINTS, len(by_step), endpoint=False).astype(int)
        by_step = by_step.groupby(pieces).mean()
    return by_step
