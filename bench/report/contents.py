"""What there is to report: the statistics of a study, each computed once, for every way out."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench import study as studies
from bench.analysis import selection, tables
from bench.errors import BenchError
from bench.metrics import Metric
from bench.report import curves, style
from bench.study import Study

PAIR = ("workload", "optimizer")
DELTAS = (0.01, 0.02, 0.05)  # of a fraction, else of the best; the words speak of the first
UNITS: tuple[tables.Unit, ...] = ("epochs", "steps", "seconds")


@dataclass(kw_only=True)
class Contents:
    """The tables that terminal, page and TensorBoard show; ``analysis.tables`` describes most.

    Attributes:
        best: ``selection.select`` for each workload and optimizer, in the order of ``looks``, with
            ``runs, completed, all_diverged, failed``: counts over all trials.
        trials: ``selection.trials``, with every setting and the number of failed runs.
        selected: ``selection.selected_runs``.
        response, sensitivity: of the learning rate; empty if it does not vary.
        times: ``times_to_target`` with a column ``unit``.
        expected: ``expected_best``, of drawn trials.
        differences: every difference that is mentioned, under one correction.
        curves: of the selected trials' completed runs, by workload and optimizer.
        looks: of each optimizer, in the order in which to show them.
        overrides: of one run of the best setting, as they were said; none if they are unknown.
        problems: one line each for what could not be read.
    """

    study: Study
    best: pd.DataFrame
    trials: pd.DataFrame
    selected: pd.DataFrame
    response: pd.DataFrame
    sensitivity: pd.DataFrame
    times: pd.DataFrame
    expected: pd.DataFrame
    tunability: pd.DataFrame
    probability_best: pd.DataFrame
    differences: pd.DataFrame
    curves: dict[str, dict[str, pd.DataFrame]]
    looks: dict[str, style.Look]
    overrides: list[str]
    problems: list[str]

    @property
    def workloads(self) -> list[str]:
        return list(self.best["workload"].unique())

    def metric(self, workload: str) -> Metric:
        """What the workload's runs are judged by."""
        return selection.metric_of(self.best[self.best["workload"] == workload])

    @property
    def one_metric(self) -> Metric | None:
        """That of all workloads, as far as it is shown, if they have the same."""
        metrics = [self.metric(workload) for workload in self.workloads]
        shown = {(metric.name, metric.unit, metric.sign) for metric in metrics}
        return metrics[0] if len(shown) == 1 else None

    @property
    def lacking_chance(self) -> Metric | None:
        """One whose chance is told for all workloads, or is not for any; None where they differ."""
        metrics = [self.metric(workload) for workload in self.workloads]
        return metrics[0] if len({metric.chance is None for metric in metrics}) == 1 else None

    def curve_metrics(self, workload: str) -> dict[str, Metric]:
        """What there are curves of: the metric that selects, and the loss, by split and name."""
        metric = self.metric(workload)
        loss = Metric("loss", self.study.units.get("loss", ""))
        loss = metric if metric.name == loss.name else loss
        return {f"val/{metric.name}": metric, "val/loss": loss, "train/loss": loss}

    @property
    def number_of_workloads(self) -> int:
        """However many lengths each was trained for, and metrics it was judged by."""
        apart = (*self.study.lengths.values(), *self.study.metrics.values())
        return len(self.workloads) - sum(len(names) - 1 for names in apart)

    @property
    def compares_workloads(self) -> bool:
        """Whether there are optimizers and workloads to be compared over all workloads: not where
        one workload counts as several, or a method's mean is of other lengths than another's."""
        apart = self.study.lengths or self.study.metrics
        return len(self.workloads) > 1 and len(self.looks) > 1 and not apart

    @property
    def has_validation(self) -> bool:
        """Whether any run measured what selection needs."""
        return bool(self.best["score"].notna().any())

    def of(self, table: pd.DataFrame, workload: str) -> pd.DataFrame:
        """A table's rows for one workload, the optimizers in their order."""
        rows = table[table["workload"] == workload]
        return rows.sort_values("optimizer", key=self.place, kind="stable", ignore_index=True)

    def place(self, optimizers: pd.Series) -> pd.Series:
        return optimizers.map(list(self.looks).index)


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
    best = _best(runs, trials, names=setting_names(study), order=list(looks))
    found, problems = curves.read(study, best)
    overrides: list[str] = []
    try:
        overrides = _overrides(study, best)
    except BenchError as error:
        problems.append(str(error))
    if best["score"].isna().all():
        runs = runs.iloc[:0]  # nothing was measured: what diverged would be all there is
    whole = study.whole if len(runs) else runs
    lr_runs = whole if "lr" in study.settings else whole.iloc[:0].assign(lr=np.nan)
    times = {unit: tables.times_to_target(runs, unit, by=PAIR) for unit in UNITS}
    return Contents(
        study=study,
        best=best,
        trials=trials,
        selected=selection.selected_runs(runs, by=PAIR),
        response=tables.response(lr_runs, by=PAIR),
        sensitivity=tables.sensitivity(lr_runs, by=PAIR, deltas=DELTAS),
        times=pd.concat([table.assign(unit=unit) for unit, table in times.items()]),
        expected=tables.expected_best(whole, by=PAIR),
        tunability=tables.tunability(whole, by=PAIR),
        probability_best=tables.probability_best(whole),
        differences=tables.corrected(
            tables.differences(whole, delta=DELTAS[0]),
            tables.factor_differences(whole, study.settings),
        ),
        curves=found,
        looks=looks,
        overrides=overrides,
        problems=[*study.problems, *problems],
    )


