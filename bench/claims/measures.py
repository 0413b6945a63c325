"""What claims measure of a study: effects with intervals, each from runs that are paired by seed.

Settings are selected on the validation split, as in a report, and compared on the test split, or by
what training does. Each function gives its parts, and the lines of a figure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench import records
from bench.analysis import selection
from bench.analysis.interaction import rectangle_distance
from bench.analysis.intervals import Interval, jackknife_interval, mean_interval, means_without_each
from bench.analysis.selection import metric_of
from bench.analysis.sensitivity import good_region
from bench.analysis.significance import paired
from bench.analysis.tables.tuning import response, scores_per
from bench.claims.claim import Part
from bench.claims.measured import Line, Measured, Picture
from bench.errors import BenchError
from bench.settings.workloads import workload_of
from bench.study import Study

FEWEST_CELLS = 3  # of a good region of which the shape is compared


def at_best(
    study: Study,
    confidence: float,
    *,
    better: str,
    worse: str,
    by: str = "optimizer",
    only: str = "",
    value: str = "",
    ratio: bool = False,
    drawn: bool = True,
) -> Measured:
    """``better`` against ``worse``, two values of the column ``by``, each at the setting that
    validates best: the difference of their test metrics, or of what ``value`` names, paired over
    seeds; in points where it is a fraction. As a ``ratio``, the geometric mean of
    ``worse / better`` for what should be low.

    Args:
        only: the optimizers that are looked at, each by itself, where ``by`` is another column.
        drawn: whether there are to be pictures.
    """
    parts, pictures, cut_off = [], [], list[str]()
    for workload, runs in _workloads(study, only):
        groups = {name: runs[_said(runs[by]) == name] for name in (better, worse)}
        _need(groups, f"{by} on {workload}")
        metric = metric_of(runs)
        chosen = {
            name: selection.selected_runs(group, by=["workload", "optimizer"]).set_index("seed")
            for name, group in groups.items()
        }
        column = value or "test"
        cut_off += [f"{name} on {workload}" for name, group in groups.items() if _at_an_end(group)]
        x, y = (chosen[name][column].astype(float) for name in (better, worse))
        x, y = x.align(y, join="inner")
        if ratio:
            found = paired(np.log(y.to_numpy()), np.log(x.to_numpy()), confidence)
            ends = np.exp([found.difference, found.low, found.high])
        else:
            sign = -1 if value.endswith("loss") else metric.sign
            scale = 100 if metric.unit == "fraction" and not value.endswith("loss") else 1
            found = paired(x.to_numpy(), y.to_numpy(), confidence)
            ends = sign * scale * np.array([found.difference, found.low, found.high])
            ends = ends if sign > 0 else ends[[0, 2, 1]]
        parts.append(Part(workload, *map(float, ends)))
        if drawn:
            pictures.append(_responses(workload, runs, by, (better, worse)))
    note = "The best learning rate is the end of those tried: " + ", ".join(cut_off) + "."
    return Measured(parts, pictures, note if cut_off else "")


def width(
    study: Study,
    confidence: float,
    *,
    more: str,
    less: str,
    delta: float,
    name: str = "lr",
    drawn: bool = True,
) -> Measured:
    """Over how many more decades of a hyperparameter ``more`` stays within ``delta`` of its best
    mean score than ``less``, on grids of equal span; the interval is the jackknife's over seeds."""
    parts, pictures = [], []
    for workload, runs in _workloads(study):
        groups = {key: runs[runs["optimizer"] == key] for key in (more, less)}
        _need(groups, f"optimizer on {workload}")
        metric, whole, without = metric_of(runs), {}, {}
        for key, group in groups.items():
            scores = scores_per(group, [name])  # [V, S]
            values = scores.index.to_numpy(dtype=float)
            each = means_without_each(scores.to_numpy())
            mean, relative = scores.mean(axis=1).to_numpy(), metric.relative
            whole[key] = float(good_region(values, mean, delta, relative=relative).width)
            without[key] = good_region(values, each, delta, relative=relative).width
        if without[more].size != without[less].size:
            raise BenchError(f"{workload}: {more} and {less} have different seeds")
        estimate = whole[more] - whole[less]
        found = jackknife_interval(estimate, without[more] - without[less], confidence=confidence)
        parts.append(Part(workload, *found))
        if drawn:
            pictures.append(_responses(workload, runs, "optimizer", (more, less)))
    return Measured(parts, pictures)


