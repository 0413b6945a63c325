"""Synthetic studies with a known truth: what each optimizer gives at each learning rate, how much
runs scatter, and which sentences may be said of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis import selection
from bench.analysis.sensitivity import good_region
from bench.metrics import Metric
from bench.study import Study

ACCURACY = Metric("accuracy", "fraction", higher_is_better=True, chance=0.1)
LOSS = Metric("loss", "nats", chance=2.3)
TARGET = 0.9  # of what a score of 1 would be
STEPS = 1200
EVALUATIONS = np.unique(np.geomspace(2, STEPS, 16).round())
HALF_DECADES = tuple(10.0 ** np.arange(-4, 0.51, 0.5))
DECADES = tuple(10.0 ** np.arange(-4, 1))


@dataclass(frozen=True)
class Truth:
    """An optimizer, in a score that is 0.1 at chance and at most 1.

    Attributes:
        best: its score at its best learning rate.
        lr: where that is.
        decades: how far from there it has lost 0.01, on both sides together.
        steps: to the target at the best learning rate, in the median.
        cliff: decades above ``lr`` from where on runs diverge.
    """

    best: float = 0.95
    lr: float = 1e-2
    decades: float = 1.5
    steps: float = 300.0
    cliff: float = 2.6

    def score(self, lr: np.ndarray) -> np.ndarray:
        """The expected score of a run that does not diverge."""
        distance = np.log10(lr / self.lr) / (self.decades / 2)
        return np.maximum(0.1, self.best - 0.01 * np.abs(distance) ** 2.5)


SAME = {"momentum": Truth(), "adam": Truth(), "adamw": Truth()}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A study to be drawn, and what may be said of it.

    Attributes:
        values: learning rates tried, of all, or of each optimizer.
        drawn: in place of those, so many from 1e-4 to 10**0.5, log-uniformly.
        noise: standard deviation of a run's score about its setting's.
        together: the share of that variance that all runs of a seed have in common.
        failing: the share of runs that fail.
        may: rankings that the truth bears out, by what they are about.
        must: those that are so clear that they must be found in at least 80 % of draws.
        says, never: patterns of which the sentences must, and must not, have a match.
    """

    name: str
    truths: Mapping[str, Truth] = field(default_factory=lambda: dict(SAME))
    seeds: int = 3
    values: Sequence[float] | Mapping[str, Sequence[float]] = HALF_DECADES
    drawn: int = 0
    noise: float = 0.002
    together: float = 0.3
    failing: float = 0.0
    metric: Metric = ACCURACY
    workloads: int = 1
    may: frozenset[tuple[str, str, str]] = frozenset()
    must: frozenset[tuple[str, str, str]] = frozenset()
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = (r"\binf\b", r"\bnan\b")

    @property
    def null(self) -> bool:
        """Whether all optimizers are the same."""
        return len(set(self.truths.values())) == 1 and not self.may

    def of(self, optimizer: str) -> np.ndarray:
        given = self.values
        chosen = given[optimizer] if isinstance(given, Mapping) else given
        return np.asarray(chosen, dtype=float)

    def shown(self, score: np.ndarray) -> np.ndarray:
        """A score in the metric's units."""
        return score if self.metric.higher_is_better else 2.5 * (1 - score)

    def width(self, optimizer: str, delta: float = 0.01) -> float:
        """The width of the good region on the values tried, without noise, in decades."""
        values, truth = self.of(optimizer), self.truths[optimizer]
        kept = values[np.log10(values / truth.lr) < truth.cliff]
        response = self.metric.sign * self.shown(truth.score(kept))
        region = good_region(kept, response, delta, relative=self.metric.relative)
        return float(region.width)


def draw(spec: Spec, rng: np.random.Generator) -> pd.DataFrame:
    """The table of a study's runs, as ``bench.study.read`` gives it."""
    parts = [
        _draw_workload(spec, f"workload_{i}" if spec.workloads > 1 else "synthetic", rng)
        for i in range(spec.workloads)
    ]
    runs = pd.concat(parts, ignore_index=True)
    runs["metric"] = [spec.metric] * len(runs)
    return selection.judged(runs)


