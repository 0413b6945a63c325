"""Gradients from values of the loss alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

# Each coordinate costs two evaluations of the loss.
MOST_COORDINATES = 10_000


@torch.no_grad()
def numeric_gradients(loss: Callable[[], Any], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Central differences, error O(h²), with the step h that balances it against rounding."""
    count = sum(p.numel() for p in parameters)
    if count > MOST_COORDINATES:
        raise ValueError(
            f"gradient='numeric' for {count} parameters would evaluate the loss {2 * count} times "
            f"a step; at most {MOST_COORDINATES} are accepted"
        )
    return [numeric_gradient(loss, p) for p in parameters]


def numeric_gradient(loss: Callable[[], Any], p: Tensor) -> Tensor:
    gradient = torch.empty_like(p)
    cube_root = torch.finfo(p.dtype).eps ** (1 / 3)
    for at in product(*map(range, p.shape)):
        held = p[at].clone()
        h = cube_root * max(1.0, abs(held.item()))
        above, below = held + h, held - h
        p[at] = above
        higher = float(loss())
        p[at] = below
        lower = float(loss())
        p[at] = held
        gradient[at] = (higher - lower) / (above - below).item()
    return gradient
