"""Losses and gradients of fully connected networks, by a kernel in place of a list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

from bench.kernels import dense, stacked
from bench.kernels.crew import Crew
from bench.training.side_by_side import for_each_run, is_dense
from bench.training.tracing import Gradients, record
from bench.workloads.workload import Workload

log = logging.getLogger(__name__)


def in_place_of(
    workload: Workload,
    model: nn.Module,
    crew: Crew | None,
    recorded: Gradients,
    parameters: Sequence[Tensor],
    batch: Mapping[str, Tensor],
) -> Gradients:
    """The kernel's gradients where the model's layers are its, and what comes of these parameters
    and this batch is the same to the last bit; else ``recorded``, as it came. They lie in the same
    place each time.

    Args:
        crew: shares the work, where numbers are the same then, too.
    """
    plan = plan_of(workload, model, batch)
    if plan is None or dense.kernel() is None:
        return recorded
    x = batch[workload.inputs[0]]
    kinds = [dense.Network(*plan, batch=len(x), crew=each) for each in dict.fromkeys([crew, None])]
    return tried(kinds, workload, workload.objective, recorded, parameters, batch)


def in_place_of_stacks(
    workload: Workload,
    model: nn.Module,
    recorded: Gradients,
    parameters: Sequence[Tensor],
    batch: Mapping[str, Tensor],
    *more: Tensor,
) -> Gradients:
    """The same for parameters ``[K, ...]`` and batches ``[U, B, ...]``."""
    seen = {name: x[0] for name, x in batch.items()}
    plan = None if more else plan_of(workload, model, seen)
    if plan is None or stacked.kernel() is None:
        return recorded
    runs, (seeds, examples) = len(parameters[0]), batch[workload.inputs[0]].shape[:2]

    def objectives(output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return workload.objectives(output, for_each_run(batch, runs))

    networks = stacked.Networks(*plan, batch=examples, runs=runs, seeds=seeds)
    return tried([networks], workload, objectives, recorded, parameters, batch)


def tried(
    networks: Sequence[dense.Network | stacked.Networks],
    workload: Workload,
    objective: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
    recorded: Gradients,
    parameters: Sequence[Tensor],
    batch: Mapping[str, Tensor],
) -> Gradients:
    """The first that gives the same to the last bit; else ``recorded``."""
    for network in networks:
        if not network.takes(parameters):
            return recorded
        found = by(network, workload, objective, recorded, batch)
        if found is None:
            return recorded
        ours, wanted = found(parameters, batch), recorded(parameters, batch)
        if all(map(torch.equal, [ours[0], *ours[1]], [wanted[0], *wanted[1]])):
            return found
    log.info("this processor's matrix products are other ones in the kernel: not used")
    return recorded


def by(
    network: dense.Network | stacked.Networks,
    workload: Workload,
    objective: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
    recorded: Gradients,
    batch: Mapping[str, Tensor],
) -> Gradients | None:
    """Its gradients, and the operators of the loss behind it; None where these are not the same in
    every step."""
    (name,) = workload.inputs

    def losses(outputs: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return objective(outputs[0], batch)

    with torch.no_grad():
        outputs = network.there(batch[name].contiguous())
    of_outputs = record(losses, [outputs], batch)
    if of_outputs is None:
        return None
    carry_on = of_outputs.__wrapped__  # type: ignore[attr-defined]  # without a no_grad of its own

    @torch.no_grad()
    def carry_out(
        parameters: Sequence[Tensor], batch: Mapping[str, Tensor], *more: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        if not network.takes(parameters):  # someone has given them another form
            return recorded(parameters, batch)
        x = batch[name].contiguous()
        values, (change,) = carry_on([network.there(x)], batch)
        return values, network.back(x, change)

    return carry_out


def plan_of(
    workload: Workload, model: nn.Module, batch: Mapping[str, Tensor]
) -> tuple[list[int], list[bool]] | None:
    """The features that come into and go out of each of a model's layers, and whether ReLU follows;
    None if there are other layers, or if more than they makes the loss.

    Args:
        batch: of one model.
    """
    plain = type(workload).call is Workload.call and len(workload.inputs) == 1
    if not plain or workload.l2:
        return None
    x = batch[workload.inputs[0]]
    if x.dtype != torch.float32 or x.device.type != "cpu" or not is_dense(model, x.ndim - 1):
        return None
    layers = [layer for layer in model.children() if not isinstance(layer, nn.Flatten)]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    followed = [
        isinstance(after, nn.ReLU)
        for layer, after in zip_longest(layers, layers[1:])
        if isinstance(layer, nn.Linear)
    ]
    if not linear or len(linear) + sum(followed) < len(layers):  # ReLU on ReLU, or at the start
        return None
    sizes = [linear[0].in_features, *(layer.out_features for layer in linear)]
    return sizes, followed
