"""Gradients from values of the loss alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

# Each coordinate costs two evaluations of the loss.
MOST_COORDINATES = 10_000


def numeric_gradients(loss: Callable[[], Any], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Central differences in every coordinate, the loss evaluated without autograd."""
    count = sum(p.numel() for p in parameters)
    if count > MOST_COORDINATES:
        raise ValueError(
            f"gradient='numeric' for {count} parameters would evaluate the loss {2 * count} times "
            f"a step; at most {MOST_COORDINATES} are accepted"
        )
    gradients = [torch.empty_like(p) for p in parameters]
    for p, gradient in zip(parameters, gradients, strict=True):
        for at in product(*map(range, p.shape)):
            gradient[at] = partial_derivative(loss, p, at)
    return gradients


@torch.no_grad()
def partial_derivative(loss: Callable[[], Any], p: Tensor, at: tuple[int, ...]) -> float:
    """In one coordinate: the step balances the error of differences, O(h²), against rounding."""
    held = p[at].clone()
    h = torch.finfo(p.dtype).eps ** (1 / 3) * max(1.0, abs(held.item()))
    above, below = held + h, held - h
    p[at] = above
    higher = float(loss())
    p[at] = below
    lower = float(loss())
    p[at] = held
    return (higher - lower) / float(above - below)