def setting_names(study: Study) -> list[str]:
    """What to say of a trial: the learning rate first, whether or not it varies, then the rest."""
    return [name for name in dict.fromkeys(("lr", *study.settings)) if name in study.runs]


def _best(
    runs: pd.DataFrame, trials: pd.DataFrame, *, names: list[str], order: list[str]
) -> pd.DataFrame:
    best = selection.select(runs, by=PAIR)
    best["trial"] = best["trial"].astype(
        trials["trial"].dtype
    )  # else numbers, where all are missing
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
    settings = trials[[*PAIR, "trial", *names]]
    best = best.drop(columns=names, errors="ignore")
    best = best.merge(settings, on=[*PAIR, "trial"], how="left")
    best = best.sort_values("optimizer", key=lambda column: column.map(order.index))
    return best.sort_values("workload", kind="stable", ignore_index=True)


def _overrides(study: Study, best: pd.DataFrame) -> list[str]:
    known = best.dropna(subset=["score", "trial"])
    if known.empty:
        return []
    known = known[known["workload"] == known["workload"].iloc[0]]  # others may not compare
    place = (selection.signs(known) * known["score"]).idxmax()
    first = known.loc[place, [*PAIR, "trial"]].to_frame().T
    runs = study.runs.merge(first, on=[*PAIR, "trial"])
    return studies.read_overrides(study, runs["directory"].iloc[0])


def _trials(study: Study) -> pd.DataFrame:
    trials = selection.trials(study.runs, by=PAIR)
    extra = [name for name in setting_names(study) if name not in trials]
    grouped = study.runs.assign(failed=study.runs["status"] == "failed").groupby([*PAIR, "trial"])
    rest = pd.concat([grouped[extra].first(), grouped["failed"].sum()], axis=1)
    return trials.merge(rest.reset_index(), on=[*PAIR, "trial"])


def _nothing_to_report(study: Study) -> str:
    if study.problems:
        return f"{study.directory}: none of its records can be used"
    if study.unfinished:
        return f"{study.directory}: none of its {len(study.unfinished)} runs has finished yet"
    return f"{study.directory}: holds no record of a run; give a study's directory"
