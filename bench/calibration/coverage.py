"""How often each interval that a report shows holds the truth, for other seeds or other draws."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.analysis import aggregates, selection, tables
from bench.analysis.intervals import mean_interval
from bench.analysis.tables.differences import FEWEST_COMPARED
from bench.calibration.studies import SAME, Spec, Truth, draw
from bench.report.contents import PAIR

SEEDS = (3, 5, 10)
DRAWS = (12, 30)
TRUTHS = SAME | {"adam": Truth(best=0.96, decades=2.5, steps=150)}
NOISE = (0.001, 0.003, 0.008)
CHECKED = 200_000  # draws that make the truth about a budget


@dataclass(frozen=True)
class Coverage:
    """Of an interval that says ``level``: the share that held the truth, least over what was
    tried."""

    interval: str
    level: float
    covered: float
    where: str
    draws: int


PARTS = [("seeds", number) for number in SEEDS] + [("draws", number) for number in DRAWS]


def of_part(part: tuple[str, int], repeats: int, seed: int = 0) -> list[Coverage]:
    """What was covered with so many seeds, or draws."""
    what, number = part
    rng = np.random.default_rng([seed, number])
    return list((_over_seeds if what == "seeds" else _over_draws)(number, repeats, rng))


def _over_seeds(seeds: int, repeats: int, rng: np.random.Generator) -> Iterator[Coverage]:
    shares: dict[str, dict[float, float]] = defaultdict(dict)
    for noise in NOISE:
        spec = Spec(name="", truths=TRUTHS, seeds=seeds, noise=noise)
        held: dict[str, list[bool]] = defaultdict(list)
        for _ in range(repeats):
            for name, inside in _of_one(spec, rng):
                held[name].append(inside)
        for name, inside_each in held.items():
            shares[name][noise] = float(np.mean(inside_each))
    for name, by_noise in shares.items():
        noise = min(by_noise, key=lambda noise: by_noise[noise])
        where = f"{seeds} seeds, noise {noise:g}"
        yield Coverage(name, 0.95, by_noise[noise], where, repeats)


def _of_one(spec: Spec, rng: np.random.Generator) -> Iterator[tuple[str, bool]]:
    """The intervals of one study, each with whether it held the truth."""
    runs = draw(spec, rng)
    chosen = selection.selected_runs(runs, by=PAIR)
    truth = {}
    for optimizer, rows in chosen.groupby("optimizer"):
        name = str(optimizer)
        truth[name] = float(spec.truths[name].score(rows["lr"].to_numpy()[:1])[0])
        interval = mean_interval(rows["test"].to_numpy())
        yield "score at the selected setting", interval.low <= truth[name] <= interval.high
    differences = tables.differences(runs)
    for row in differences[differences["why_not"] == ""].itertuples():
        x, y = str(row.x), str(row.y)
        if row.quantity == "test":
            yield "difference of scores", row.low <= truth[x] - truth[y] <= row.high
        if row.quantity == "width":
            width = spec.width(x) - spec.width(y)
            yield "difference of widths", row.low <= width <= row.high
    for row in tables.sensitivity(runs, by=PAIR, deltas=(0.01,)).itertuples():
        width = spec.width(str(row.optimizer))
        yield "decades of good learning rates", row.width_low <= width <= row.width_high
    scores = chosen.pivot_table(index="seed", columns="optimizer", values="test")
    first, second = (scores[[name]].to_numpy() for name in ("momentum", "adamw"))
    equal = aggregates.improvement_interval(first[:, 0], second[:, 0])
    if truth["momentum"] == truth["adamw"]:
        yield "probability of a better run", equal.low <= 0.5 <= equal.high
    levels, noise = np.array([0.96, 0.98, 1.0]), 4 * spec.noise  # of an optimizer on workloads
    scores = levels + noise * rng.standard_normal((spec.seeds, 3))
    many = levels + noise * rng.standard_normal((4000, 3))
    interval = aggregates.interquartile_mean_interval(scores)
    inside = interval.low <= aggregates.interquartile_mean(many) <= interval.high
    if np.isfinite(interval.low):
        yield "interquartile mean", inside


def _over_draws(trials: int, repeats: int, rng: np.random.Generator) -> Iterator[Coverage]:
    """The expected best of k drawn trials."""
    shapes = {"wide": Truth(decades=4.0), "narrow": Truth(decades=1.0), "usual": Truth()}
    held: dict[tuple[str, int, int], list[bool]] = defaultdict(list)
    for shape, truth in shapes.items():
        spec = Spec(name="", truths={"adam": truth}, drawn=trials)
        best = _expected(spec, rng)
        for seeds in SEEDS:
            for _ in range(repeats):
                runs = draw(replace(spec, seeds=seeds), rng)
                for row in tables.expected_best(runs, by=PAIR).dropna(subset="low").itertuples():
                    inside = row.low <= best(int(row.k)) <= row.high
                    held[shape, seeds, int(row.k)].append(inside)
    shares = {key: float(np.mean(inside)) for key, inside in held.items()}
    shape, seeds, k = min(shares, key=lambda key: shares[key])
    where = f"{trials} draws of a {shape} region, {seeds} seeds, k = {k}"
    yield Coverage("expected best of k", 0.9, shares[shape, seeds, k], where, repeats)
    if trials >= FEWEST_COMPARED:
        difference = _difference_of_draws(trials, repeats, rng)
        yield Coverage(
            "difference of one drawn trial", 0.95, difference, f"{trials} draws", repeats
        )


def _expected(spec: Spec, rng: np.random.Generator) -> Callable[[int], float]:
    """From k to what the best of k drawn trials scores in expectation, by many draws."""
    seeds = 100  # what a seed's runs have in common averages out
    runs = draw(replace(spec, drawn=CHECKED // seeds, seeds=seeds), rng)
    scores = selection.score(runs).to_numpy().reshape(seeds, -1)

    def of(k: int) -> float:
        whole = scores[:, : scores.shape[1] // k * k]
        return float(whole.reshape(seeds, -1, k).max(axis=2).mean())

    return of


def _difference_of_draws(trials: int, repeats: int, rng: np.random.Generator) -> float:
    truths = {"adam": Truth(decades=3.0), "momentum": Truth()}
    spec = Spec(name="", truths=truths, drawn=trials)
    each = [_expected(replace(spec, truths={name: truths[name]}), rng)(1) for name in truths]
    inside = []
    for _ in range(repeats):
        found = tables.differences(draw(spec, rng))
        row = found[found["quantity"] == "budget"].iloc[0]
        inside.append(row["low"] <= each[0] - each[1] <= row["high"])
    return float(np.mean(inside))
