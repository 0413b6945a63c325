"""Models of one shape side by side: parameters [K, ...], and a batch for each of U seeds.

The K models lie ordered by seed, G = K / U for each. What is alike in all of them is computed once:
the first layer of a seed's models, which see the same examples, is one matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from bench.workloads.workload import Batch, Workload


def outputs(
    workload: Workload, model: nn.Module, parameters: Mapping[str, Tensor], batch: Batch
) -> Any:
    """Of each model on the batch of its seed, [K, B, ...].

    Args:
        model: the layers; its own parameters are not used, its buffers are.
        parameters: those of all models by name, [K, ...].
        batch: tensors [U, B, ...].
    """
    plain = type(workload).call is Workload.call and len(workload.inputs) == 1
    if plain and is_dense(model, batch[workload.inputs[0]].ndim - 2):
        return dense(list(model.named_children()), parameters, batch[workload.inputs[0]])
    runs = next(iter(parameters.values())).shape[0]
    seeds = len(next(iter(batch.values()))) if batch else 1
    grid = (seeds, runs // seeds)
    placed = {name: p.unflatten(0, grid) for name, p in parameters.items()}

    def one(own: dict[str, Tensor], seen: Batch) -> Any:
        return workload.call(lambda *x: functional_call(model, own, x), seen)

    found = vmap(vmap(one, (0, None)), (0, 0 if batch else None))(placed, batch)
    return tree_map(lambda x: x.flatten(0, 1), found)


def for_each_run(batch: Batch, runs: int) -> dict[str, Tensor]:
    """The batches [U, B, ...] of U seeds, that of its seed for each of K runs: [K, B, ...]."""
    return {name: x.repeat_interleave(runs // len(x), 0) for name, x in batch.items()}


def is_dense(model: nn.Module, dimensions: int) -> bool:
    """Whether `dense` gives what the model gives for examples of so many dimensions."""
    layers = list(model.children())
    if type(model) is not nn.Sequential or len(layers) < len(model):  # one is used twice
        return False
    for layer in layers:
        if type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
            dimensions = 1
        elif type(layer) is nn.Linear:
            if dimensions != 1 or layer.bias is None:
                return False
        elif type(layer) is not nn.ReLU:
            return False
    return dimensions == 1


def dense(
    layers: Sequence[tuple[str, nn.Module]], parameters: Mapping[str, Tensor], x: Tensor
) -> Tensor:
    """Of fully connected networks. Activations are [K, features, B]: every matrix product, and that
    of every gradient, then finds its operands in place."""
    h = x.flatten(2).transpose(1, 2)  # [U, features, B]
    for name, layer in layers:
        if isinstance(layer, nn.Linear):
            h = Linear.apply(parameters[f"{name}.weight"], parameters[f"{name}.bias"], h)
        elif isinstance(layer, nn.ReLU):
            h = h.relu()
    return h.transpose(1, 2).contiguous()


class Linear(torch.autograd.Function):
    """`W h + b` of K models, where h is [K, inputs, B], or [U, inputs, B] for all of a seed.

    On one thread its results are those of ``nn.Linear`` on each model alone to the last bit, with
    the BLAS libraries that were tried: hence the copy in the gradient of b, which is a sum.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
        ctx.save_for_backward(weight, h)
        wide = weight.reshape(len(h), -1, weight.shape[2])  # [U, G * outputs, inputs], or as it is
        out = torch.baddbmm(bias.reshape(len(h), -1, 1), wide, h)
        return out.view(*weight.shape[:2], -1)  # [K, outputs, B]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        (gradient,) = gradients
        weight, h = ctx.saved_tensors
        wide = gradient.reshape(len(h), -1, gradient.shape[2])
        of_weight = torch.bmm(wide, h.transpose(1, 2)).view_as(weight)
        of_bias = gradient.transpose(1, 2).contiguous().sum(1)
        of_h = torch.bmm(weight.transpose(1, 2), gradient) if ctx.needs_input_grad[2] else None
        return of_weight, of_bias, of_h
