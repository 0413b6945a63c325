"""What a run is worth, what a trial is worth, and which trial to pick: by validation alone.

The table of a study has a row a run: ``workload, optimizer, schedule, seed, status, steps, epochs,
id, trial``, a column for each hyperparameter by its plain name, and one for each measurement, with
a slash in its name (``val/accuracy``). ``trial`` is the same for the runs that differ in seed only.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

GROUP = ("workload", "optimizer", "schedule")
_NOT_HYPERPARAMETERS = {"seed", "steps", "epochs"}  # of the columns that hold numbers


@dataclass(frozen=True)
class Metric:
    """A measurement to select by.

    Attributes:
        name: its column.
        higher_is_better: True for accuracy, False for loss.
        chance: its value for a model that has learned nothing, the score of a diverged run.
    """

    name: str
    higher_is_better: bool
    chance: float

    @property
    def sign(self) -> int:
        """``sign * value`` is larger for the better value."""
        return 1 if self.higher_is_better else -1

    @property
    def test(self) -> "Metric":
        """The same measurement on the test set."""
        return replace(self, name=self.name.replace("val/", "test/"))


def accuracy(classes: int = 10) -> Metric:
    """Validation accuracy, a fraction of 1; chance is ``1 / classes``."""
    return Metric("val/accuracy", True, 1 / classes)


def loss(classes: int = 10) -> Metric:
    """Validation cross-entropy in nats; chance is ``log(classes)``, a uniform prediction."""
    return Metric("val/loss", False, math.log(classes))


ACCURACY = accuracy()


def score(runs: pd.DataFrame, metric: Metric = ACCURACY) -> pd.Series:
    """What each run is worth, in the metric's units: ``[runs]``, NaN where that is unknown.

    A diverged run, and one with an infinite value, scores chance, whatever it measured on the way;
    a completed run scores its value, or chance if it did worse, so that no run ranks below one that
    diverged and no single exploding loss decides a mean. A failed run (a fault of the machine or
    the code, not of the optimizer) and a completed run that was not measured are missing.
    """
    absent = pd.Series(np.nan, index=runs.index)
    value = runs.get(metric.name, absent).astype(float)
    worse = metric.sign * value < metric.sign * metric.chance
    diverged = np.isinf(value) | (runs["status"] == "diverged")
    scored = value.mask(worse | diverged, metric.chance)
    return scored.mask(runs["status"] == "failed").rename("score")


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


def trials(
    runs: pd.DataFrame, metric: Metric = ACCURACY, *, by: Sequence[str] = GROUP
) -> pd.DataFrame:
    """One row a trial of each group, sorted by group and trial.

    Columns: the group, ``trial``, the hyperparameters that vary in ``runs``, ``score`` (mean over
    seeds of ``score``), ``std`` (over seeds, n - 1; NaN for one seed), ``test`` and ``test_std``
    (the same of the metric on the test set), ``seeds`` (runs with a score), ``diverged`` (runs that
    diverged; they are among ``seeds``) and ``missing`` (runs without a score).
    """
    scored = runs.assign(
        score=score(runs, metric),
        test=score(runs, metric.test),
        diverged=runs["status"] == "diverged",
    )
    varying = [name for name in hyperparameters(runs) if name not in by]
    grouped = scored.groupby([*by, "trial"], sort=True)
    numbers = grouped.agg(
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


def best_trials(
    table: pd.DataFrame, metric: Metric = ACCURACY, *, by: Sequence[str] = GROUP
) -> pd.DataFrame:
    """The rows of ``trials`` that are best in their group, by mean validation score.

    A trial competes if it has more than half as many scored seeds as the fullest trial of its
    group, so that a lucky single seed does not win a study of three. Ties go to the trial with
    fewer diverged runs, then more seeds, then the first key, whatever the order of the rows. Where
    all diverged, one of those is the best; a group without any score has no row.
    """
    most = table.groupby(list(by))["seeds"].transform("max")
    competing = table[table["seeds"] > most / 2]
    rounded = competing["score"].round(12)  # equal means may differ in their last bit
    order = competing.assign(score=-metric.sign * rounded, seeds=-competing["seeds"])
    order = order.sort_values([*by, "score", "diverged", "seeds", "trial"])
    return table.loc[order.drop_duplicates(list(by)).index]


def select(
    runs: pd.DataFrame, metric: Metric = ACCURACY, *, by: Sequence[str] = GROUP
) -> pd.DataFrame:
    """The best trial of each group, as ``best_trials`` has it; the test set is only reported.

    Returns:
        One row for every group: the columns of ``trials``, and ``compared`` (trials in the group),
        ``edges`` (a tuple of the hyperparameters whose chosen value is an ``edge``) and ``notes``
        (text for a person, "" if there is nothing to say). Where the best trial diverged with every
        seed, or no run has a score, there is nothing to pick: ``trial`` is missing, and so is
        every number but the counts, which are then of the whole group.
    """
    table = trials(runs, metric, by=by)
    varying = [name for name in hyperparameters(runs) if name not in by]
    best = best_trials(table, metric, by=by)
    best = best[best["diverged"] < best["seeds"]]
    picked = {tuple(row[name] for name in by): row for _, row in best.iterrows()}
    rows = []
    for key, group in groups(table, by):
        chosen = picked.get(tuple(key.values()))
        row, notes = _nothing(group) if chosen is None else _picked(group, chosen, varying)
        rows.append(key | row | {"compared": len(group), "notes": joined(notes)})
    return pd.DataFrame(rows, columns=[*table.columns, "compared", "edges", "notes"])


def selected_runs(
    runs: pd.DataFrame, metric: Metric = ACCURACY, *, by: Sequence[str] = GROUP
) -> pd.DataFrame:
    """The runs of each group's best trial, with their ``score`` and ``test`` score."""
    best = best_trials(trials(runs, metric, by=by), metric, by=by)
    scored = runs.assign(score=score(runs, metric), test=score(runs, metric.test))
    return scored.merge(best[[*by, "trial"]], on=[*by, "trial"])


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
