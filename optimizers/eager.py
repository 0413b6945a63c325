"""A rule carried out tensor by tensor, by PyTorch's own operators: on any device, in any dtype."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .rule import Rule

HALF = (torch.float16, torch.bfloat16)


def state_dtype(parameter: Tensor) -> torch.dtype:
    """State, and the step itself, are float32 where the parameter is half precision."""
    return torch.float32 if parameter.dtype in HALF else parameter.dtype


def step(
    rule: type[Rule],
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Sequence[Sequence[Tensor]],
    coefficients: dict[str, Any],
) -> None:
    """One step in place; `state` holds, for each parameter, its slots."""
    c = SimpleNamespace(**coefficients)
    for p, g, slots in zip(parameters, gradients, state, strict=True):
        dtype = state_dtype(p)
        next_p, next_slots = rule.step(p.to(dtype), g.to(dtype), tuple(slots), c)
        p.copy_(next_p)
        for slot, next_slot in zip(slots, next_slots, strict=True):
            slot.copy_(next_slot)