def steps(
    study: Study,
    confidence: float,
    *,
    faster: str,
    slower: str,
    by: str = "optimizer",
    only: str = "",
    examples: bool = False,
) -> Measured:
    """How many times as many steps ``slower`` takes to the target as ``faster``, or, with
    ``examples``, as many training examples. Of each, the setting is that which takes fewest on half
    of the seeds; they are compared on the other half, and a part with a run that does not get there
    has no interval."""
    parts, pictures = [], []
    for workload, runs in _workloads(study, only):
        groups = {name: runs[_said(runs[by]) == name] for name in (faster, slower)}
        _need(groups, f"{by} on {workload}")
        seeds = sorted(runs["seed"].unique())
        chosen = {}
        for name, group in groups.items():
            taken = _taken(study, group, examples)
            first, second = (taken[taken["seed"].isin(seeds[half::2])] for half in (0, 1))
            order = first.groupby("trial")["taken"].mean().sort_values(kind="stable")
            best = second[second["trial"] == order.index[0]]
            chosen[name] = best.set_index("seed")["taken"]
        x, y = chosen[slower].align(chosen[faster], join="inner")
        if np.isfinite(x).all() and np.isfinite(y).all():
            found = paired(np.log(x.to_numpy()), np.log(y.to_numpy()), confidence)
            ends = np.exp([found.difference, found.low, found.high])
        else:
            ends = np.full(3, np.nan)
        parts.append(Part(workload, *map(float, ends)))
        lines = [
            Line(name, *_by_lr(_taken(study, group, examples))) for name, group in groups.items()
        ]
        what = "examples" if examples else "steps"
        pictures.append(
            Picture("learning rate", f"{what} to the target", lines, True, True, workload)
        )
    return Measured(parts, pictures)


def slope(study: Study, confidence: float, *, over: str, of: str, only: str = "") -> Measured:
    """The exponent a of steps to the target ~ x^a, where x is the number ``over`` in the names of
    the workloads' variants, for each optimizer in ``of``: by least squares on logarithms, for each
    seed, each at the learning rate that takes fewest steps there."""
    parts, lines = [], []
    for optimizer in of.split(","):
        curves: dict[float, pd.Series] = {}
        for workload, runs in _workloads(study, optimizer):
            x = float(_number(over, workload))
            taken = _taken(study, runs, False).pivot_table(
                index="seed", columns="trial", values="taken", aggfunc="mean"
            )
            curves[x] = taken.min(axis=1)
        table = pd.DataFrame(dict(sorted(curves.items())))  # [S, X]
        finite = np.isfinite(table.to_numpy()).all()
        logs = np.log(table.to_numpy()) if finite else np.full(table.shape, np.nan)
        x = np.log(np.array(table.columns, dtype=float))
        found = (
            mean_interval(np.polyfit(x, logs.T, 1)[0], confidence)
            if finite and len(x) > 1
            else Interval(np.nan, np.nan, np.nan)
        )
        parts.append(Part(optimizer, *found))
        lines.append(Line(optimizer, list(table.columns), list(table.mean())))
    picture = Picture(over, "steps to the target", lines, True, True)
    return Measured(parts, [picture])


