"""Models of one shape side by side: parameters [K, ...], and a batch for each of U seeds.

The K models lie ordered by seed, G = K / U for each. What is alike in all of them is computed once:
the first layer of a seed's models, which see the same images, is one matrix product.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap


def logits(model: nn.Module, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Of each model on the batch of its seed, [K, B, classes].

    Args:
        model: the layers; its own parameters are not used.
        parameters: those of all models by name, [K, ...].
        images: [U, B, C, H, W].
    """
    layers = list(model.named_children())
    if isinstance(model, nn.Sequential) and {type(layer) for _, layer in layers} <= FLAT:
        return dense(layers, parameters, images)
    runs = next(iter(parameters.values())).shape[0]
    grid = (len(images), runs // len(images))
    placed = {name: p.unflatten(0, grid) for name, p in parameters.items()}

    def one(own: dict[str, Tensor], seen: Tensor) -> Tensor:
        return functional_call(model, own, (seen,))

    return vmap(vmap(one, (0, None)))(placed, images).flatten(0, 1)


FLAT = {nn.Flatten, nn.Linear, nn.ReLU}


def dense(
    layers: Sequence[tuple[str, nn.Module]], parameters: Mapping[str, Tensor], images: Tensor
) -> Tensor:
    """Of fully connected networks. Activations are [K, features, B]: every matrix product, and that
    of every gradient, then finds its operands in place."""
    h = images.flatten(2).transpose(1, 2)  # [U, features, B]
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
