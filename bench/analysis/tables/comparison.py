"""Which method is better.

``method`` is the column that tells apart what is compared. Its trials are picked by validation
within each workload, and what is compared is the test score of the picked trials' runs, in which a
diverged run counts as chance (``selection.score``). Times to a target have rules of their own.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.analysis import aggregates, profiles, selection, significance
from bench.analysis.selection import GROUP, joined, signs
from bench.records import UNFINISHED

Unit = Literal["steps", "epochs", "seconds"]


def times_to_target(
    runs: pd.DataFrame, unit: Unit = "steps", *, by: Sequence[str] = GROUP
) -> pd.DataFrame:
    """The time that each group's fastest trial takes to its workload's target on validation.

    A trial's time is its median over seeds, infinite if half of them or more never get there; a
    run that reached the target and diverged later counts as never. The trial is picked for speed
    (as AlgoPerf picks it, Dahl et al. 2023), among those with more than half as many seeds as the
    fullest; ties go to more seeds that reached it, then to the first key. Seconds are of training,
    evaluation left out, and compare only between runs made alike.

    Returns:
        One row for each group that had a target: ``trial``, ``time``, ``low``, ``high`` (over
        seeds), ``reached`` (how many seeds), ``seeds``, ``target``, ``notes``.
    """
    columns = [*by, "trial", "time", "low", "high", "reached", "seeds", "target", "notes"]
    if "target/step" not in runs:
        return pd.DataFrame(columns=columns)
    runs = runs[(~runs["status"].isin(UNFINISHED)) & runs["target/value"].notna()]
    time = runs["target/seconds" if unit == "seconds" else "target/step"].astype(float)
    if unit == "epochs":
        time = time * runs["epochs"] / runs["steps"]
    never = time.isna() | (runs["status"] == "diverged")
    sign = signs(runs)
    runs = runs.assign(
        time=time.mask(never, np.inf), reached=~never, hardest=sign * runs["target/value"]
    )
    table = runs.groupby([*by, "trial"]).agg(
        time=("time", "median"),
        low=("time", "min"),
        high=("time", "max"),
        reached=("reached", "sum"),
        seeds=("time", "size"),
        metric=("metric", "first"),
        target=("hardest", "max"),
        targets=("target/value", "nunique"),
    )
    together = runs.get("timing/runs_together", pd.Series(1, index=runs.index))
    table["stacked"] = together.groupby([runs[name] for name in [*by, "trial"]]).max() > 1
    table = table.reset_index()
    table = table[table["seeds"] > table.groupby(list(by))["seeds"].transform("max") / 2]
    order = table.assign(reached=-table["reached"])
    order = order.sort_values([*by, "time", "reached", "trial"]).drop_duplicates(list(by))
    table = table.loc[order.index]
    table["target"] *= signs(table)
    table["notes"] = [
        joined(
            {
                "never reached": not reached,
                f"{reached} of {seeds} seeds reached it": 0 < reached < seeds,
                "runs have different targets": targets > 1,
                "trained in a stack: seconds are shared": stacked and unit == "seconds",
                "one seed": seeds == 1,
            }
        )
        for reached, seeds, targets, stacked in table[
            ["reached", "seeds", "targets", "stacked"]
        ].itertuples(index=False)
    ]
    return table[columns].reset_index(drop=True)


def performance_profiles(
    runs: pd.DataFrame, unit: Unit = "steps", *, method: str = "optimizer", up_to: float = 4.0
) -> pd.DataFrame:
    """``profiles.performance_profile`` of ``times_to_target``, at every step of the curves.

    Only workloads with a target that every method was run on count.

    Returns:
        One row for each method and ``tau`` from 1 to up_to: ``share`` of workloads, ``workloads``.
    """
    ratios = _ratios(runs, unit, method)  # [W, O]
    inside = ratios.to_numpy()[ratios.to_numpy() <= up_to]
    taus = np.unique(np.concatenate([[1.0, up_to], inside]))
    shares = profiles.performance_profile(ratios.to_numpy(), taus)  # [T, O]
    rows = [
        {method: name, "tau": tau, "share": share, "workloads": len(ratios)}
        for name, curve in zip(ratios.columns, shares.T, strict=True)
        for tau, share in zip(taus, curve, strict=True)
    ]
    return pd.DataFrame(rows, columns=[method, "tau", "share", "workloads"])


def profile_scores(
    runs: pd.DataFrame, unit: Unit = "steps", *, method: str = "optimizer", up_to: float = 4.0
) -> pd.DataFrame:
    """``profiles.integrated_profile`` of ``performance_profiles``, one row a method: ``score``."""
    ratios = _ratios(runs, unit, method)
    scores = profiles.integrated_profile(ratios.to_numpy(), up_to)
    few = joined({f"only {len(ratios)} workloads": 0 < len(ratios) < 5})
    rows = [
        {method: name, "score": score, "workloads": len(ratios), "notes": few}
        for name, score in zip(ratios.columns, scores, strict=True)
    ]
    return pd.DataFrame(rows, columns=[method, "score", "workloads", "notes"])


def interquartile_means(runs: pd.DataFrame, *, method: str = "optimizer") -> pd.DataFrame:
    """``aggregates.interquartile_mean`` of the test scores over seeds and workloads.

    ``normalised`` is the same of scores on a scale where 0 is what a diverged run counts for
    (``selection.judged``) and 1 is the best method's mean on the workload: raw scores of an easy
    and a hard workload hardly share a middle half, and of different metrics (NaN) nothing.

    Returns:
        One row a method: ``iqm``, ``iqm_low``, ``iqm_high``, ``normalised``, ``normalised_low``,
        ``normalised_high``, ``workloads``, ``runs``, ``notes``.
    """
    columns = [method, "iqm", "iqm_low", "iqm_high"]
    columns += ["normalised", "normalised_low", "normalised_high", "workloads", "runs", "notes"]
    tables = _test_scores(runs, method)
    floors = signs(runs) * runs.get("floor/test", pd.Series(np.nan, index=runs.index))
    floors = floors.groupby(runs["workload"].astype(str)).first()
    scaled = {
        workload: (table - floors[workload])
        / max(table.mean().max() - floors[workload], np.finfo(float).tiny)
        for workload, table in tables.items()
    }
    metrics = set(runs.loc[runs["workload"].astype(str).isin(tables), "metric"])
    alike = len({(metric.name, metric.unit, metric.sign) for metric in metrics}) == 1
    sign = metrics.pop().sign if alike else np.nan
    rows = []
    for name in _methods(tables):
        scores, relative = _of_method(tables, name), _of_method(scaled, name)  # [S, W]
        raw = aggregates.interquartile_mean_interval(scores)
        normalised = aggregates.interquartile_mean_interval(relative)
        low, high = sorted([sign * raw.low, sign * raw.high])
        notes = {
            f"{len(tables) - scores.shape[1]} workloads missing": scores.shape[1] < len(tables),
            "one seed": scores.shape[0] == 1,
        }
        rows.append(
            {method: name, "iqm": sign * raw.estimate, "iqm_low": low, "iqm_high": high}
            | {"normalised": normalised.estimate, "normalised_low": normalised.low}
            | {"normalised_high": normalised.high, "workloads": scores.shape[1]}
            | {"runs": int(np.isfinite(scores).sum()), "notes": joined(notes)}
        )
    return pd.DataFrame(rows, columns=columns)


def improvements(runs: pd.DataFrame, *, method: str = "optimizer") -> pd.DataFrame:
    """``aggregates.improvement_interval`` of x over y on each workload that both have runs on.

    Returns:
        One row for each workload and pair of methods: ``workload``, ``x``, ``y``, ``probability``,
        ``low``, ``high``. That of y over x is one minus it.
    """
    rows = [
        (workload, x, y, *aggregates.improvement_interval(table[x], table[y]))
        for workload, table in _test_scores(runs, method).items()
        for x, y in combinations(table.columns, 2)
    ]
    return pd.DataFrame(rows, columns=["workload", "x", "y", "probability", "low", "high"])


def ranks(
    runs: pd.DataFrame,
    *,
    method: str = "optimizer",
    block: Literal["workload", "seed"] = "workload",
    alpha: float = 0.05,
) -> pd.DataFrame:
    """``significance.critical_difference`` of the test scores.

    A block is a workload (mean over seeds), or each seed of each workload: more blocks, but
    seeds on one workload are not independent evidence about optimizers in general.

    Returns:
        One row a method, the best first: ``mean_rank``, ``groups`` (a tuple of the numbers, from
        0, of the groups it is in; methods that share one do not differ), and the same in every
        row: ``statistic``, ``p``, ``difference``, ``blocks``, ``notes``.
    """
    columns = [method, "mean_rank", "groups", "statistic", "p", "difference", "blocks", "notes"]
    tables = _test_scores(runs, method)
    if not tables:
        return pd.DataFrame(columns=columns)
    blocks = [
        table.mean().to_frame().T if block == "workload" else table for table in tables.values()
    ]
    scores = pd.concat(blocks)  # [N, O]
    result = significance.critical_difference(scores.to_numpy(), alpha)
    left_out = len(scores) - result.blocks
    notes = {
        f"{left_out} blocks without every method left out": left_out,
        f"only {result.blocks} blocks": result.blocks < 10,
        "seeds of one workload are not independent blocks": block == "seed" and len(tables) > 1,
        f"holds for {next(iter(tables))} only": len(tables) == 1,
    }
    about: dict[str, Any] = {"blocks": result.blocks, "notes": joined(notes)}
    about |= {"statistic": result.statistic, "p": result.p, "difference": result.difference}
    rows = [
        {method: name, "mean_rank": rank, **about}
        | {"groups": tuple(g for g, members in enumerate(result.groups) if o in members)}
        for o, (name, rank) in enumerate(zip(scores.columns, result.mean_ranks, strict=True))
    ]
    return pd.DataFrame(rows, columns=columns).sort_values("mean_rank", ignore_index=True)


def _ratios(runs: pd.DataFrame, unit: Unit, method: str) -> pd.DataFrame:
    """Performance ratios on the workloads that every method was run on: ``[W, O]``."""
    times = times_to_target(runs, unit, by=("workload", method))
    table = times.pivot(index="workload", columns=method, values="time").dropna()
    ratios = profiles.performance_ratios(table.to_numpy(dtype=float))
    return pd.DataFrame(ratios, index=table.index, columns=table.columns)


def _test_scores(runs: pd.DataFrame, method: str) -> dict[str, pd.DataFrame]:
    """Test scores, higher is better, of the picked trials on each workload: seeds by methods."""
    chosen = selection.selected_runs(runs, by=("workload", method)).dropna(subset="test")
    chosen = chosen.assign(test=signs(chosen) * chosen["test"])
    return {
        str(workload): group.groupby(["seed", method])["test"].mean().unstack(method)
        for workload, group in chosen.groupby("workload", sort=True)
    }


def _methods(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    return sorted({name for table in tables.values() for name in table.columns})


def _of_method(tables: Mapping[str, pd.DataFrame], name: str) -> np.ndarray:
    """A method's scores on the workloads that have it: ``[S, W]``."""
    columns = {workload: table[name] for workload, table in tables.items() if name in table}
    return pd.concat(columns, axis=1).to_numpy()