def default_is_good(
    study: Study, confidence: float, *, values: str, only: str = "adam", name: str = "lr"
) -> Measured:
    """How much better, in points of the test metric or in per cent of it, the best of all settings
    is than the best of a few default ones, paired over seeds; as a negative number."""
    wanted = [float(value) for value in values.split(",")]
    parts, pictures = [], []
    for workload, runs in _workloads(study, only):
        few = runs[np.isclose(runs[name].to_numpy()[:, None], wanted).any(axis=1)]
        metric = metric_of(runs)
        x, y = (
            selection.selected_runs(group, by=["workload", "optimizer"]).set_index("seed")["test"]
            for group in (few, runs)
        )
        x, y = x.align(y, join="inner")
        found = paired(x.to_numpy(), y.to_numpy(), confidence)
        scale = 100 if metric.unit == "fraction" else 100 / abs(float(y.mean()))
        ends = metric.sign * scale * np.array([found.difference, found.low, found.high])
        ends = ends if metric.sign > 0 else ends[[0, 2, 1]]
        if found.difference == 0 and np.isnan(found.low):
            ends = np.zeros(3)
        parts.append(Part(workload, *map(float, ends)))
        pictures.append(_responses(workload, runs, "optimizer", (only,)))
    return Measured(parts, pictures)


def drawn_trial(
    study: Study, confidence: float, *, better: str, worse: str, drawn: bool = True
) -> Measured:
    """By how much the test metric of one random draw of the settings of ``better`` is expected to
    be better than of ``worse``, in points where it is a fraction; the interval is for other draws,
    by the jackknife."""
    parts, pictures = [], []
    for workload, runs in _workloads(study):
        groups = {name: runs[runs["optimizer"] == name] for name in (better, worse)}
        _need(groups, f"optimizer on {workload}")
        metric = metric_of(runs)
        scale = metric.sign * (100 if metric.unit == "fraction" else 1)
        means = {
            name: scale
            * selection.score(group, "test").groupby(group["trial"]).mean().to_numpy(dtype=float)
            for name, group in groups.items()
        }  # [N]: a run that diverged has the score of a guess
        without = [means[better].mean() - _means_without_one(means[worse])]
        without.append(_means_without_one(means[better]) - means[worse].mean())
        estimate = float(means[better].mean() - means[worse].mean())
        found = jackknife_interval(estimate, *without, confidence=confidence)
        parts.append(Part(workload, *found))
        if drawn:
            lines = [
                Line(name, list(np.arange(1, len(x) + 1) / len(x)), list(abs(np.sort(x)[::-1])))
                for name, x in means.items()
            ]
            unit = " (%)" if metric.unit == "fraction" else ""
            pictures.append(
                Picture("share of the draws", f"test {metric.name}{unit}", lines, False)
            )
    return Measured(parts, pictures)


def coupling(
    study: Study, confidence: float, *, more: str, less: str, delta: float, drawn: bool = True
) -> Measured:
    """How much farther from a rectangle the good region of learning rate and weight decay is for
    ``more`` than for ``less``: Jaccard distances of what is within ``delta`` of the best mean
    validation score, on one grid; the interval is the jackknife's over seeds. A part of which a
    region has fewer than `FEWEST_CELLS` has none: any so small is a rectangle, or near one."""
    parts, pictures, small = [], [], list[str]()
    for workload, runs in _workloads(study):
        whole, without, lines, told = {}, {}, [], True
        for name in (more, less):
            group = runs[runs["optimizer"] == name]
            _need({name: group}, f"optimizer on {workload}")
            scores = scores_per(group, ["lr", "weight_decay"])  # [V, S]
            levels = scores.index.remove_unused_levels().levels
            cells = scores.reindex(pd.MultiIndex.from_product(levels)).to_numpy()
            shape = [len(level) for level in levels]
            relative = metric_of(runs).relative
            each = means_without_each(cells).reshape(-1, *shape)
            mean = cells.mean(axis=1).reshape(shape)
            region = rectangle_distance(mean, delta, relative=relative)
            whole[name] = float(region.distance)
            if region.good < FEWEST_CELLS:
                told = False
                small.append(f"{name} on {workload}")
            without[name] = rectangle_distance(each, delta, relative=relative).distance
            rates, decays = (np.asarray(level, dtype=float) for level in levels)
            lines.append(Line(name, list(rates), list(decays[mean.argmax(axis=1)])))
        estimate = whole[more] - whole[less]
        found = jackknife_interval(estimate, without[more] - without[less], confidence=confidence)
        parts.append(Part(workload, *(found if told else (estimate, np.nan, np.nan))))
        if drawn:
            pictures.append(Picture("learning rate", "best weight decay", lines, True, True))
    note = f"Too few settings are good to tell a shape: {', '.join(small)}." if small else ""
    return Measured(parts, pictures, note)


