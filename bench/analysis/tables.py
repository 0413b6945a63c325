"""Each statistic applied to a study's table: one function a question, a tidy table its answer.

``notes`` columns say in words what a reader must know before trusting a row.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.analysis import selection
from bench.analysis.selection import ACCURACY, GROUP, Metric
from bench.analysis.sensitivity import good_region


def response(
    runs: pd.DataFrame,
    metric: Metric = ACCURACY,
    *,
    name: str = "lr",
    by: Sequence[str] = GROUP,
) -> pd.DataFrame:
    """The score at each value of one hyperparameter, the others at their best for that value.

    Returns:
        One row for each group and value, ascending: the columns of ``selection.trials`` for the
        trial that ``selection.best_trials`` picks there; where every run diverged, for a diverged
        trial. Besides, ``low`` and ``high``: the least and the greatest score of that trial's
        seeds; ``share_diverged``: of all runs with that value, whatever the other hyperparameters.
        A value of which no run has a score has no row.
    """
    keys = [*by, name]
    table = selection.trials(runs, metric, by=keys)
    picked = selection.best_trials(table, metric, by=keys)
    table = table[table["seeds"] > 0]
    rest = pd.concat([picked, table]).drop_duplicates(keys)
    scores = runs.assign(score=selection.score(runs, metric), lost=runs["status"] == "diverged")
    ends = scores.groupby([*keys, "trial"])["score"].agg(low="min", high="max")
    lost = scores.groupby(keys)["lost"].mean().rename("share_diverged")
    joined = rest.merge(ends, on=[*keys, "trial"]).merge(lost, on=keys)
    return joined.sort_values(keys, ignore_index=True)


def sensitivity(
    runs: pd.DataFrame,
    metric: Metric = ACCURACY,
    *,
    rng: np.random.Generator,
    name: str = "lr",
    deltas: Sequence[float] = (0.005, 0.01, 0.02, 0.05),
    by: Sequence[str] = GROUP,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How wide the region of good values of one hyperparameter is, for several tolerances.

    The region is ``good_region`` of ``response``. The interval of its width is a percentile
    bootstrap over seeds (Efron & Tibshirani 1993, chapter 13): whole seeds are drawn with
    replacement, the same for every value; NaN with one seed. It speaks of other seeds, not of a
    finer grid.

    Returns:
        One row for each group and delta: ``delta``, ``best`` (the value with the best mean score),
        ``score``, the fields of ``GoodRegion``, ``width_low``, ``width_high``, ``values`` (how many
        were tried), ``largest_gap`` (decades between neighbours, at most), ``seeds``,
        ``share_diverged`` (of the group's runs), ``notes``. Values of 0 have no logarithm and are
        left out.
    """
    if name not in runs:
        return pd.DataFrame()
    positive = runs[runs[name] > 0]
    curve = response(positive, metric, name=name, by=by)
    scored = positive.assign(score=metric.sign * selection.score(positive, metric))
    chosen = scored.merge(curve[[*by, name, "trial"]], on=[*by, name, "trial"])
    diverged = (positive["status"] == "diverged").groupby([positive[key] for key in by]).mean()
    rows = []
    for key, group in chosen.groupby(list(by), sort=True):
        scores = group.pivot_table(index=name, columns="seed", values="score")  # [V, S]
        values, seeds = scores.index.to_numpy(), scores.shape[1]
        mean = scores.mean(axis=1).to_numpy()
        resampled = _resampled_means(scores.to_numpy(), rng, resamples)  # [B, V]
        gap = float(np.diff(np.log10(values)).max(initial=0))
        steps = np.diff(np.log10(values))
        for delta in deltas:
            region = good_region(values, mean, delta)
            low, high = np.full(2, np.nan)
            if seeds > 1:
                widths = good_region(values, resampled, delta).width
                tail = (1 - confidence) / 2
                low, high = np.nanquantile(widths, [tail, 1 - tail])
            notes = []
            if np.all(mean == metric.sign * metric.chance):
                notes.append("no run did better than chance")
            if region.open_low or region.open_high:
                notes.append("reaches the end of the grid: the width is a lower bound")
            if region.pieces > 1:
                notes.append(f"in {region.pieces} pieces")
            if steps.size and gap > 1.5 * np.median(steps):
                notes.append(f"a gap of {gap:.2f} decades in the grid")
            if seeds == 1:
                notes.append("one seed")
            row = dict(zip(by, key, strict=True)) | {"delta": delta}
            row |= {"best": values[mean.argmax()], "score": metric.sign * mean.max()}
            row |= {field: value.item() for field, value in region._asdict().items()}
            row |= {"width_low": low, "width_high": high, "values": len(values)}
            row |= {"largest_gap": gap, "seeds": seeds, "share_diverged": diverged[key]}
            rows.append(row | {"notes": "; ".join(notes)})
    return pd.DataFrame(rows)


def _resampled_means(scores: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Means over seeds drawn with replacement: ``[V, S] -> [B, V]``; NaN if none drawn has one."""
    seeds = scores.shape[1]
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)  # [B, S]
    known = np.isfinite(scores)
    count = drawn @ known.T
    total = drawn @ np.where(known, scores, 0.0).T
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
