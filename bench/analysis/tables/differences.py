"""Every difference that a report mentions, in one table, under one correction.

A sentence that says of two things that one is better asserts a row of this table. The chance that a
report makes any false one is held at 5 % by Holm's method over all rows that were tested, whatever
they are about; what could not have been told apart is not tested, and says why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr

from bench.analysis import selection, significance
from bench.analysis.intervals import FEWEST, jackknife_error, means_without_each, t_quantile
from bench.analysis.selection import groups, metric_of
from bench.analysis.sensitivity import good_region
from bench.analysis.tables.tuning import SEARCHES, drawn_together, repetitions, scores_per
from bench.records import UNFINISHED

CLEAR = 0.05
FEWEST_COMPARED = 20  # draws: with 12, a 95 % interval of their difference covers 89
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

    ``difference`` is x - y, with its 95 % t interval, by the jackknife for widths and unpaired for
    drawn trials. ``p`` is two-sided and not corrected (``corrected`` does); NaN where the two were
    not compared, for the reason in ``why_not``: fewer than three seeds, unequal numbers of
    settings, a region that the values tried cut off, values at other distances, unequal numbers of
    draws.
    """
    rows: list[Row] = []
    for key, on_workload in groups(runs, ["workload"]):
        of = {one[method]: Method(group, delta) for one, group in groups(on_workload, [method])}
        for x, y in combinations(of, 2):
            about = {**key, "group": "", "x": x, "y": y}
            for quantity, compare in QUANTITIES.items():
                found = compare(of[x], of[y])
                if found is not None:
                    rows.append({**about, "quantity": quantity, **found})
    return pd.DataFrame(rows, columns=COLUMNS)


def corrected(*tables: pd.DataFrame) -> pd.DataFrame:
    """All tables as one, with ``p_holm``: Holm's correction over all of their rows with a p."""
    filled = [table for table in tables if len(table)] or [pd.DataFrame(columns=COLUMNS)]
    table = pd.concat(filled, ignore_index=True)
    return table.assign(p_holm=significance.holm(table["p"].to_numpy(dtype=float)))


@dataclass(frozen=True)
class Method:
    """The runs of one method on one workload, with what is compared of them."""

    runs: pd.DataFrame
    delta: float

    @cached_property
    def tests(self) -> pd.Series:
        """Test scores of the selected trial by seed."""
        chosen = selection.selected_runs(self.runs, by=["workload"]).dropna(subset="test")
        return chosen.groupby("seed")["test"].mean()

    @cached_property
    def times(self) -> pd.DataFrame:
        """Steps to the target by seed at the trial that is fastest in the median, and whether it
        was reached; empty without a target."""
        runs, none = self.runs, pd.DataFrame()
        if "target/step" not in runs:
            return none
        known = runs[(~runs["status"].isin(UNFINISHED)) & runs["target/value"].notna()]
        if known.empty or known["target/value"].nunique() > 1:
            return none
        reached = known["target/step"].notna() & (known["status"] != "diverged")
        longest = known["steps"].max()
        known = known.assign(reached=reached, time=known["target/step"].where(reached, longest))
        known = known[known["time"] > 0]
        by_trial = known.groupby("trial").agg(
            time=("time", "median"), reached=("reached", "sum"), seeds=("time", "size")
        )
        competing = by_trial[by_trial["seeds"] > by_trial["seeds"].max() / 2]
        if competing.empty:
            return none
        order = competing.sort_values(["time", "reached"], ascending=[True, False], kind="stable")
        fastest = known[known["trial"] == order.index[0]]
        return fastest.set_index("seed")[["time", "reached"]].astype(float)

    @cached_property
    def rates(self) -> pd.DataFrame:
        """Scores by learning rate and seed: ``[V, S]``; empty where its width means nothing."""
        runs = self.runs
        none = "lr" not in runs or runs["lr"].nunique() < 2 or drawn_together(runs)
        if none or not (runs["status"] == "completed").any():
            return pd.DataFrame()
        return scores_per(runs[runs["lr"] > 0], ["lr"])

    @cached_property
    def draws(self) -> np.ndarray:
        """The mean score of each drawn trial: ``[N]``."""
        runs = self.runs
        drawn = runs[runs["sampler"] == "random"] if "sampler" in runs else runs.iloc[:0]
        if drawn.empty:
            return np.array([])
        return repetitions(drawn)[0].mean(axis=1).dropna().to_numpy()

    @cached_property
    def trials(self) -> int:
        """How many were tried, without those that failed, or were pruned, throughout."""
        return int(self.runs.loc[~self.runs["status"].isin(UNFINISHED), "trial"].nunique())


