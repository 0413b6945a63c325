"""What a step cannot use: refused by name, before anything has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .layouts import check_memory, state_dtype


def check_parameter(p: Any, what: str) -> None:
    if not isinstance(p, Tensor):
        raise TypeError(f"{what} is a {type(p).__name__}, not a tensor")
    if not p.is_floating_point():
        raise TypeError(f"{what} is {p.dtype}: only real floats can be optimized")
    check_memory(p, what)


def check_gradient(g: Tensor, p: Tensor, what: str) -> None:
    if g.layout is not torch.strided:
        raise TypeError(f"the gradient of {what} is sparse: only dense gradients can be used")
    for name in ("shape", "device"):
        mine, its = getattr(p, name), getattr(g, name)
        if mine != its:
            raise RuntimeError(
                f"{what} has {name} {readable(mine)}, but its gradient {readable(its)}: the "
                "parameter was changed after backward; call zero_grad, then backward again"
            )
    if not g.is_floating_point():
        raise TypeError(f"the gradient of {what} is {g.dtype}: only real floats can be used")
    check_memory(g, f"the gradient of {what}")


def check_state(entry: dict[str, Any], slots: Sequence[str], p: Tensor, what: str) -> None:
    """Also fills in what is not there yet: zero."""
    step = entry.get("step", 0)
    try:
        whole = int(step)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        whole = -1
    if whole != step or whole < 0:
        raise ValueError(f"the state of {what} has step {step!r}: it must be a whole number from 0")
    for slot in slots:
        if slot in entry:
            check_slot(entry[slot], p, f"state {slot!r} of {what}")
    entry["step"] = whole
    for slot in slots:
        if slot not in entry:
            entry[slot] = new_slot(p)


def check_slot(slot: Any, p: Tensor, what: str) -> None:
    if not isinstance(slot, Tensor) or not slot.is_floating_point():
        kind = slot.dtype if isinstance(slot, Tensor) else type(slot).__name__
        raise TypeError(f"{what} is {kind}, not a tensor of real floats")
    for name in ("shape", "device"):
        its, wanted = getattr(slot, name), getattr(p, name)
        if its != wanted:
            raise RuntimeError(
                f"{what} has {name} {readable(its)}, but its parameter {readable(wanted)}: after "
                "such a change, clear its state or make a new optimizer"
            )
    check_memory(slot, what)


def readable(value: Any) -> str:
    return str(list(value)) if isinstance(value, torch.Size) else str(value)


def new_slot(p: Tensor) -> Tensor:
    return torch.zeros_like(p, dtype=state_dtype(p))
