"""Every difference that a report mentions, in one table, under one correction.

A sentence that says of two things that one is better asserts a row of this table. The chance that a
report makes any false one is held at 5 % by Holm's method over all rows that were tested, whatever
they are about; what could not have been told apart is not tested, and says why.
"""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bench.analysis import selection, significance
from bench.analysis.intervals import FEWEST, jackknife_error, means_without_each, t_quantile
from bench.analysis.selection import groups, metric_of
from bench.analysis.sensitivity import good_region
from bench.analysis.tables.tuning import drawn_together, repetitions, scores_per, searched_alike

CLEAR = 0.05
COLUMNS = [
    *("workload", "quantity", "group", "x", "y", "pairs"),
    *("difference", "low", "high", "p", "why_not"),
]
Row = dict[str, Any]


def differences(
    runs: pd.DataFrame, *, method: str = "optimizer", delta: float = 0.01
) -> pd.DataFrame:
    """The differences between methods on each workload, in four quantities.

    - ``test``: the test score at the selected setting, paired by seed, in the metric's units.
    - ``steps``: log2 of the steps to the target at the fastest setting, paired by seed; a seed that
      never gets there counts as all of its steps, which it took at least.
    - ``width``: decades of good learning rates, within delta of the best, paired by seed.
    - ``budget``: the score of one drawn trial, mean over seeds.

    ``difference`` is x - y, with its 95 % t interval, by the jackknife for widths and Welch's for
    drawn trials. ``p`` is two-sided and not corrected (``corrected`` does); NaN where the two were
    not compared, for the reason in ``why_not``: fewer than three seeds, unequal numbers of
    settings, a region that the values tried cut off, values at other distances, unequal numbers of
    draws.
    """
    rows: list[Row] = []
    for key, on_workload in groups(runs, ["workload"]):
        of = {one[method]: group for one, group in groups(on_workload, [method])}
        for x, y in combinations(of, 2):
            about = {**key, "group": "", "x": x, "y": y}
            for quantity, compare in QUANTITIES.items():
                found = compare(of[x], of[y], delta)
                if found is not None:
                    rows.append({**about, "quantity": quantity, **found})
    return pd.DataFrame(rows, columns=COLUMNS)


def corrected(*tables: pd.DataFrame) -> pd.DataFrame:
    """All tables as one, with ``p_holm``: Holm's correction over all of their rows with a p."""
    filled = [table for table in tables if len(table)] or [pd.DataFrame(columns=COLUMNS)]
    table = pd.concat(filled, ignore_index=True)
    return table.assign(p_holm=significance.holm(table["p"].to_numpy(dtype=float)))


def _compare_tests(x: pd.DataFrame, y: pd.DataFrame, delta: float) -> Row | None:
    scores = [_selected(group) for group in (x, y)]
    if any(table.empty for table in scores):
        return None
    return _paired(*scores, why_not=_unequal(x, y))


def _compare_times(x: pd.DataFrame, y: pd.DataFrame, delta: float) -> Row | None:
    times = [_fastest(group) for group in (x, y)]
    if any(table is None for table in times):
        return None
    logs = [np.log2(table["time"]) for table in times if table is not None]
    reached = sum(int(table["reached"].sum()) for table in times if table is not None)
    if not reached:
        return None
    return _paired(*logs, why_not=_unequal(x, y))


def _compare_widths(x: pd.DataFrame, y: pd.DataFrame, delta: float) -> Row | None:
    if any("lr" not in g or g["lr"].nunique() < 2 or drawn_together(g) for g in (x, y)):
        return None
    tables = [scores_per(group[group["lr"] > 0], ["lr"]) for group in (x, y)]  # [V, S]
    if any(len(table) < 2 for table in tables):
        return None
    seeds = [seed for seed in tables[0] if seed in tables[1]]
    relative = metric_of(x).relative
    whole, without, cut = [], [], []
    for table in tables:
        values, scores = table.index.to_numpy(dtype=float), table[seeds].to_numpy()
        means = np.vstack([table[seeds].mean(axis=1), means_without_each(scores)])
        region = good_region(values, means, delta, relative=relative)
        whole.append(region.width[0])
        without.append(region.width[1:])
        cut.append(bool(region.open_low[0] or region.open_high[0]))
    gaps = [np.diff(np.log10(table.index.to_numpy(dtype=float))).max() for table in tables]
    why_not = _unequal(x, y)
    if any(cut):
        why_not = "a region reaches the end of the values tried"
    elif max(gaps) > 1.5 * min(gaps):
        why_not = "learning rates at other distances"
    estimate = float(whole[0] - whole[1])
    error, degrees = jackknife_error(without[0] - without[1])
    return _row(estimate, error, degrees, pairs=len(seeds), why_not=why_not)