def _compare_tests(x: Method, y: Method) -> Row | None:
    if x.tests.empty or y.tests.empty:
        return None
    return _paired(x.tests, y.tests, why_not=_unequal(x, y))


def _compare_times(x: Method, y: Method) -> Row | None:
    if x.times.empty or y.times.empty or not (x.times["reached"].any() or y.times["reached"].any()):
        return None
    logs = (np.log2(method.times["time"]) for method in (x, y))
    return _paired(*logs, why_not=_unequal(x, y))


def _compare_widths(x: Method, y: Method) -> Row | None:
    tables = [x.rates, y.rates]
    if any(len(table) < 2 for table in tables):
        return None
    seeds = [seed for seed in tables[0] if seed in tables[1]]
    relative = metric_of(x.runs).relative
    values = [table.index.to_numpy(dtype=float) for table in tables]
    regions = [
        good_region(
            tried,
            np.vstack([table[seeds].mean(axis=1), means_without_each(table[seeds].to_numpy())]),
            x.delta,
            relative=relative,
        )
        for tried, table in zip(values, tables, strict=True)
    ]
    gaps = [np.diff(np.log10(tried)).max() for tried in values]
    why_not = _searched(x, y)
    if any(region.open_low[0] or region.open_high[0] for region in regions):
        why_not = "a region reaches the end of the values tried"
    elif max(gaps) > 1.5 * min(gaps):
        why_not = "learning rates at other distances"
    width = regions[0].width - regions[1].width
    error, degrees = jackknife_error(width[1:])
    return _row(float(width[0]), error, degrees, pairs=len(seeds), why_not=why_not)


def _compare_draws(x: Method, y: Method) -> Row | None:
    if not x.draws.size or not y.draws.size:
        return None
    sizes = sorted((x.draws.size, y.draws.size))
    why_not = "" if sizes[0] == sizes[1] else f"{sizes[1]} draws against {sizes[0]}"
    if sizes[0] < FEWEST_COMPARED:
        why_not = f"fewer than {FEWEST_COMPARED} draws"
    estimate = metric_of(x.runs).sign * float(x.draws.mean() - y.draws.mean())
    error, _ = jackknife_error(means_without_each(x.draws), means_without_each(y.draws))
    degrees = sizes[0] - 1  # scores of draws are skew: Welch's, which are more, cover too little
    return _row(estimate, error, degrees, pairs=sizes[0], why_not=why_not, of="draw")


QUANTITIES: Mapping[str, Callable[[Method, Method], Row | None]] = {
    "test": _compare_tests,
    "steps": _compare_times,
    "width": _compare_widths,
    "budget": _compare_draws,
}


def _unequal(x: Method, y: Method) -> str:
    """Why the best of one and of the other do not compare, if they do not."""
    fewer, more = sorted((x.trials, y.trials))
    if fewer != more:
        return f"{more} settings tried against {fewer}"
    return _searched(x, y)


def _searched(*methods: Method) -> str:
    if any("sampler" in m.runs and m.runs["sampler"].isin(SEARCHES).any() for m in methods):
        return "the outcome of a search, which other draws would change"
    return ""


def _paired(x: pd.Series, y: pd.Series, *, why_not: str) -> Row:
    both = pd.concat([x, y], axis=1, join="inner").to_numpy(dtype=float)
    found = significance.paired(both[:, 0], both[:, 1])
    row = {**found._asdict(), "why_not": why_not or _few(found.pairs)}
    return row | ({"p": np.nan} if row["why_not"] else {})


def _row(
    estimate: float, error: float, degrees: float, *, pairs: int, why_not: str, of: str = "seed"
) -> Row:
    margin = t_quantile(1 - CLEAR / 2, degrees) * error
    row: Row = {"pairs": pairs, "difference": estimate, "low": estimate - margin}
    row |= {"high": estimate + margin, "p": np.nan, "why_not": why_not or _few(pairs, of)}
    if not row["why_not"] and np.isfinite(error):
        spread = error > 1e-12 * max(abs(estimate), 1e-12)
        t = abs(estimate) / error if spread else 0.0
        none = 1.0 if estimate == 0 else 2.0 ** (1 - pairs)
        row["p"] = float(2 * stdtr(degrees, -t)) if spread else none
    return row


def _few(pairs: int, of: str = "seed") -> str:
    if pairs >= FEWEST:
        return ""
    return f"{pairs} {of}s" if pairs > 1 else f"one {of}" if pairs else f"no {of} in common"
