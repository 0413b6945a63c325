"""Slices of a loss: along directions through a run's weights, and from one run's to another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.errors import BenchError
from bench.landscape.objective import Objective, drawn_examples, flat
from bench.records import Record
from bench.trained import finished
from bench.workloads.models import loaded, seeded
from bench.workloads.workload import Place

SPLITS = ("train", "val")
# Keys of a workload that say how it is trained on, or where from, and not what is evaluated.
OF_TRAINING = frozenset(
    {
        *("batch_size", "sampling", "drop_last", "l2", "label_smoothing", "target", "init"),
        *("model.dropout", "dropout", "model.init", "model.init_std", "model.init_bias"),
        *("start", "spread", "sigma", "noise_seed", "steps"),
    }
)

Values = dict[str, NDArray[np.float64]]  # of each ``split/name``, at the points of a slice


@dataclass(frozen=True)
class Solution:
    """A run's weights, as they were scored (with ``trainer.ema_decay`` their average), and what is
    evaluated there: the loss without its l2 term and the metrics, in evaluation mode.

    Attributes:
        objectives: by split.
    """

    record: Record
    objectives: Mapping[str, Objective]

    @classmethod
    def of(cls, directory: Path, *, examples: int, seed: int) -> Solution:
        """
        Args:
            examples: of each split, drawn by the seed unless there are no more.

        Raises:
            BenchError: that is no finished run whose weights are there, and finite.
        """
        record, workload, model = finished(directory)
        workload.fetch()
        dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        loaded(workload, Place(torch.device("cpu"), dtype))
        model.to(dtype)
        objectives = {
            split: Objective(
                workload,
                model,
                drawn_examples(workload, examples, seed, split=split),
                split=split,
            )
            for split in SPLITS
            if workload.size(split) and (split == "train" or workload.validates)
        }
        if not bool(objectives["train"].at.isfinite().all()):
            raise BenchError(f"{directory}: its weights are not finite ({record.status})")
        return cls(record, objectives)

    @property
    def at(self) -> Tensor:
        return self.objectives["train"].at

    def values(self, points: Sequence[Tensor]) -> Values:
        """Of everything that is measured at each of the weights ``[P]``."""
        found: dict[str, list[float]] = {}
        with seeded(0):
            for point in points:
                for split, objective in self.objectives.items():
                    for name, value in objective.sums(point).items():
                        found.setdefault(f"{split}/{name}", []).append(value)
        return {name: np.array(values) for name, values in found.items()}


def direction(objective: Objective, seed: int) -> Tensor:
    """Normal numbers, ``[P]``, of which each filter is as long as the weights' (Li et al. 2018,
    arXiv:1712.09913, section 4): for a parameter of several axes each of its slices along the first
    one, a unit's incoming weights. Biases and whatever else has one axis stay, as theirs do. Where
    nothing has more, as in a function, the whole is as long as the weights, or 1 if they are 0.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(objective.size, generator=generator, dtype=torch.float64)
    drawn = drawn.to(objective.at)
    parts, own = objective.named(drawn), objective.named(objective.at)
    if all(x.ndim <= 1 for x in own.values()):
        length = objective.at.norm()
        return drawn / drawn.norm() * length.where(length > 0, torch.ones_like(length))
    return flat(
        [
            x * (per_filter(own[name]) / per_filter(x)) if x.ndim > 1 else torch.zeros_like(x)
            for name, x in parts.items()
        ]
    )


def per_filter(x: Tensor) -> Tensor:
    """The length of each, ``[F, 1, ...]``."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def line(solution: Solution, along: Tensor, places: NDArray[np.float64]) -> Values:
    """At the weights plus each multiple of a direction."""
    return solution.values([solution.at + float(place) * along for place in places])


def plane(
    solution: Solution, x: Tensor, y: Tensor, places: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """At the weights plus multiples of two directions: ``[Y, X]``; on the training split."""
    alone = Solution(solution.record, {"train": solution.objectives["train"]})
    points = [solution.at + float(a) * x + float(b) * y for b in places for a in places]
    shape = len(places), len(places)
    return {name: values.reshape(shape) for name, values in alone.values(points).items()}


def between(one: Solution, other: Solution, places: NDArray[np.float64]) -> Values:
    """On the straight way from one run's weights, at 0, to another's, at 1, and beyond.

    Raises:
        BenchError: they are no weights of the same model, for the same examples.
    """
    check_alike(one, other)
    weights = [(1 - float(t)) * one.at + float(t) * other.at for t in places]
    return one.values(weights)


def check_alike(one: Solution, other: Solution) -> None:
    shapes = [solution.objectives["train"].shapes for solution in (one, other)]
    sections = [settings(solution.record.config["workload"]) for solution in (one, other)]
    differ = [
        f"workload.{key} is {sections[0].get(key)} and {sections[1].get(key)}"
        for key in sorted(sections[0].keys() | sections[1].keys())
        if sections[0].get(key) != sections[1].get(key)
    ]
    if differ or shapes[0] != shapes[1]:
        why = ", ".join(differ) or "their models have other shapes"
        raise BenchError(f"there is no way from one run to the other: {why}")


def settings(workload: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What of a workload says which model it is, and on what it is evaluated."""
    found: dict[str, Any] = {}
    for key, value in workload.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= settings(value, f"{name}.")
        elif name not in OF_TRAINING:
            found[name] = value
    return found


def barrier(places: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """By how much a loss between 0 and 1 exceeds the straight line between its values there, at
    most, and where; after Frankle et al. 2020, arXiv:1912.05671, who take the mean of the ends."""
    within = (places >= 0) & (places <= 1)
    at, inner = places[within], values[within]
    excess = inner - np.interp(at, [0, 1], [inner[0], inner[-1]])
    if not np.isfinite(excess).all():
        return float("inf"), float(at[~np.isfinite(excess)][0])
    most = int(excess.argmax())
    return float(excess[most]), float(at[most])
