"""How much tuning a method needs.

``by`` names the columns that make a group, within which trials compete. What a diverged run counts
for is ``selection.score``.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.analysis import budget, importance, selection
from bench.analysis.interaction import rectangle_distance
from bench.analysis.intervals import jackknife_interval, means_without_each
from bench.analysis.selection import GROUP, groups, joined, metric_of, signs
from bench.analysis.sensitivity import GoodRegion, good_region
from bench.metrics import Metric

SEARCHES = ("random", "tpe")  # samplers that choose all settings of a trial at once
DRAWN_CONFIDENCE = 0.9  # of what drawn trials say of others


def response(runs: pd.DataFrame, *, name: str = "lr", by: Sequence[str] = GROUP) -> pd.DataFrame:
    """The score at each value of one hyperparameter, the others at their best for that value.

    Returns:
        One row for each group and value, ascending: the columns of ``selection.trials`` for the
        trial that ``selection.best_trials`` picks there; ``low`` and ``high``, the least and the
        greatest score of its seeds; ``share_diverged`` of all runs with that value, whatever the
        other hyperparameters. A value of which no run has a score has no row.
    """
    keys = [*by, name]
    runs = runs[runs[name].notna()] if name in runs else runs.iloc[:0].assign(**{name: np.nan})
    rows = selection.best_trials(selection.trials(runs, by=keys), by=keys)
    scored = runs.assign(score=selection.score(runs), lost=runs["status"] == "diverged")
    ends = scored.groupby([*keys, "trial"])["score"].agg(low="min", high="max")
    lost = scored.groupby(keys)["lost"].mean().rename("share_diverged")
    rows = rows.merge(ends, on=[*keys, "trial"]).merge(lost, on=keys)
    return rows.sort_values(keys, ignore_index=True)


def sensitivity(
    runs: pd.DataFrame,
    *,
    name: str = "lr",
    deltas: Sequence[float] = (0.005, 0.01, 0.02, 0.05),
    by: Sequence[str] = GROUP,
) -> pd.DataFrame:
    """How wide the region of good values of one hyperparameter is, for several tolerances.

    The region is ``good_region`` of ``response``. The interval of its width is the jackknife's,
    which leaves out whole seeds, the same for every value; NaN with fewer than three. It speaks of
    other seeds, not of a finer grid. Values that are not positive have no logarithm and are left
    out, and so are settings that were drawn several at once: neighbours differ in all of them.

    Returns:
        One row for each group and delta: ``delta``, ``best`` (the value with the best mean score),
        ``score``, the fields of ``GoodRegion``, ``width_low``, ``width_high``, ``values`` (how many
        were tried), ``largest_gap`` (decades between neighbours, at most), ``seeds``,
        ``share_diverged`` (of all the group's runs), ``notes``.
    """
    columns = [*by, "delta", "best", "score", *GoodRegion._fields, "width_low", "width_high"]
    columns += ["values", "largest_gap", "seeds", "share_diverged", "notes"]
    rows = []
    runs = runs[runs[name] > 0] if name in runs else runs.iloc[:0]
    for key, group in groups(runs, by):
        metric, scores = metric_of(group), scores_per(group, [name])  # [V, S]
        none = scores.empty or not (group["status"] == "completed").any()
        if none or drawn_together(group):
            continue
        values, mean = scores.index.to_numpy(), scores.mean(axis=1).to_numpy()
        without = means_without_each(scores.to_numpy())  # [S, V]
        steps = np.diff(np.log10(values))
        gap, seeds = steps.max(initial=0.0), scores.shape[1]
        span = (0.0, float(steps.sum()))
        row = key | {
            "best": values[mean.argmax()],
            "score": metric.sign * mean.max(),
            "values": len(values),
            "largest_gap": gap,
            "seeds": seeds,
            "share_diverged": (group["status"] == "diverged").mean(),
        }
        for delta in deltas:
            region = good_region(values, mean, delta, relative=metric.relative)
            others = good_region(values, without, delta, relative=metric.relative)
            width = jackknife_interval(region.width.item(), others.width, bounds=span)
            notes = {
                "no run did better than chance": metric.chance is not None
                and np.allclose(mean, metric.sign * metric.chance, atol=0),
                "reaches the end of the grid: a lower bound": region.open_low or region.open_high,
                f"in {region.pieces} pieces": region.pieces > 1,
                f"a gap of {gap:.2f} decades": len(steps) and gap > 1.5 * np.median(steps),
                "one seed": seeds == 1,
            }
            row |= {field: value.item() for field, value in region._asdict().items()}
            row |= {"delta": delta, "width_low": width.low, "width_high": width.high}
            rows.append(row | {"notes": joined(notes)})
    return pd.DataFrame(rows, columns=columns)


def drawn_together(group: pd.DataFrame) -> bool:
    """Whether settings were drawn or proposed, so that neighbours in one of them differ in the
    others too, and other draws would give other values."""
    if "sampler" in group and group["sampler"].isin(SEARCHES).any():
        return True
    names = selection.hyperparameters(group)
    settings = group.drop_duplicates("trial")[names].to_numpy(dtype=float)
    return len(names) > 1 and not budget.fills_a_grid(settings)


def expected_best(
    runs: pd.DataFrame,
    *,
    by: Sequence[str] = GROUP,
    budgets: Sequence[int] | None = None,
) -> pd.DataFrame:
    """The expected score of the best of k drawn trials, and the test score that comes with it.

    Only trials that were drawn at random answer for a budget: a grid was chosen, and a search that
    learns proposes better trials the later they come. Each seed is one repetition of the whole
    search, with one run a trial, as a person would make it, and the curve is the mean over seeds;
    its interval is ``budget.expected_best_interval``, which speaks of other draws. Seeds that at
    most half of the trials have are left out; if none is left, a trial's score is its mean over
    seeds.

    Returns:
        For each group a row for each ``k``: ``expected``, ``low``, ``high``, ``spread`` (standard
        deviation of the best over draws of k trials), ``test``, ``trials``, ``seeds``, ``notes``.
        By default k runs to the number of trials, thinned out beyond 30.
    """
    columns = [*by, "k", "expected", "low", "high", "spread", "test", "trials", "seeds", "notes"]
    rows = []
    for key, group in groups(_drawn(runs), by):
        scores, test = repetitions(group)  # [N, S]
        if scores.empty:
            continue
        metric = metric_of(group)
        k = _budgets(_trials_of_each(scores)) if budgets is None else np.asarray(budgets)
        about = {"trials": len(scores), "seeds": scores.shape[1]}
        about["notes"] = _search_notes(scores)
        _, tested, spread = _curves(scores, test, k)
        intervals = budget.expected_best_interval(
            scores.to_numpy(), k, DRAWN_CONFIDENCE, _signed_bounds(metric)
        )
        for i, interval in enumerate(intervals):
            row = key | {"k": int(k[i]), "expected": metric.sign * interval.estimate}
            ends = sorted((metric.sign * interval.low, metric.sign * interval.high))
            row |= dict(zip(("low", "high"), ends, strict=True))
            row |= {"test": metric.sign * tested[:, i].mean(), "spread": spread[:, i].mean()}
            rows.append(row | about)
    return pd.DataFrame(rows, columns=columns)


def tunability(runs: pd.DataFrame, *, by: Sequence[str] = GROUP) -> pd.DataFrame:
    """``budget.tunability`` of the expected incumbent, averaged over random orders of the trials.

    The incumbent curve is ``expected_best`` without replacement up to T, the smallest number of
    trials of any group on the workload, so that groups compare.

    Returns:
        One row for each group and ``weighting`` ("early", "equal", "late"): ``value``, ``test``
        (the same of the incumbent's test score), ``T``, ``notes``. Of drawn trials only.
    """
    columns = [*by, "weighting", "value", "test", "T", "notes"]
    rows = []
    for _, on_workload in groups(_drawn(runs), ["workload"]):
        metric = metric_of(on_workload)
        searches = [(key, group, *repetitions(group)) for key, group in groups(on_workload, by)]
        searches = [search for search in searches if len(search[2])]
        last = min((_trials_of_each(scores) for _, _, scores, _ in searches), default=0)
        for key, _group, scores, test in searches:
            curves = _curves(scores, test, np.arange(1, last + 1))
            validated, tested = (budget.tunability(metric.sign * curve) for curve in curves[:2])
            notes = _search_notes(scores)
            for weighting in budget.Tunability._fields:
                row = key | {"value": getattr(validated, weighting).mean()}
                row |= {"weighting": weighting, "test": getattr(tested, weighting).mean()}
                rows.append(row | {"T": last, "notes": notes})
    return pd.DataFrame(rows, columns=columns)


def probability_best(runs: pd.DataFrame, *, method: str = "optimizer") -> pd.DataFrame:
    """The chance that a method's best of k drawn trials beats that of every other method: an
    estimate without an interval.

    ``budget.probability_best`` without replacement, by validation score, for each seed that most
    trials of every method have, and the mean over these seeds; if there is none, of the trials'
    mean scores. k runs to the smallest number of trials of any method.

    Returns:
        One row for each workload, method and ``k``: ``probability``, ``seeds``, ``notes``.
    """
    rows = []
    for key, on_workload in groups(_drawn(runs), ["workload"]):
        searches = {one[method]: group for one, group in groups(on_workload, [method])}
        scores = {name: repetitions(group)[0] for name, group in searches.items()}
        scores = {name: table for name, table in scores.items() if len(table)}
        if not scores:
            continue
        seeds = sorted(set.intersection(*(set(table.columns) for table in scores.values())))
        if not seeds:
            scores = {name: table.mean(axis=1).to_frame() for name, table in scores.items()}
        k = _budgets(min(_trials_of_each(table) for table in scores.values()))
        searched = [
            [table[seed] if seeds else table.iloc[:, 0] for table in scores.values()]
            for seed in seeds or [None]
        ]
        chances = np.mean(
            [budget.probability_best(tables, k, replacement=False) for tables in searched],
            axis=0,
        )
        for name, chance in zip(scores, chances.T, strict=True):
            notes = _search_notes(scores[name])
            about = key | {method: name, "seeds": len(seeds) or 1, "notes": notes}
            rows += [
                about | {"k": int(trials), "probability": p}
                for trials, p in zip(k, chance, strict=True)
            ]
    return pd.DataFrame(rows, columns=["workload", method, "k", "probability", "seeds", "notes"])


def interactions(
    runs: pd.DataFrame,
    *,
    x: str = "lr",
    y: str = "weight_decay",
    deltas: Sequence[float] = (0.01, 0.02, 0.05),
    by: Sequence[str] = GROUP,
) -> pd.DataFrame:
    """``interaction.rectangle_distance`` over the grid of two hyperparameters.

    A cell's score is the mean over seeds of the best trial there. The interval is the jackknife's,
    which leaves out whole seeds. Groups that are not a grid in x and y have no row.

    Returns:
        One row for each group and ``delta``: ``distance``, ``low``, ``high``, ``good`` (cells),
        ``cells`` (with a score), ``holes``, ``seeds``, ``notes``.
    """
    columns = [*by, "delta", "distance", "low", "high", "good", "cells", "holes", "seeds", "notes"]
    rows = []
    runs = runs[runs[[x, y]].notna().all(axis=1)] if {x, y} <= set(runs) else runs.iloc[:0]
    for key, group in groups(runs, by):
        if min(group[x].nunique(), group[y].nunique()) < 2 or not budget.fills_a_grid(
            group[[x, y]]
        ):
            continue
        relative, scores = metric_of(group).relative, scores_per(group, [x, y])
        if scores.empty:
            continue
        cube = np.stack([scores[seed].unstack(y) for seed in scores])  # [S, X, Y]
        cells = np.moveaxis(cube, 0, -1)
        seeds, known = len(cube), int((~np.isnan(cells)).any(axis=-1).sum())
        mean = scores.mean(axis=1).unstack(y).to_numpy()
        without = means_without_each(cells)  # [S, X, Y]
        for delta in deltas:
            found = rectangle_distance(mean, delta, relative=relative)
            interval = jackknife_interval(
                found.distance.item(),
                rectangle_distance(without, delta, relative=relative).distance,
                bounds=(0.0, 1.0),
            )
            good, holes = found.good.item(), mean.size - known
            notes = {
                f"only {good} good cells: the grid is too coarse": good < 4,
                f"holes in the grid: {holes}": holes,
                "one seed": seeds == 1,
            }
            row = key | {"delta": delta, "distance": interval.estimate, "low": interval.low}
            row |= {"high": interval.high, "good": good, "cells": known, "holes": holes}
            rows.append(row | {"seeds": seeds, "notes": joined(notes)})
    return pd.DataFrame(rows, columns=columns)


def importances(runs: pd.DataFrame, *, by: Sequence[str] = GROUP) -> pd.DataFrame:
    """How much of the score each hyperparameter decides, by a global and a local method.

    On a complete grid: ``importance.variance_shares``, interactions included, and
    ``local_shares``. On a grid with holes, ``main_effects`` stands in for the first; where trials
    are drawn at random, ``local_shares_of_surrogate`` for the second too. A trial's score is its
    mean over seeds. Groups in which fewer than two hyperparameters vary have no row.

    Returns:
        One row for each group, ``kind`` ("global", "local") and ``hyperparameter`` ("lr", or
        "lr x weight_decay" for an interaction): ``share``, ``method`` (the function's name),
        ``trials``, ``notes``; NaN where the method does not apply.
    """
    rows = []
    for key, group in groups(runs, by):
        names = selection.hyperparameters(group)
        trials = selection.trials(group, by=by).dropna(subset=["score", *names])
        names = [name for name in names if trials[name].nunique() > 1]
        if len(names) < 2:
            continue
        by_cell = trials.groupby(trials.groupby(names).ngroup())
        cells = by_cell[names].first().assign(score=by_cell["score"].mean())
        metric, floor = (
            metric_of(group),
            group["floor/val"].iloc[0] if "floor/val" in group else np.nan,
        )
        at_floor = np.isclose(cells["score"], floor, atol=0).mean()
        worst = "chance" if metric.chance is not None else "the worst value"
        shares = _importance(cells[names].to_numpy(), metric.sign * cells["score"].to_numpy())
        for (kind, function), by_axes in shares.items():
            notes = {
                f"{len(trials)} trials are too few, or all alike": np.isnan(
                    [*by_axes.values()]
                ).all(),
                f"{at_floor:.0%} of trials at {worst} weigh in": kind == "global" and at_floor,
            }
            about = key | {"kind": kind, "method": function, "trials": len(trials)}
            about["notes"] = joined(notes)
            rows += [
                about | {"hyperparameter": " x ".join(names[i] for i in axes), "share": share}
                for axes, share in by_axes.items()
            ]
    columns = [*by, "kind", "hyperparameter", "share", "method", "trials", "notes"]
    return pd.DataFrame(rows, columns=columns)


def _drawn(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["sampler"] == "random"] if "sampler" in runs else runs.iloc[:0]


def _signed_bounds(metric: Metric) -> tuple[float, float]:
    """What a score, higher is better, cannot leave."""
    low, high = sorted(metric.sign * end for end in metric.bounds)
    return low, high


def scores_per(group: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Scores, higher is better, of the best trial at each setting of names: ``[settings, S]``."""
    best = selection.best_trials(selection.trials(group, by=names), by=names)
    scored = group.assign(score=signs(group) * selection.score(group))
    chosen = scored.merge(best[[*names, "trial"]], on=[*names, "trial"]).dropna(subset="score")
    return chosen.groupby([*names, "seed"])["score"].mean().unstack("seed")


def repetitions(group: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and test scores, higher is better, of trials by seeds: ``[N, S]`` each.

    Only seeds that more than half of the trials have; without any, one column of means.
    """
    scored = group.assign(
        score=signs(group) * selection.score(group),
        test=signs(group) * selection.score(group, "test"),
    ).dropna(subset="score")
    table = scored.groupby(["trial", "seed"])[["score", "test"]].mean()
    scores, test = table["score"].unstack("seed"), table["test"].unstack("seed")
    common = scores.columns[scores.notna().mean() > 0.5]
    if len(common):
        return scores[common], test[common]
    return scores.mean(axis=1).to_frame("mean"), test.mean(axis=1).to_frame("mean")


def _trials_of_each(scores: pd.DataFrame) -> int:
    """How many trials every seed has at least."""
    return int(scores.notna().sum().min())


def _curves(scores: pd.DataFrame, test: pd.DataFrame, k: np.ndarray) -> np.ndarray:
    """Of each seed's best of k trials: mean score, mean test score, spread: ``[3, S, K]``."""
    seeds = list(zip(scores.to_numpy().T, test.to_numpy().T, strict=True))
    return np.array(
        [
            [budget.expected_best(score, k, replacement=False) for score, _ in seeds],
            [budget.expected_best(score, k, replacement=False, of=t) for score, t in seeds],
            [budget.spread_of_best(score, k, replacement=False) for score, _ in seeds],
        ]
    )


def _search_notes(scores: pd.DataFrame) -> str:
    few = len(scores) < budget.FEWEST_DRAWN
    return joined(
        {
            f"only {len(scores)} trials drawn: no interval": few,
            "trials have different seeds: their means are used": "mean" in scores,
        }
    )


def _budgets(trials: int) -> np.ndarray:
    """1 to 30, then about 30 more in equal ratios, up to the number of trials."""
    k = np.arange(1, min(trials, 30) + 1)
    return np.unique(np.append(k, np.geomspace(k[-1], trials, 30).round().astype(int)))


def _importance(
    settings: np.ndarray, scores: np.ndarray
) -> dict[tuple[str, str], dict[tuple[int, ...], float]]:
    """Shares by sets of axes, under their kind and the function that they come from."""
    if not budget.fills_a_grid(settings):
        effects = importance.main_effects(settings, scores)
        around = importance.local_shares_of_surrogate(settings, scores)
        return {
            ("global", "main_effects"): _by_axis(effects),
            ("local", "local_shares_of_surrogate"): _by_axis(around),
        }
    levels = [np.unique(column, return_inverse=True) for column in settings.T]
    grid = np.full([len(values) for values, _ in levels], np.nan)
    grid[tuple(index for _, index in levels)] = scores
    around = importance.local_shares(grid)
    if np.isnan(grid).any():
        effects = importance.main_effects(settings, scores)
        everywhere = {("global", "main_effects"): _by_axis(effects)}
    else:
        everywhere = {("global", "variance_shares"): importance.variance_shares(grid)}
    return everywhere | {("local", "local_shares"): _by_axis(around)}


def _by_axis(shares: np.ndarray) -> dict[tuple[int, ...], float]:
    return {(axis,): float(share) for axis, share in enumerate(shares)}