def _compare_draws(x: pd.DataFrame, y: pd.DataFrame, delta: float) -> Row | None:
    if any("sampler" not in g or not (g["sampler"] == "random").any() for g in (x, y)):
        return None
    means = [repetitions(g[g["sampler"] == "random"])[0].mean(axis=1).dropna() for g in (x, y)]
    if any(part.empty for part in means):
        return None
    sizes = [len(part) for part in means]
    why_not = "" if sizes[0] == sizes[1] else f"{sizes[0]} and {sizes[1]} draws"
    if min(sizes) < FEWEST:
        why_not = f"{min(sizes)} draws"
    estimate = metric_of(x).sign * float(means[0].mean() - means[1].mean())
    without = [means_without_each(part.to_numpy()) for part in means]
    error, degrees = jackknife_error(*without)
    return _row(estimate, error, degrees, pairs=min(sizes), why_not=why_not)


QUANTITIES: Mapping[str, Callable[[pd.DataFrame, pd.DataFrame, float], Row | None]] = {
    "test": _compare_tests,
    "steps": _compare_times,
    "width": _compare_widths,
    "budget": _compare_draws,
}


def _selected(group: pd.DataFrame) -> pd.Series:
    """Test scores of the selected trial by seed."""
    chosen = selection.selected_runs(group, by=["workload"]).dropna(subset="test")
    return chosen.groupby("seed")["test"].mean()


def _fastest(group: pd.DataFrame) -> pd.DataFrame | None:
    """Steps to the target by seed at the trial that is fastest in the median, and whether it was
    reached; None without a target."""
    if "target/step" not in group:
        return None
    known = group[(group["status"] != "failed") & group["target/value"].notna()]
    if known.empty or known["target/value"].nunique() > 1:
        return None
    reached = known["target/step"].notna() & (known["status"] != "diverged")
    longest = known["steps"].max()
    known = known.assign(reached=reached, time=known["target/step"].where(reached, longest))
    known = known[known["time"] > 0]
    by_trial = known.groupby("trial").agg(time=("time", "median"), seeds=("time", "size"))
    competing = by_trial[by_trial["seeds"] > by_trial["seeds"].max() / 2]
    if competing.empty:
        return None
    fastest = competing["time"].idxmin()
    return known[known["trial"] == fastest].set_index("seed")[["time", "reached"]].astype(float)


def _unequal(x: pd.DataFrame, y: pd.DataFrame) -> str:
    """Why the best of one and of the other do not compare, if they do not."""
    counts = [group["trial"].nunique() for group in (x, y)]
    if counts[0] != counts[1]:
        return f"{counts[0]} and {counts[1]} settings tried"
    if not searched_alike(x, y):
        return "settings were chosen in different ways"
    return ""


def _paired(x: pd.Series, y: pd.Series, *, why_not: str) -> Row:
    both = pd.concat([x, y], axis=1, join="inner").to_numpy(dtype=float)
    found = significance.paired(both[:, 0], both[:, 1])
    row = {**found._asdict(), "why_not": why_not or _few(found.pairs)}
    return row | ({"p": np.nan} if row["why_not"] else {})


def _row(estimate: float, error: float, degrees: float, *, pairs: int, why_not: str) -> Row:
    margin = t_quantile(1 - CLEAR / 2, degrees) * error
    row: Row = {"pairs": pairs, "difference": estimate, "low": estimate - margin}
    row |= {"high": estimate + margin, "p": np.nan, "why_not": why_not or _few(pairs)}
    if not row["why_not"] and np.isfinite(error):
        spread = error > 1e-12 * max(abs(estimate), 1e-12)
        t = abs(estimate) / error if spread else 0.0
        none = 1.0 if estimate == 0 else 2.0 ** (1 - pairs)
        row["p"] = float(2 * stats.t.sf(t, degrees)) if spread else none
    return row


def _few(pairs: int) -> str:
    if pairs >= FEWEST:
        return ""
    return "one seed" if pairs == 1 else f"{pairs} seeds" if pairs else "no seed in common"
