"""What a run is worth, what a trial is worth, and which trial to pick: by validation alone.

The table of a study has a row a run: ``workload, optimizer, schedule, seed, status, steps, epochs,
id, trial``, a column for each hyperparameter by its plain name, and one for each measurement, with
a slash in its name (``val/loss``). ``trial`` is the same for the runs that differ in seed only.
``metric`` is what the run is judged by, a ``Metric``, the same for all runs of a workload; another
workload may have another. Scores are in its units, and which way is better is its to say.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from bench.metrics import Metric
from bench.records import UNFINISHED

GROUP = ("workload", "optimizer", "schedule")
_NOT_HYPERPARAMETERS = {"seed", "steps", "epochs"}  # of the columns that hold numbers


Split = Literal["val", "test"]


def judged(runs: pd.DataFrame) -> pd.DataFrame:
    """The table with what its diverged runs count for: ``floor/val`` and ``floor/test``, in units
    of the ``metric`` of the row; made once, so that parts of a study count as the whole does.

    It is the metric's chance; where that is not known, the worst finite value that a completed run
    of the workload has on that split, so that a diverged run is never the better one. Missing where
    there is none.
    """
    runs = runs.copy()
    completed = runs["status"] == "completed"
    for split in get_args(Split):
        chance = runs["metric"].map(lambda metric: metric.chance).astype(float)
        signed = signs(runs) * measured(runs, split)
        worst = signed.where(completed & np.isfinite(signed)).groupby(runs["workload"])
        runs[f"floor/{split}"] = chance.fillna(signs(runs) * worst.transform("min"))
    return runs


def measured(runs: pd.DataFrame, split: Split) -> pd.Series:
    """Each run's last value of its own metric: ``[runs]``."""
    names = runs["metric"].map(lambda metric: f"{split}/{metric.name}")
    value = pd.Series(np.nan, index=runs.index)
    for name in names.unique():
        value = value.mask(names == name, runs[name]) if name in runs else value
    return value.astype(float)


def signs(rows: pd.DataFrame) -> pd.Series:
    """1 where a higher value of the row's metric is better, else -1."""
    return rows["metric"].map(lambda metric: metric.sign).astype(int)


def metric_of(rows: pd.DataFrame) -> Metric:
    """The one metric by which these rows, of one workload, are judged."""
    return rows["metric"].iloc[0]


def score(runs: pd.DataFrame, split: Split = "val") -> pd.Series:
    """What each run is worth, in its metric's units: ``[runs]``, NaN where that is unknown.

    A diverged run, and one with an infinite value, scores the floor (``judged``): chance, where it
    is known. So does a completed run that did worse, so that none ranks below one that diverged and
    no single exploding loss decides a mean. A failed run (a fault of the machine or the code, not
    of the optimizer), one that was pruned (its value is that of a shorter training) and a completed
    run that was not measured are missing.
    """
    value, sign = measured(runs, split), signs(runs)
    floor = runs.get(f"floor/{split}", pd.Series(np.nan, index=runs.index)).astype(float)
    worse = sign * value < sign * floor
    diverged = np.isinf(value) | (runs["status"] == "diverged")
    return value.mask(worse | diverged, floor).mask(runs["status"].isin(UNFINISHED)).rename("score")


def hyperparameters(runs: pd.DataFrame) -> list[str]:
    """The columns that hold hyperparameters and take more than one value in ``runs``."""
    return [
        str(name)
        for name in runs.columns
        if "/" not in str(name)
        and name not in _NOT_HYPERPARAMETERS
        and pd.api.types.is_numeric_dtype(runs[name])
        and runs[name].nunique() > 1
    ]


def trials(runs: pd.DataFrame, *, by: Sequence[str] = GROUP) -> pd.DataFrame:
    """One row a trial of each group, sorted by group and trial.

    Columns: the group, ``trial``, the hyperparameters that vary in ``runs``, ``metric``, ``score``
    (mean over seeds of ``score``), ``std`` (over seeds, n - 1; NaN for one seed), ``test`` and
    ``test_std`` (the same of the metric on the test set), ``seeds`` (runs with a score),
    ``diverged`` (runs that diverged; they are among ``seeds``) and ``missing`` (runs without a
    score).
    """
    scored = runs.assign(
        score=score(runs),
        test=score(runs, "test"),
        diverged=runs["status"] == "diverged",
    )
    varying = [name for name in hyperparameters(runs) if name not in by]
    grouped = scored.groupby([*by, "trial"], sort=True)
    numbers = grouped.agg(
        metric=("metric", "first"),
        score=("score", "mean"),
        std=("score", "std"),
        test=("test", "mean"),
        test_std=("test", "std"),
        seeds=("score", "count"),
        diverged=("diverged", "sum"),
        missing=("seed", "size"),
    )
    numbers["missing"] -= numbers["seeds"]
    return pd.concat([grouped[varying].first(), numbers], axis=1).reset_index()


