"""What there is to report: the statistics of a study, each computed once, for every way out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis import selection, tables
from bench.errors import BenchError
from bench.report import style
from bench.study import Study

PAIR = ("workload", "optimizer")
DELTAS = (0.01, 0.02, 0.05)  # in accuracy; the first is the one that the words speak of


@dataclass(kw_only=True)
class Contents:
    """The tables that terminal, page and TensorBoard show.

    Attributes:
        best: ``selection.select`` for each workload and optimizer, in the order of ``looks``, with
            ``runs, completed, all_diverged, failed``: counts over all trials.
        trials: ``selection.trials``, with every setting and the number of failed runs.
        response, sensitivity: as ``analysis.tables`` gives them for the learning rate; empty if it
            does not vary.
        selected: rows of ``study.runs``: the completed runs of the selected trials.
        looks: of each optimizer, in the order in which to show them.
        problems: one line each for what could not be read.
    """

    study: Study
    best: pd.DataFrame
    trials: pd.DataFrame
    response: pd.DataFrame
    sensitivity: pd.DataFrame
    selected: pd.DataFrame
    looks: dict[str, style.Look]
    problems: list[str]

    @property
    def workloads(self) -> list[str]:
        return list(self.best["workload"].unique())

    @property
    def has_validation(self) -> bool:
        """Whether any run measured what selection needs."""
        return bool(self.best["score"].notna().any())


def gather(study: Study) -> Contents:
    """The statistics of a study.

    Raises:
        BenchError: there is no run to report on.
    """
    if study.runs.empty:
        raise BenchError(_nothing_to_report(study))
    runs = study.runs
    looks = style.looks(runs["optimizer"].unique())
    trials = _trials(study)
    best = _best(runs, trials, list(looks))
    chosen = runs.merge(best[[*PAIR, "trial"]].dropna(), on=[*PAIR, "trial"])
    varies = "lr" in study.settings
    rng = np.random.default_rng(0)
    return Contents(
        study=study,
        best=best,
        trials=trials,
        response=tables.response(runs, by=PAIR) if varies else pd.DataFrame(),
        sensitivity=tables.sensitivity(runs, by=PAIR, deltas=DELTAS, rng=rng)
        if varies
        else pd.DataFrame(),
        selected=chosen[chosen["status"] == "completed"],
        looks=looks,
        problems=list(study.problems),
    )


def setting_names(study: Study) -> list[str]:
    """What to say of a trial: the learning rate first, whether or not it varies, then the rest."""
    return [name for name in dict.fromkeys(("lr", *study.settings)) if name in study.runs]


def _best(runs: pd.DataFrame, trials: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    best = selection.select(runs, by=PAIR)
    # Without validation nothing can be selected, but where there is one trial nothing need be.
    only = trials.groupby(list(PAIR)).filter(lambda group: len(group) == 1)
    only = best[[*PAIR]].merge(only, on=list(PAIR), how="left").set_index(best.index)
    measured = best["trial"].isna() & only["test"].notna()
    for name in ("trial", "test", "test_std"):
        best[name] = best[name].mask(measured, only[name])
    counts = runs.groupby(list(PAIR))["status"].agg(
        runs="size",
        completed=lambda status: (status == "completed").sum(),
        all_diverged=lambda status: (status == "diverged").sum(),
        failed=lambda status: (status == "failed").sum(),
    )
    best = best.merge(counts.reset_index(), on=list(PAIR))
    place = best["optimizer"].map(order.index)
    return best.assign(place=place).sort_values(["workload", "place"], ignore_index=True)


def _trials(study: Study) -> pd.DataFrame:
    trials = selection.trials(study.runs, by=PAIR)
    extra = {name: (name, "first") for name in setting_names(study) if name not in trials}
    rest = (
        study.runs.assign(failed=study.runs["status"] == "failed")
        .groupby([*PAIR, "trial"])
        .agg(**extra, failed=("failed", "sum"), steps=("steps", "max"))
    )
    return trials.merge(rest.reset_index(), on=[*PAIR, "trial"])


def _nothing_to_report(study: Study) -> str:
    directory: Path = study.directory
    if study.problems:
        return f"{directory}: none of its records can be used"
    if study.unfinished:
        return f"{directory}: none of its {len(study.unfinished)} runs has finished yet"
    return f"{directory}: holds no record of a run; give a study's directory"
