"""Functions of two coordinates: their contours, with the ways of the optimizers."""

from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
import pandas as pd

from bench import records
from bench.errors import BenchError
from bench.landscape import animation, contours, trajectory
from bench.landscape.contours import Landscape, Way
from bench.landscape.surface import of_it, plane
from bench.report import text
from bench.report.contents import PAIR, Contents
from bench.report.page import Block, Gallery, Panel, Section
from bench.report.sections import words
from optimizers.rules import RULES

BEST, USUAL = "best setting", "usual learning rate"
Chosen = Mapping[str, pd.Series]  # a run of each optimizer


def section(contents: Contents, gallery: Gallery) -> Section | None:
    panels = []
    for workload in contents.workloads:
        try:
            panel = _panel(contents, gallery, workload)
        except BenchError as error:
            contents.problems.append(str(error))
            continue
        if panel is not None:
            panels.append(panel)
    if not panels:
        return None
    lead = (
        "Where each optimizer went, a run each, from the dot to its mark, or to where it leaves "
        "the frame; stars are minima. Levels are evenly spaced in the logarithm of the value above "
        "the least, the lower the darker. The usual learning rate is the optimizer's default, for "
        "those that were tried at it."
    )
    return Section(
        anchor="landscapes",
        title="Ways through the functions",
        short="Landscapes",
        blocks=[Block(paragraphs=[lead], panels=panels)],
    )


def _panel(contents: Contents, gallery: Gallery, workload: str) -> Panel | None:
    """
    Raises:
        BenchError: a way, or the record beside it, cannot be read.
    """
    chosen = {BEST: _best(contents, workload), USUAL: _usual(contents, workload)}
    configs = {
        (label, name): records.read(_directory(contents, run) / records.FILE_NAME).config
        for label, runs in chosen.items()
        for name, run in runs.items()
        if _keeps_way(contents, run)
    }
    if not configs:
        return None
    first = next(iter(configs.values()))
    function = plane(first)
    if function is None:
        return None
    same = {place for place, config in configs.items() if of_it(config) == of_it(first)}
    kept = {
        label: {name: run for name, run in runs.items() if (label, name) in same}
        for label, runs in chosen.items()
    }
    ways = {
        label: {name: _way(contents, run) for name, run in runs.items()}
        for label, runs in kept.items()
        if runs
    }
    landscape = Landscape.of(function, [way for named in ways.values() for way in named.values()])
    name = f"landscape_{workload}"
    views = []
    for label, named in ways.items():
        drawn = contours.with_ways(landscape, named, contents.looks)
        title = f"{workload}: ways at each optimizer's {label}"
        file = f"{name}_{label.replace(' ', '_')}"
        views.append(gallery.figure(drawn, file, title=title, label=label))
    moving = animation.html(landscape, ways, contents.looks, title=workload)
    seeds = sorted({int(run["seed"]) for runs in kept.values() for run in runs.values()})
    return Panel(
        title=f"{workload}, ways",
        caption=f"Seed {text.listed(list(map(str, seeds)))}." + _left_out(configs.keys() - same),
        views=views,
        links=[("Watch them move", gallery.page(moving, name))],
        switch="Setting",
    )


def _left_out(others: Set[tuple[str, str]]) -> str:
    names = sorted({f"{name} at its {label}" for label, name in others})
    if not names:
        return ""
    return f" Of another setting of the function, and left out: {text.listed(names)}."


def _best(contents: Contents, workload: str) -> Chosen:
    best = contents.best.loc[contents.best["workload"] == workload, [*PAIR, "trial"]].dropna()
    return _first_seeds(contents.study.runs.merge(best, on=[*PAIR, "trial"]))


def _usual(contents: Contents, workload: str) -> Chosen:
    """Of each optimizer at its default, with the best of its other settings there."""
    trials = contents.trials[contents.trials["workload"] == workload]
    if "lr" not in trials:
        return {}
    usual = trials["optimizer"].map(_default)
    there = trials[np.isclose(trials["lr"].astype(float), usual.astype(float), rtol=1e-9)]
    sign = contents.metric(workload).sign
    there = there.assign(rank=-sign * there["score"]).sort_values("rank", kind="stable")
    first = there.drop_duplicates("optimizer")[[*PAIR, "trial"]]
    return _first_seeds(contents.study.runs.merge(first, on=[*PAIR, "trial"]))


def _default(optimizer: str) -> float:
    rule = RULES.get(optimizer.partition(" (")[0])
    return np.nan if rule is None else float(rule.hyperparameters["lr"].default)  # type: ignore[arg-type]


def _first_seeds(runs: pd.DataFrame) -> Chosen:
    runs = runs[~runs["status"].isin(records.UNFINISHED)].sort_values("seed", kind="stable")
    return {str(run["optimizer"]): run for _, run in runs.drop_duplicates("optimizer").iterrows()}


def _directory(contents: Contents, run: pd.Series) -> Path:
    return contents.study.directory / str(run["directory"])


def _keeps_way(contents: Contents, run: pd.Series) -> bool:
    return (_directory(contents, run) / trajectory.FILE_NAME).is_file()


def _way(contents: Contents, run: pd.Series) -> Way:
    directory = _directory(contents, run)
    points = trajectory.read(directory)
    if points.shape[1] != 2 or not np.isfinite(points[0]).all():
        raise BenchError(f"{directory / trajectory.FILE_NAME}: no way through two coordinates")
    return Way.of(points.astype(float), words.setting(contents, run))