def best_trials(table: pd.DataFrame, *, by: Sequence[str] = GROUP) -> pd.DataFrame:
    """The rows of ``trials`` that are best in their group, by mean validation score.

    A trial competes if it has more than half as many scored seeds as the fullest trial of its
    group, so that a lucky single seed does not win a study of three. Ties go to the trial with
    fewer diverged runs, then more seeds, then the first key, whatever the order of the rows. Where
    all diverged, one of those is the best; a group without any score has no row.
    """
    most = table.groupby(list(by))["seeds"].transform("max")
    competing = table[table["seeds"] > most / 2]
    rounded = _rounded(competing["score"])  # equal means may differ in their last bit
    order = competing.assign(score=-signs(competing) * rounded, seeds=-competing["seeds"])
    order = order.sort_values([*by, "score", "diverged", "seeds", "trial"])
    return table.loc[order.drop_duplicates(list(by)).index]


def select(runs: pd.DataFrame, *, by: Sequence[str] = GROUP) -> pd.DataFrame:
    """The best trial of each group, as ``best_trials`` has it; the test set is only reported.

    Returns:
        One row for every group: the columns of ``trials``, and ``compared`` (trials in the group),
        ``edges`` (a tuple of the hyperparameters whose chosen value is an ``edge``) and ``notes``
        (text for a person, "" if there is nothing to say). Where the best trial diverged with every
        seed, or no run has a score, there is nothing to pick: ``trial`` is missing, and so is
        every number but the counts, which are then of the whole group.
    """
    table = trials(runs, by=by)
    varying = [name for name in hyperparameters(runs) if name not in by]
    best = best_trials(table, by=by)
    best = best[best["diverged"] < best["seeds"]]
    picked = {tuple(row[name] for name in by): row for _, row in best.iterrows()}
    rows = []
    for key, group in groups(table, by):
        chosen = picked.get(tuple(key.values()))
        row, notes = _nothing(group) if chosen is None else _picked(group, chosen, varying)
        about = {"metric": metric_of(group), "compared": len(group), "notes": joined(notes)}
        rows.append(key | row | about)
    return pd.DataFrame(rows, columns=[*table.columns, "compared", "edges", "notes"])


def selected_runs(runs: pd.DataFrame, *, by: Sequence[str] = GROUP) -> pd.DataFrame:
    """The runs of each group's best trial, with their ``score`` and ``test`` score."""
    best = best_trials(trials(runs, by=by), by=by)
    scored = runs.assign(score=score(runs), test=score(runs, "test"))
    return scored.merge(best[[*by, "trial"]], on=[*by, "trial"])


def _rounded(values: pd.Series) -> pd.Series:
    """To 40 binary digits: the same for values of any scale and sign."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, 40)), exponent - 40)


def edge(values: Sequence[float] | np.ndarray | pd.Series, chosen: float) -> str | None:
    """Which end of ``values`` was chosen, "lowest" or "highest": a better one may lie beyond.

    None if it is inside, if there is only one value, or if it is a lowest value of 0, beyond which
    there is nothing (no weight decay, no momentum).
    """
    distinct = np.unique(np.asarray(values, dtype=float))
    distinct = distinct[np.isfinite(distinct)]
    if distinct.size < 2:
        return None
    if chosen == distinct[0] and chosen != 0:
        return "lowest"
    return "highest" if chosen == distinct[-1] else None


def groups(runs: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows of each group, with what makes it one by name; sorted."""
    for key, group in runs.groupby(list(by), sort=True):
        yield dict(zip(by, key, strict=True)), group


def joined(notes: Mapping[str, Any]) -> str:
    """The notes whose condition holds, as one text."""
    return "; ".join(note for note, holds in notes.items() if holds)


Notes = dict[str, Any]


def _picked(
    group: pd.DataFrame, best: pd.Series, varying: Sequence[str]
) -> tuple[dict[str, Any], Notes]:
    sides = {name: edge(group[name], best[name]) for name in varying}
    notes = {
        f"{name}={best[name]:g} is the {side} value tried: a better one may lie beyond": side
        for name, side in sides.items()
    }
    notes |= {
        f"{best['diverged']} of {best['seeds']} seeds diverged": best["diverged"],
        f"seeds missing: {best['missing']}": best["missing"],
        "one seed": best["seeds"] == 1,
    }
    edges = tuple(name for name, side in sides.items() if side is not None)
    return {**best.to_dict(), "edges": edges}, notes


def _nothing(group: pd.DataFrame) -> tuple[dict[str, Any], Notes]:
    counts = group[["seeds", "diverged", "missing"]].sum()
    notes = {
        "no run has a score": counts["seeds"] == 0,
        "every run diverged": 0 < counts["seeds"] == counts["diverged"],
        "every trial with enough seeds diverged": counts["seeds"] > counts["diverged"],
    }
    return {**counts.to_dict(), "edges": ()}, notes
