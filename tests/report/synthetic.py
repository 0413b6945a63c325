"""Studies that look like real ones, written in a moment: records and curves without training."""

import math
import zlib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench import records
from bench.metrics import Metric
from bench.records import Record
from bench.report.contents import Contents

# Where each optimizer works best and how wide (in decades) its good region is.
BEST_LR = {
    "sgd": (0.3, 0.9),
    "momentum": (0.05, 0.8),
    "nesterov": (0.05, 0.9),
    "adagrad": (0.02, 1.1),
    "rmsprop": (8e-4, 0.6),
    "adam": (1e-3, 0.9),
    "adamw": (1e-3, 1.2),
}
STEPS_PER_EPOCH = 400
ACCURACY = Metric(**records.BEFORE_SCHEMA_2["metric"])
BITS = Metric("bits_per_character", "bits", chance=4.75)
PRICE = Metric("mae", "k$")  # what chance gives is not known
CORRELATION = Metric("correlation", higher_is_better=True, chance=0.0)
TARGET = 0.95


def quality(optimizer: str, lr: float, weight_decay: float = 0.0) -> float:
    """How good a setting is: 1 at the best, falling off with the distance in decades."""
    best, width = BEST_LR.get(optimizer, (1e-3, 1.0))
    distance = math.log10(lr / best) / width
    penalty = abs(math.log10(weight_decay / 1e-2)) / 6 if weight_decay else 0.0
    return math.exp(-0.5 * distance**2) * (1 - penalty)


def diverges(optimizer: str, lr: float, seed: int) -> bool:
    best, width = BEST_LR.get(optimizer, (1e-3, 1.0))
    return math.log10(lr / best) > 1.2 * width + 0.1 * (seed % 3)


def one_curve(contents: Contents, workload: str) -> dict[str, Metric]:
    """In place of ``Contents.curve_metrics``: less to draw."""
    metric = contents.metric(workload)
    return {f"val/{metric.name}": metric}


def shown(metric: Metric, accuracy: Any) -> Any:
    """What the metric says where accuracy says this: one is a function of the other."""
    if metric == ACCURACY:
        return accuracy
    if metric == BITS:
        return 1.5 + 3.25 * (1 - accuracy)
    return 12 + 80 * (1 - accuracy) if metric == PRICE else accuracy - 0.1


