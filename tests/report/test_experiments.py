"""Every ready study: its first sentence answers the question of its header, from made-up results
with a known truth, and a figure has what it varied on its axes."""

import math
import sys
import zlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus

from bench import records
from bench.metrics import Metric
from bench.records import Record
from bench.settings.identity import record_fields
from bench.settings.jobs import Job, plan
from bench.settings.workloads import workload_of

Shell = Callable[..., tuple[int, str]]
Truth = Callable[[dict[str, Any]], float]

def results(job: Job, metric: Metric, truth: Truth) -> dict[str, float]:
    """What a run of this quality measures, with some luck; 1 is the best quality, 0 chance."""
    key = zlib.crc32(repr((job.config["seed"], job.overrides)).encode())
    luck = np.random.default_rng(key).normal(0, 0.0005, 2)
    best, chance = (0.98, metric.chance) if metric.unit == "fraction" else (2.0, 6.0)
    return {
        f"{split}/{metric.name}": chance + (best - chance) * (truth(job.config) + error)
        for split, error in zip(("val", "test"), luck, strict=True)
    }


def record(job: Job, metric: Metric, truth: Truth) -> Record:
    return Record(
        **record_fields(job.config, job.overrides),
        status="completed",
        steps=1000,
        epochs=3.0,
        metrics=results(job, metric, truth),
        metric=metric.description,
        units={metric.name: metric.unit},
        best={f"val/{metric.name}": None, "epoch": None},
        target={"metric": f"val/{metric.name}", "value": None, "step": None, "seconds": None},
        timing={"train_seconds": 1.0, "eval_seconds": 1.0, "total_seconds": 2.0},
        environment={"device": "cpu"},
    )
