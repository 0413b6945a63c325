"""A study's table made of numbers given by hand, as ``bench.study`` would read it."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis import selection
from bench.metrics import Metric

ACCURACY = Metric("accuracy", "fraction", higher_is_better=True, chance=0.1)
LOSS = Metric("loss", "nats", chance=math.log(10))


def by(runs: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """The same runs, judged by another metric."""
    return selection.judged(runs.assign(metric=[metric] * len(runs)))


def make_runs(
    accuracy: Callable[..., float | None],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    workloads: Sequence[str] = ("mnist",),
    optimizers: Sequence[str] = ("adam",),
    sampler: str = "grid",
    **values: Sequence[float],
) -> pd.DataFrame:
    """All combinations; ``accuracy(workload, optimizer, seed, **setting)``, None if it diverged.

    Test accuracy is 0.01 lower, loss is one minus accuracy. The target, 0.8, is reached at step
    ``100 / accuracy`` of 1,000.
    """
    rows: list[dict[str, Any]] = []
    for workload, optimizer, *numbers in product(workloads, optimizers, *values.values()):
        setting = dict(zip(values, numbers, strict=True))
        for seed in seeds:
            value = accuracy(workload, optimizer, seed, **setting)
            diverged = value is None
            value = np.nan if value is None else value
            reached = 100 / value if value >= 0.8 else np.nan
            rows.append(
                {
                    "workload": workload,
                    "optimizer": optimizer,
                    "schedule": "constant",
                    "seed": seed,
                    "status": "diverged" if diverged else "completed",
                    "reason": "loss is not finite" if diverged else None,
                    "steps": 1000,
                    "epochs": 10.0,
                    "id": f"{len(rows):04d}",
                    "sampler": sampler,
                    "trial": " ".join(f"{name}={number:g}" for name, number in setting.items()),
                    **setting,
                    "val/accuracy": value,
                    "val/loss": 1 - value,
                    "test/accuracy": value - 0.01,
                    "test/loss": 1.01 - value,
                    "target/step": reached,
                    "target/seconds": reached / 50,
                    "target/value": 0.8,
                    "timing/runs_together": 1,
                }
            )
    return by(pd.DataFrame(rows), ACCURACY)