def write_run(
    directory: Path,
    *,
    study: str = "synthetic",
    workload: str = "mnist_mlp",
    optimizer: str = "adam",
    lr: float = 1e-3,
    seed: int = 0,
    weight_decay: float = 0.0,
    epochs: int = 5,
    val_size: int = 10_000,
    settings: dict[str, Any] | None = None,
    finished: bool = True,
    curves: bool = True,
    metric: Metric = ACCURACY,
    sampler: str = "",
) -> Path:
    """One run's directory, with its curves and, if ``finished``, its record."""
    settings = settings or {}
    name = "_".join([f"lr={lr:g}", f"wd={weight_decay:g}", *map(str, settings.values()), f"{seed}"])
    run = directory / workload / optimizer / (name if epochs == 5 else f"{name}_epochs={epochs}")
    run.mkdir(parents=True)
    key = f"{workload} {optimizer} {name} {study}"
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    diverged = diverges(optimizer, lr, seed)
    steps = STEPS_PER_EPOCH * epochs if not diverged else int(rng.integers(5, 300))

    good = quality(optimizer, lr, weight_decay)
    hardest = {"cifar10_linear": 0.42, "cifar10_cnn": 0.75}.get(workload, 1.0)
    ceiling = hardest * (0.1 + 0.882 * good**0.25) + rng.normal(0, 0.002)
    rate = (1.5 + 6 * good) / STEPS_PER_EPOCH
    step = np.arange(20, steps + 1, 20)
    progress = 1 - np.exp(-rate * step)
    accuracy = np.clip(0.1 + (ceiling - 0.1) * progress + rng.normal(0, 0.001, len(step)), 0, 1)
    loss = 2.4 * (1 - accuracy) + 0.01
    judged, target = shown(metric, accuracy), shown(metric, TARGET)
    is_epoch = step % STEPS_PER_EPOCH == 0
    measured = judged[is_epoch] if val_size else judged[:0]
    seconds = step * 0.0011 * (1.2 if optimizer.startswith("adam") else 1.0)

    if curves:
        lines = ["step,epoch,seconds,lr,train/loss,train/grad_norm,val/loss"]
        lines[0] += f",val/{metric.name}"
        for i, at in enumerate(step):
            epoch = at / STEPS_PER_EPOCH
            train = loss[i] * 0.9
            lines.append(f"{at},{epoch:g},{seconds[i]:.4f},{lr:g},{train:.6f},{train * 3:.5f},,")
            if is_epoch[i] and val_size:
                lines.append(f"{at},{epoch:g},{seconds[i]:.4f},,,,{loss[i]:.6f},{judged[i]:.5f}")
        (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    if not finished:
        return run

    val = float(measured[-1]) if len(measured) and not diverged else None
    reached = np.flatnonzero(metric.sign * measured >= metric.sign * target)
    target_step = int((reached[0] + 1) * STEPS_PER_EPOCH) if len(reached) else None
    train_seconds = float(seconds[-1]) if len(seconds) else 0.05
    record = Record(
        id=f"{zlib.crc32((key + str(run)).encode()):08x}",
        study=study,
        workload=workload,
        optimizer=optimizer,
        schedule=settings.get("schedule", "constant"),
        seed=seed,
        hyperparameters={"lr": lr, "weight_decay": weight_decay, "batch_size": 128.0},
        status="diverged" if diverged else "completed",
        reason=f"train/loss is not finite at step {steps}" if diverged else None,
        steps=steps,
        epochs=steps / STEPS_PER_EPOCH,
        metrics={
            "train/loss": None if diverged else float(loss[-1] * 0.9),
            "val/loss": None if val is None else float(loss[-1]),
            f"val/{metric.name}": val,
            "test/loss": None if diverged else float(loss[-1] * 1.05),
            f"test/{metric.name}": None if diverged else float(shown(metric, accuracy[-1] - 0.002)),
        },
        metric=metric.description,
        search={"sampler": sampler, "prior": {}, "command": []} if sampler else None,
        units={metric.name: metric.unit, "loss": "nats"},
        best={
            f"val/{metric.name}": metric.sign * float((metric.sign * measured).max())
            if len(measured)
            else None,
            "epoch": int((metric.sign * measured).argmax()) + 1 if len(measured) else None,
        },
        target={
            "metric": f"val/{metric.name}",
            "value": target,
            "step": target_step,
            "seconds": None if target_step is None else target_step * 0.0011,
        },
        timing={
            "train_seconds": train_seconds,
            "eval_seconds": 0.4,
            "total_seconds": train_seconds + 0.6,
            "samples_per_second": 128 * steps / train_seconds,
            "runs_together": 1,
        },
        config={
            "study": study,
            "seed": seed,
            "runs_dir": "runs",
            "workload": {
                "name": workload,
                "batch_size": 128,
                "val_size": val_size,
                "feature_scaling": settings.get("feature_scaling", "channel"),
                "model": {"hidden_sizes": [128, 128], "init": settings.get("init", "default")},
            },
            "optimizer": {"name": optimizer, "lr": lr, "weight_decay": weight_decay},
            "schedule": {"name": settings.get("schedule", "constant")},
            "trainer": {"max_epochs": epochs, "accelerator": "cpu"},
        },
        environment={
            "python": "3.11.9",
            "torch": "2.13.0",
            "device": "cpu",
            "threads": 2,
            "git": {"commit": "0123abc", "dirty": False},
        },
    )
    records.write(record, run)
    return run


def write_study(
    directory: Path,
    *,
    workloads: Sequence[str] = ("mnist_mlp",),
    optimizers: Sequence[str] = ("momentum", "adam", "adamw"),
    lrs: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
    weight_decays: Sequence[float] = (0.0,),
    settings: Sequence[dict[str, Any]] = ({},),
    **options: Any,
) -> Path:
    """A grid over everything that is given."""
    options.setdefault("study", directory.name)
    grid: Iterator[tuple[Any, ...]] = product(
        workloads, optimizers, lrs, weight_decays, settings, seeds
    )
    for workload, optimizer, lr, weight_decay, setting, seed in grid:
        write_run(
            directory,
            workload=workload,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            settings=setting,
            seed=seed,
            **options,
        )
    return directory