MEASURES: Mapping[str, Callable[..., Measured]] = {
    function.__name__: function
    for function in (at_best, width, steps, slope, default_is_good, drawn_trial, coupling)
}


def _workloads(study: Study, only: str = "") -> list[tuple[str, pd.DataFrame]]:
    """The runs on each, of each of these optimizers by itself; what a part is called."""
    found = []
    for optimizer in only.split(","):
        runs = study.runs if not only else study.runs[study.runs["optimizer"] == optimizer]
        if runs.empty:
            raise BenchError(f"{study.directory}: has no runs{f' of {only}' if only else ''}")
        for name, group in runs.groupby("workload", sort=True):
            found.append((f"{name}, {optimizer}" if "," in only else str(name), group))
    return found


def _at_an_end(runs: pd.DataFrame) -> bool:
    """Whether the best learning rate is the lowest or the highest of those tried."""
    best = selection.selected_runs(runs, by=["workload", "optimizer"])["lr"]
    return bool(len(best)) and selection.edge(runs["lr"], float(best.iloc[0])) is not None


def _means_without_one(values: np.ndarray) -> np.ndarray:
    return (values.sum() - values) / (len(values) - 1)


def _said(column: pd.Series) -> pd.Series:
    """Values as they are typed."""
    return column.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))


def _need(groups: Mapping[str, pd.DataFrame], what: str) -> None:
    for name, group in groups.items():
        if group.empty:
            raise BenchError(f"{what}: no runs of {name}")


def _taken(study: Study, runs: pd.DataFrame, examples: bool) -> pd.DataFrame:
    """``taken``: steps, or examples, of each run to its target; infinite where it does not get
    there."""
    taken = runs["target/step"].fillna(np.inf).astype(float)
    if examples:
        taken = taken * [
            _examples_a_step(records.read(study.directory / str(where) / records.FILE_NAME).config)
            for where in runs["directory"]
        ]
    return runs.assign(taken=taken)


def _examples_a_step(config: dict[str, Any]) -> int:
    size = config["workload"]["batch_size"]
    return workload_of(config).train_size if size == "full" else int(size)


def _by_lr(taken: pd.DataFrame) -> tuple[list[float], list[float]]:
    means = taken.groupby("lr")["taken"].mean()
    means = means[np.isfinite(means)]
    return list(means.index), list(means)


def _number(over: str, workload: str) -> str:
    found = re.search(rf"{over} ([-+.\de]+)", workload)
    if found is None:
        raise BenchError(f"{workload}: does not say its {over}")
    return found[1]


def _responses(workload: str, runs: pd.DataFrame, by: str, names: Sequence[str]) -> Picture:
    """The validation metric over the learning rate, of each."""
    metric, lines = metric_of(runs), []
    for name in names:
        group = runs[_said(runs[by]) == name]
        rows = response(group, by=["workload", "optimizer"])
        scale = 100 if metric.unit == "fraction" else 1
        lines.append(Line(name, list(rows["lr"]), [scale * y for y in rows["score"]]))
    unit = " (%)" if metric.unit == "fraction" else ""
    return Picture("learning rate", f"validation {metric.name}{unit}", lines, title=workload)
