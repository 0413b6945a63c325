"""A stack of thousands of runs on a function, of which only the end is kept: a map of where they
end, over the start or over two hyperparameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from bench.errors import BenchError
from bench.landscape.axes import COORDINATES, DIVERGED, NOT_REACHED, Axis
from bench.settings.schema import multipliers, rule_of, total_steps
from bench.settings.workloads import workload_of
from bench.training.plan import Plan
from bench.training.tracing import Tracer, by_autograd
from bench.workloads.functions import Function
from bench.workloads.models import drawn, loaded
from bench.workloads.workload import Batch, Place
from optimizers.stack import Stack

FIXED = ("name", "_target_")  # of an optimizer's options, what is no hyperparameter


@dataclass(frozen=True)
class Map:
    """What came of ``[Y, X]`` runs.

    Attributes:
        value: at the end; NaN of a run that diverged.
        minimum: the nearest of those known, by number, where the value reached the workload's
            target; else ``NOT_REACHED`` or ``DIVERGED``. None where there is no target.
        points: the end, ``[Y, X, d]``.
        minima: those known, ``[M, d]``.
        steps: of each run.
        seconds: that all steps took together.
    """

    axes: tuple[Axis, Axis]
    value: NDArray[np.float32]
    minimum: NDArray[np.int64] | None
    points: NDArray[np.float32]
    minima: NDArray[np.float32]
    steps: int
    seconds: float

    @property
    def arrays(self) -> dict[str, Any]:
        """By name, to be kept."""
        x, y = self.axes
        found = {x.name: x.values, y.name: y.values, "value": self.value, "points": self.points}
        found |= {"minima": self.minima, "steps": self.steps}
        return found if self.minimum is None else found | {"minimum": self.minimum}


def function_of(config: Mapping[str, Any]) -> Function:
    """The workload of a configuration.

    Raises:
        BenchError: it is no function.
    """
    workload = workload_of(config)
    if not isinstance(workload, Function):
        raise BenchError(
            f"workload={workload.name}: is no function of a point; those are listed in "
            "docs/running.md, such as workload=himmelblau"
        )
    return workload


def check(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """
    Raises:
        BenchError: there can be no map over these.
    """
    workload, optimizer = function_of(config), config["optimizer"]
    rule = rule_of(optimizer)
    if rule is None:
        raise BenchError(f"optimizer={optimizer['name']}: has no rule of ours to stack")
    if workload.dimension != 2 and set(names) & set(COORDINATES):
        raise BenchError(
            f"workload={workload.name}: has {workload.dimension} dimensions, and a map over the "
            "start needs two (workload.dimension=2), or --over two hyperparameters"
        )
    numbers = [
        name
        for name, value in optimizer.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    for name in set(names) - set(COORDINATES):
        if name not in numbers:
            raise BenchError(
                f"--over {name}: no number of optimizer={optimizer['name']}; it has "
                f"{', '.join(numbers)}"
            )


def make(
    config: Mapping[str, Any],
    axes: tuple[Axis, Axis],
    tell: Callable[[int], None] = lambda _: None,
) -> Map:
    """
    Args:
        config: of one run, which all others are like but for what the axes say.
        tell: is told after every fiftieth step how many were taken.

    Raises:
        BenchError: the axes do not fit, or hold what the optimizer does not accept.
    """
    workload = function_of(config)
    check(config, [axis.name for axis in axes])
    loaded(workload, Place(torch.device("cpu"), torch.float32))
    x, y = np.meshgrid(axes[0].values, axes[1].values)  # [Y, X]
    said = dict(zip([axis.name for axis in axes], (x.ravel(), y.ravel()), strict=True))
    (start,) = (p.detach() for p in drawn(workload, config["seed"]).parameters())  # [d]
    points = start.repeat(x.size, 1)  # [K, d]
    for place, name in enumerate(COORDINATES):
        if name in said:
            points[:, place] = torch.from_numpy(said.pop(name))
    options = {k: v for k, v in config["optimizer"].items() if k not in FIXED} | said
    try:
        stack = Stack(config["optimizer"]["name"], [points], options, names=[workload.way])
    except ValueError as error:
        raise BenchError(f"optimizer={config['optimizer']['name']}: {error}") from error
    points.requires_grad_()
    seconds = _train(workload, stack, config, np.asarray(options["lr"]), tell)
    with torch.no_grad():
        end = stack.parameters[0].detach()
        value = vmap(workload.value)(end)
        minima = torch.tensor(workload.minima(), dtype=end.dtype)
        nearest = torch.cdist(end.nan_to_num(), minima).argmin(1)
        reached = value <= (np.inf if workload.target is None else workload.target)
        minimum = nearest.where(reached, NOT_REACHED).where(value.isfinite(), DIVERGED)
    return Map(
        axes,
        value.where(value.isfinite(), torch.nan).view(x.shape).numpy(),
        None if workload.target is None else minimum.view(x.shape).numpy(),
        end.view(*x.shape, -1).numpy(),
        minima.numpy(),
        stack.steps,
        seconds,
    )


def _train(
    workload: Function,
    stack: Stack,
    config: Mapping[str, Any],
    rates: NDArray[Any],
    tell: Callable[[int], None],
) -> float:
    """Takes all steps, on the batches that a run of its own would see; returns the seconds."""

    def losses(parameters: Sequence[Tensor], batch: Batch) -> Tensor:
        return vmap(workload.objective, (0, None))(parameters[0], batch)

    tracer = Tracer(losses, workload, "map")
    plan = Plan.of(config, workload, seeds=[config["seed"]])
    factors = multipliers(config["schedule"], total_steps(config))
    executions = plan.executions(lambda: stack.steps, rank=0)
    began = time.perf_counter()
    epoch = 0
    while stack.steps < len(factors):
        executions.set_epoch(epoch)
        for item in executions:
            for indices in item:
                batch = workload.batch(indices[0])
                gradients = tracer.find(stack.parameters, batch) or by_autograd(losses)
                stack.prepare(lr=rates * factors[stack.steps])
                stack.apply(gradients(stack.parameters, batch)[1])
            tell(stack.steps)
        epoch += 1
    return time.perf_counter() - began
