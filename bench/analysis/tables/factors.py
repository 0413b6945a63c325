"""What was varied on purpose, beside optimizer, learning rate and seed, and what it is worth.

A factor is a setting whose values were tried under the same values of the others. Settings that
were drawn or proposed, each trial with its own of all of them, are none: they answer for a budget.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.analysis import selection, significance
from bench.analysis.intervals import FEWEST, jackknife_error, t_quantile
from bench.analysis.selection import groups, metric_of
from bench.analysis.sensitivity import good_region, tolerance
from bench.analysis.tables.differences import COLUMNS
from bench.analysis.tables.tuning import SEARCHES

PAIR = ("workload", "optimizer")
PLAIN = ("constant", "none", "default", "False")  # choices that do nothing: others are held to them
DELTA = 0.01  # how far from the best is still good, as `sensitivity.tolerance` has it


def varied(runs: pd.DataFrame, settings: Sequence[str] | None = None) -> pd.DataFrame:
    """The factors of each workload and optimizer, in the order of ``settings``.

    Args:
        settings: the columns that vary, ``lr`` among them if it does; by default all that hold
            numbers.

    Returns:
        One row each: ``workload``, ``optimizer``, ``factor``, ``kind`` ("choice", "number").
    """
    if "sampler" in runs:
        runs = runs[~runs["sampler"].isin(SEARCHES)]
    settings = selection.hyperparameters(runs) if settings is None else settings
    rows = []
    for name in settings:
        if name == "lr":
            continue
        kind = "number" if pd.api.types.is_numeric_dtype(runs[name]) else "choice"
        others = [other for other in settings if other != name]
        rows += [
            key | {"factor": name, "kind": kind}
            for key, group in groups(runs, PAIR)
            if _is_crossed(group, name, others)
        ]
    return pd.DataFrame(rows, columns=[*PAIR, "factor", "kind"])


def reference(runs: pd.DataFrame, name: str) -> str:
    """The value of a choice that the others are held to: one that does nothing, such as a constant
    schedule, else the one that most trials have."""
    values = runs.drop_duplicates([*PAIR, "trial"])[name].dropna().astype(str)
    plain = [value for value in PLAIN if value in set(values)]
    return plain[0] if plain else str(values.mode().iloc[0])


def factor_differences(runs: pd.DataFrame, settings: Sequence[str] | None = None) -> pd.DataFrame:
    """What the values of each factor are worth, in pairs of runs that share a seed.

    Of a choice: the test score at each value less that at ``reference``, for each optimizer, all
    other settings at their best for the value by validation, in the metric's units
    (``quantity``: "test by schedule", ``group``: the optimizer). Of a number of the optimizer: the
    width of its good values (`regions`) under one optimizer less that under another ("good
    weight_decay", no group).

    Returns:
        As ``tables.differences``, to be corrected with them.
    """
    found = varied(runs, settings)
    rows = []
    for (workload, name), among in found.groupby(["workload", "factor"], sort=False):
        on_workload = runs[(runs["workload"] == workload) & runs[name].notna()]
        own = {
            optimizer: on_workload[on_workload["optimizer"] == optimizer]
            for optimizer in among["optimizer"]
        }
        if among["kind"].iloc[0] == "choice":
            held_to = reference(pd.concat(own.values()), str(name))
            for optimizer, group in own.items():
                scores = at_values(group, str(name), "test")
                for value in scores.index.drop(held_to, errors="ignore"):
                    if held_to in scores.index:
                        about = (workload, f"test by {name}", optimizer, value, held_to)
                        rows.append((*about, *_paired(scores.loc[value], scores.loc[held_to])))
            continue
        widths = {optimizer: widths_by_seed(group, str(name)) for optimizer, group in own.items()}
        for x, y in combinations(widths, 2):
            rows.append((workload, f"good {name}", "", x, y, *_paired(widths[x], widths[y])))
    return pd.DataFrame(rows, columns=COLUMNS)


def at_values(group: pd.DataFrame, name: str, split: selection.Split) -> pd.DataFrame:
    """Scores in the metric's units at each value of a setting, all others at their best for it by
    validation: values by seeds."""
    group = group[group[name].notna()]
    best = selection.best_trials(selection.trials(group, by=[name]), by=[name])
    scored = group.assign(score=selection.score(group, split))
    chosen = scored.merge(best[[name, "trial"]], on=[name, "trial"]).dropna(subset="score")
    return chosen.groupby([name, "seed"])["score"].mean().unstack("seed")


class Region(NamedTuple):
    """The values of a setting within ``DELTA`` of the best, on validation.

    Attributes:
        width: in decades of a setting that spans them, else in its own units; of values above 0.
        low, high: its ends; open_low, open_high: whether these are ends of the values tried.
        best: the value with the best mean score.
        tried: the least and the greatest value tried.
        decades: whether width is in decades.
    """

    width: float
    low: float
    high: float
    open_low: bool
    open_high: bool
    best: float
    tried: tuple[float, float]
    decades: bool


def regions(runs: pd.DataFrame, name: str) -> dict[str, Region]:
    """The good region of a number under each optimizer of a workload, of means over seeds."""
    found = {}
    for optimizer, group in runs[runs[name].notna()].groupby("optimizer", sort=True):
        scores = _signed(group, name)
        if len(scores) > 1:
            found[str(optimizer)] = _region(scores.mean(axis=1), metric_of(group).relative)
    return found


def widths_by_seed(group: pd.DataFrame, name: str) -> pd.Series:
    """The width of each seed's own good region: ``[S]``, of seeds that have all values."""
    scores, relative = _signed(group, name).dropna(axis=1), metric_of(group).relative
    return pd.Series({seed: _region(scores[seed], relative).width for seed in scores}, dtype=float)


def best_rates(group: pd.DataFrame, name: str) -> pd.DataFrame:
    """The best learning rate at each value of another setting, by validation, of one optimizer.

    Returns:
        One row a value, ascending: ``name``, ``lr`` (the one with the best mean score), ``edge``
        ("lowest" or "highest" where it is an end of those tried, else None), ``place`` (log10 of
        the best rate, between those tried: the top of the parabola through the best and its
        neighbours), ``gap`` (decades to the farther neighbour), and ``without``: for each seed, the
        place if that seed is left out.
    """
    rows = []
    for value, at in group[group["lr"].gt(0) & group[name].notna()].groupby(name, sort=True):
        scores = _signed(at, "lr")
        if len(scores) < 2:
            continue
        rates = scores.index.to_numpy(dtype=float)
        mean = scores.mean(axis=1).to_numpy()
        best = int(mean.argmax())
        near = np.log10(rates[max(best - 1, 0) : best + 2])
        without = {
            seed: _top(rates, scores.drop(columns=seed).mean(axis=1).to_numpy())
            for seed in (scores if scores.shape[1] > 1 else ())
        }
        rows.append(
            (
                *(value, rates[best], selection.edge(rates, rates[best])),
                *(_top(rates, mean), np.diff(near).max(), without),
            )
        )
    return pd.DataFrame(rows, columns=[name, "lr", "edge", "place", "gap", "without"])


def exponent(rates: pd.DataFrame, name: str) -> tuple[float, float, float]:
    """The power of ``name`` that the best learning rate goes with: an estimate and its interval.

    The slope of least squares through ``best_rates`` on logarithmic scales. The interval is a
    jackknife over seeds, widened as if each rate were anywhere within half a gap of the grid around
    its place: between two rates that were tried, seeds alone cannot tell.
    """
    x = np.log10(rates[name].to_numpy(dtype=float))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    slope = float(weights @ rates["place"].to_numpy())
    seeds = set.intersection(*(set(without) for without in rates["without"]))
    left = [weights @ [without[seed] for without in rates["without"]] for seed in sorted(seeds)]
    error, degrees = jackknife_error(np.array(left))
    grid = np.sqrt((weights**2) @ rates["gap"] ** 2 / 12)
    margin = np.hypot(t_quantile(0.975, degrees) * error, t_quantile(0.975, np.inf) * grid)
    return slope, slope - float(margin), slope + float(margin)


def seeds_needed(row: pd.Series, tests: int) -> int:
    """How many pairs a t test needs to find a row of ``differences`` in four of five studies, if
    it is one of so many tests (Bonferroni): 5, 10, 20, 30, or 0 where more would be needed."""
    half, pairs = (row["high"] - row["low"]) / 2, int(row["pairs"])
    deviation = half / t_quantile(0.975, pairs - 1) * np.sqrt(pairs)
    for more in (5, 10, 20, 30):
        needed = t_quantile(1 - 0.025 / max(tests, 1), more - 1) + t_quantile(0.8, more - 1)
        if more > pairs and abs(row["difference"]) >= needed * deviation / np.sqrt(more):
            return more
    return 0


def _paired(x: pd.Series, y: pd.Series) -> tuple[int, float, float, float, float, str]:
    """Over the seeds that both have, and why not, as the last of ``COLUMNS``."""
    found = significance.paired(*x.align(y, join="inner"))
    few = f"{found.pairs} seeds" if found.pairs != 1 else "one seed"
    return *found, "" if found.pairs >= FEWEST else few


def _is_crossed(group: pd.DataFrame, name: str, others: Sequence[str]) -> bool:
    """Whether at least half of the trials have another that differs from them in ``name`` only; in
    a grid, where each value may have learning rates of its own, in these, too."""
    trials = group.drop_duplicates("trial")
    if trials[name].nunique() < 2:
        return False
    if "sampler" in trials and (trials["sampler"] == "grid").all():
        others = [other for other in others if other != "lr"]
    rest = trials[list(others)].astype(object)
    alike = list(map(tuple, rest.where(rest.notna(), "").to_numpy().tolist()))
    values = trials[name].astype(str).groupby(pd.Series(alike, index=trials.index))
    return bool((values.transform("nunique") > 1).mean() >= 0.5)


def _signed(group: pd.DataFrame, name: str) -> pd.DataFrame:
    return metric_of(group).sign * at_values(group, name, "val")


def _region(scores: pd.Series, relative: bool) -> Region:
    values, f = scores.index.to_numpy(dtype=float), scores.to_numpy(dtype=float)
    tried = float(values.min()), float(values.max())
    top = float(np.nanmax(f)) if np.isfinite(f).any() else np.nan
    best = float(values[np.nanargmax(f)]) if np.isfinite(f).any() else np.nan
    positive = values > 0
    decades = bool((values >= 0).all() and positive.sum() > 1)
    decades = decades and tried[1] >= 10 * values[positive].min()
    if decades:
        scale, start = 1.0, 0.0
        kept, f = values[positive], f[positive]
        at = kept
    else:
        scale, start = tried[1] - tried[0], tried[0]
        kept, at = values, 10 ** ((values - start) / scale)  # a decade is the whole range
    within = np.nanmax(f) - top + float(tolerance(np.array(top), DELTA, relative=relative))
    if not within >= 0:  # the best is at 0, and nothing above it is as good
        return Region(0.0, best, best, False, False, best, tried, decades)
    region = good_region(at, f, within)
    low, high = float(region.low), float(region.high)
    if not decades:
        low, high = (start + scale * np.log10(end) for end in (low, high))
    open_low = bool(region.open_low)
    if decades and not positive.all() and open_low:  # and 0 is good, or not
        zero = float(scores.iloc[int(np.flatnonzero(~positive)[0])])
        good = zero >= top - float(tolerance(np.array(top), DELTA, relative=relative))
        low, open_low = (0.0 if good else low), False
    return Region(
        scale * float(region.width),
        low,
        high,
        open_low,
        bool(region.open_high),
        best,
        tried,
        decades,
    )


def _top(rates: np.ndarray, scores: np.ndarray) -> float:
    """Where the parabola through the best score and its neighbours has its top, in log10; the best
    itself at an end."""
    best = int(np.nanargmax(scores))
    x = np.log10(rates)
    if not 0 < best < len(rates) - 1 or np.isnan(scores[best - 1 : best + 2]).any():
        return float(x[best])
    (a, b, c), (u, v, w) = x[best - 1 : best + 2], scores[best - 1 : best + 2]
    left, right = (v - u) / (b - a), (w - v) / (c - b)
    if left - right <= 0:
        return float(b)
    top = (a + b) / 2 + left * (c - a) / 2 / (left - right)
    return float(np.clip(top, (a + b) / 2, (b + c) / 2))
