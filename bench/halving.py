"""`python -m bench.halving`: would successive halving have found what a full search has found?

Replays the rule of `hydra/sweeper=halving` over the recorded curves of a finished study, without
training: once with all of its seeds, and with each alone, or over and over with some drawn from
them.

No torch here: what is read are records and curves.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.report import text

if TYPE_CHECKING:
    import numpy as np

    from bench.metrics import Metric
    from bench.sweeps.halving import Rule

DRAWS = 1000


@dataclass(frozen=True)
class Searched:
    """The settings of one workload, optimizer and schedule, all trained to their end.

    Attributes:
        name: of the three, as far as it takes to tell them apart.
        rungs: the steps of the rungs, and of the end.
        values: what each run is worth there, ``[settings, seeds, rungs + 1]``; more is better.
        left_out: settings that lack a seed that others have.
    """

    name: str
    metric: Metric
    rungs: tuple[int, ...]
    values: np.ndarray
    left_out: int


@dataclass(frozen=True)
class Replayed:
    """What came of it.

    Attributes:
        same: whether the setting that it ends with is the full search's.
        place: of that setting in the full search's order, from 1.
        short: by how much it is worse at the end.
        share: of the full search's steps that are trained, if no run diverges.
    """

    same: bool
    place: int
    short: float
    share: float


def replay(values: np.ndarray, rungs: Sequence[int], rule: Rule) -> Replayed:
    """
    Args:
        values: the means over seeds, ``[settings, rungs + 1]``; more is better.
        rungs: as `Searched` has them.
    """
    left, trained, before = list(range(len(values))), 0, 0
    for place, step in enumerate(rungs):
        trained += len(left) * (step - before)
        before = step
        if place < len(rungs) - 1:
            left = [left[k] for k in rule.best([values[k, place] for k in left])]
    end = values[:, -1]
    found = max(left, key=lambda k: end[k])
    better = int((end > end[found]).sum())
    whole = len(values) * rungs[-1]
    return Replayed(better == 0, better + 1, float(end.max() - end[found]), trained / whole)


def read(directory: Path, rule: Rule) -> list[Searched]:
    """
    Raises:
        BenchError: it is no study, or nothing in it can be replayed.
    """
    import numpy as np

    from bench import records, study
    from bench.settings.schema import total_steps
    from bench.sweeps.halving import curve_of, worth_at

    found = study.read(directory)
    searched = []
    for names, group in found.whole.groupby(["workload", "optimizer", "schedule"]):
        seeds = sorted(group["seed"].unique())
        by_setting: dict[str, dict[int, list[float]]] = {}
        rungs: tuple[int, ...] = ()
        for row in group.itertuples():
            own = directory / str(row.directory)
            record = records.read(own / records.FILE_NAME)
            rungs = (*rule.steps(record.config), total_steps(record.config))
            if record.status != "failed":
                curve = curve_of(own, row.metric)
                worth = [worth_at(record, curve, step) for step in rungs]
                by_setting.setdefault(str(row.trial), {})[int(row.seed)] = worth
        complete = [own for own in by_setting.values() if len(own) == len(seeds)]
        if len(complete) > 1:
            values = np.array([[own[seed] for seed in seeds] for own in complete])
            left_out = group["trial"].nunique() - len(complete)
            name = ", ".join(map(str, names))
            searched.append(Searched(name, group["metric"].iloc[0], rungs, values, left_out))
    if not searched:
        raise BenchError(
            f"{directory}: nothing to replay; it takes several settings of an optimizer, all of "
            "them trained to their end"
        )
    return searched


def lines(searched: Searched, rule: Rule, *, seeds: int, draws: int) -> list[str]:
    """What is said of it.

    Raises:
        BenchError: more seeds are asked for than there are.
    """
    import numpy as np

    values, metric = searched.values, searched.metric
    known = values.shape[1]
    if not 1 <= seeds <= known:
        raise BenchError(f"--seeds {seeds}: {searched.name} has {known}; give 1 to {known}")
    once = replay(values.mean(axis=1), searched.rungs, rule)
    if seeds == 1:
        picked, how = [[k] for k in range(known)], f"each of {text.count(known, 'seed')} alone"
    else:
        rng = np.random.default_rng(0)
        picked = rng.integers(known, size=(draws, seeds)).tolist()
        how = f"{seeds} seeds drawn {draws:,} times from {known}"
    found = [replay(values[:, own].mean(axis=1), searched.rungs, rule) for own in picked]

    def short(value: float) -> str:
        unit = " points" if metric.unit == "fraction" else f" {metric.unit}".rstrip()
        return f"{text.number(text.scale(metric) * value)}{unit}"

    at = ", ".join(f"{step:,}" for step in searched.rungs[:-1])
    same, top = (
        text.percent(sum(own.place <= place for own in found) / len(found), digits=0)
        for place in (1, 3)
    )
    left_out = f"; {searched.left_out} lack a seed" if searched.left_out else ""
    return [
        f"{searched.name}: {len(values)} settings{left_out}, rungs at {at} of "
        f"{searched.rungs[-1]:,} steps, {text.percent(once.share, digits=0)} % of the steps",
        f"  all {known} seeds: ends with "
        + (
            "the setting of the full search"
            if once.same
            else f"its number {once.place}, {short(once.short)} behind in {text.name(metric)}"
        ),
        f"  {how}: the same setting in {same} %, one of the best three in {top} %; "
        f"{short(sum(own.short for own in found) / len(found))} behind in the mean",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m bench.halving",
        description="Replays successive halving over the curves of a finished search, and says how "
        "often it ends with the setting that the full search finds. Nothing is trained.",
    )
    parser.add_argument("study", type=Path, help="a study's directory, such as runs/drawn")
    parser.add_argument("--eta", type=int, default=3, help="one of so many goes on (3)")
    parser.add_argument("--rungs", type=int, default=2, help="how often, at most (2)")
    parser.add_argument("--seeds", type=int, help="of each drawn search (all that there are)")
    options = parser.parse_args(arguments)
    if options.eta < 2 or options.rungs < 1:
        parser.error(f"--eta {options.eta} --rungs {options.rungs}: at least --eta 2 and --rungs 1")

    from bench.sweeps.halving import Rule

    rule = Rule(options.eta, options.rungs)
    try:
        for searched in read(options.study, rule):
            seeds = options.seeds or searched.values.shape[1]
            print("\n".join(lines(searched, rule, seeds=seeds, draws=DRAWS)))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
