"""Losses and gradients of a fully connected network, by a kernel in place of a list."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

from bench.kernels import dense
from bench.kernels.crew import Crew
from bench.training.side_by_side import is_dense
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
    networks = [network_of(workload, model, batch, each) for each in dict.fromkeys([crew, None])]
    for network in networks:
        if network is None or not network.takes(parameters):
            return recorded
        found = by(network, workload, recorded, batch)
        if found is None:
            return recorded
        ours, wanted = found(parameters, batch), recorded(parameters, batch)
        if all(map(torch.equal, [ours[0], *ours[1]], [wanted[0], *wanted[1]])):
            return found
    log.info("this processor's matrix products are other ones in the kernel: not used")
    return recorded


def by(
    network: dense.Network, workload: Workload, recorded: Gradients, batch: Mapping[str, Tensor]
) -> Gradients | None:
    """Its gradients, and the operators of the loss behind it; None where these are not the same in
    every step."""
    (name,) = workload.inputs

    def objective(outputs: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return workload.objective(outputs[0], batch)

    with torch.no_grad():
        outputs = network.there(batch[name].contiguous())
    of_outputs = record(objective, [outputs], batch)
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


def network_of(
    workload: Workload, model: nn.Module, batch: Mapping[str, Tensor], crew: Crew | None = None
) -> dense.Network | None:
    """A model's layers, each with ReLU after it or not; None if there are others, or if more than
    they makes the loss."""
    plain = type(workload).call is Workload.call and len(workload.inputs) == 1
    if not plain or workload.l2 or dense.kernel() is None:
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
    return dense.Network(sizes, followed, batch=len(x), crew=crew)