def _draw_workload(spec: Spec, workload: str, rng: np.random.Generator) -> pd.DataFrame:
    shared = np.sqrt(spec.together) * rng.standard_normal(spec.seeds)
    parts = []
    for optimizer, truth in spec.truths.items():
        values = 10 ** rng.uniform(-4, 0.5, spec.drawn) if spec.drawn else spec.of(optimizer)
        lr, seed = (part.ravel() for part in np.meshgrid(values, np.arange(spec.seeds)))
        own = np.sqrt(1 - spec.together) * rng.standard_normal(lr.size)
        score = truth.score(lr) + spec.noise * (shared[seed] + own)
        val, test = (
            spec.shown(score + spec.noise / 3 * rng.standard_normal(lr.size)) for _ in range(2)
        )
        diverged = np.log10(lr / truth.lr) > truth.cliff + 0.05 * rng.standard_normal(lr.size)
        failed = rng.random(lr.size) < spec.failing
        status = np.where(failed, "failed", np.where(diverged, "diverged", "completed"))
        lost = status != "completed"
        slower = 2 ** (np.abs(np.log10(lr / truth.lr)) + 0.15 * rng.standard_normal(lr.size))
        at = np.searchsorted(EVALUATIONS, truth.steps * slower)
        reached = (score >= TARGET) & (at < len(EVALUATIONS)) & ~lost
        step = np.where(reached, EVALUATIONS[np.minimum(at, len(EVALUATIONS) - 1)], np.nan)
        name = spec.metric.name
        parts.append(
            pd.DataFrame(
                {
                    "workload": workload,
                    "optimizer": optimizer,
                    "schedule": "constant",
                    "seed": seed,
                    "status": status,
                    "reason": None,
                    "steps": STEPS,
                    "epochs": 3.0,
                    "sampler": "random" if spec.drawn else "grid",
                    "trial": [f"lr={value:g}" for value in lr],
                    "directory": "",
                    "lr": lr,
                    f"val/{name}": np.where(lost, np.nan, val),
                    f"test/{name}": np.where(lost, np.nan, test),
                    "target/value": float(spec.shown(np.array(TARGET))),
                    "target/step": step,
                    "target/seconds": step / 500,
                    "timing/runs_together": 1,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def as_study(runs: pd.DataFrame, spec: Spec) -> Study:
    """What ``bench.study.read`` would say of a directory with these runs."""
    return Study(
        directory=Path("synthetic"),
        runs=runs,
        lengths={},
        metrics={},
        units={spec.metric.name: spec.metric.unit},
        settings=["lr"],
        shared={},
        environments=[],
        data={},
        problems=[],
        unfinished=[],
        commands=[(["-m", "study=synthetic"], len(runs))],
    )


def _pairs(about: str, better: str, *worse: str) -> frozenset[tuple[str, str, str]]:
    return frozenset((about, better, other) for other in worse)


def specs() -> list[Spec]:
    """The table: one optimizer better, or all the same; wide and narrow regions; what is cut off,
    few, lost, tied, or not alike."""
    better = SAME | {"adam": Truth(best=0.975)}
    much_better = SAME | {"adam": Truth(best=0.99), "momentum": Truth(best=0.945)}
    wide = SAME | {"adam": Truth(decades=3.0)}
    faster = SAME | {"adam": Truth(steps=100)}
    seven = {f"optimizer_{i}": Truth() for i in range(7)}
    tuned = _pairs("Tuned", "adam", "momentum", "adamw")
    widths = _pairs("Learning rate", "adam", "momentum", "adamw")
    speed = _pairs("Speed", "adam", "momentum", "adamw")
    ever = frozenset((about, x, y) for about in ("Tuned",) for x in SAME for y in SAME if x != y)
    cut = tuple(10.0 ** np.arange(-4, -1.9, 0.5))
    six = HALF_DECADES[2:8]
    cannot = r"cannot be told apart"
    nothing = (r"is best", r"\bleads\b", r"forgives a wrong", r"is faster", r"promises more than")
    few = (*nothing, r"interval \d", r"\(\S+ to \S+\)", r"\binf\b", r"\bnan\b")
    return [
        Spec(name="all the same, 3 seeds", says=(cannot,)),
        Spec(name="all the same, 10 seeds", seeds=10, says=(cannot,)),
        Spec(name="all the same, 2 seeds", seeds=2, never=few),
        Spec(name="all the same, 1 seed", seeds=1, never=few),
        Spec(name="all the same, noisy", noise=0.01, seeds=5),
        Spec(name="all the same, seeds in common", together=0.9, seeds=5),
        Spec(name="all the same, a value a decade", values=DECADES),
        Spec(name="all the same, seven optimizers", truths=seven),
        Spec(name="all the same, seven optimizers, 10 seeds", truths=seven, seeds=10),
        Spec(name="all the same, two workloads", workloads=2),
        Spec(name="all the same, a loss", metric=LOSS, seeds=5),
        Spec(name="all the same, 12 drawn", drawn=12),
        Spec(name="all the same, 30 drawn", drawn=30, seeds=1),
        Spec(name="all the same, some fail", failing=0.1, seeds=5),
        Spec(name="all the same, cut off", values=cut, says=(r"at least",), never=(r"forgives a",)),
        Spec(name="one better, 3 seeds", truths=much_better, may=tuned, must=tuned),
        Spec(name="one better, 10 seeds", truths=better, seeds=10, may=tuned, must=tuned),
        Spec(name="one better, 2 seeds", truths=much_better, seeds=2, never=few),
        Spec(name="one better, 1 seed", truths=much_better, seeds=1, never=few),
        Spec(
            name="a loss, one better", truths=better, seeds=10, metric=LOSS, may=tuned, must=tuned
        ),
        Spec(name="one wider, 3 seeds", truths=wide, noise=0.0007, may=widths | ever, must=widths),
        Spec(name="one wider, 10 seeds", truths=wide, seeds=10, may=widths | ever, must=widths),
        Spec(
            name="one wider, cut off",
            truths=wide | {"adam": Truth(decades=3.0, lr=10**-0.5, cliff=9.0)},
            seeds=10,
            may=ever,
            says=(r"adam's region, of at least",),
            never=(r"forgives a wrong learning rate more",),
        ),
        Spec(
            name="the widest region cut off by a decade's grid",
            truths=wide,
            values=(1e-2, 1e-1),
            seeds=10,
            may=ever,
            never=(r"forgives a wrong",),
        ),
        Spec(name="one faster, 10 seeds", truths=faster, seeds=10, may=speed, must=speed),
        Spec(
            name="one never at the target",
            truths=SAME | {"momentum": Truth(best=0.85)},
            may=frozenset({("Tuned", x, "momentum") for x in ("adam", "adamw")}),
            says=(r"momentum does not",),
        ),
        Spec(
            name="none at the target",
            truths={name: Truth(best=0.7) for name in SAME},
            says=(r"No optimizer reaches",),
        ),
        Spec(
            name="all diverged",
            truths={name: Truth(lr=1e-4, cliff=-1.0) for name in SAME},
            never=(*nothing, r"\binf\b", r"\bnan\b"),
        ),
        Spec(
            name="one diverged throughout",
            truths=SAME | {"momentum": Truth(lr=1e-4, cliff=-1.0)},
            never=(r"momentum (leads|forgives)", r"\binf\b", r"\bnan\b"),
            may=frozenset({("Tuned", x, "momentum") for x in ("adam", "adamw")}),
        ),
        Spec(name="exact ties", noise=0.0, seeds=5, says=(cannot,)),
        Spec(
            name="unequal grids",
            values={"momentum": HALF_DECADES, "adam": HALF_DECADES, "adamw": HALF_DECADES[3:5]},
            seeds=10,
            says=(r"10 settings tried against 2",),
        ),
        Spec(
            name="two settings against six",
            values={"momentum": (1e-3, 1e-1), "adam": six, "adamw": six},
            seeds=10,
            says=(r"6 settings tried against 2",),
            never=(r"momentum leads", r"leads[^.]*momentum", r"\binf\b"),
        ),
        Spec(
            name="one promises more, 30 drawn",
            truths=SAME | {"adam": Truth(decades=6.0, cliff=9.0, lr=10**-1.75)},
            drawn=30,
            seeds=3,
            may=_pairs("Untuned", "adam", "momentum", "adamw") | ever,
        ),
        Spec(name="one optimizer", truths={"adam": Truth()}, never=nothing),
    ]


def reduced(spec: Spec, *, seeds: int) -> Spec:
    return replace(spec, seeds=seeds)
