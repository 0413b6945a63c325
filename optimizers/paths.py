"""Which path carries out a rule. All give the same numbers; they differ in what a step costs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from .eager import Eager
from .inductor import Inductor
from .native import Native, kernel, suits
from .rule import Hyperparameter, Rule, choice

PATH: Hyperparameter = choice("auto", "eager", "compiled")

# `auto` compiles for an accelerator from this many elements on: there, compilation takes seconds
# even from a warm cache. On a CPU a warm kernel loads in the time of a few steps.
ACCELERATOR_THRESHOLD = 1_000_000


def choose(
    path: str,
    rule: type[Rule],
    parameters: Sequence[Tensor],
    slots: Sequence[Sequence[Tensor]],
    rows: int | None = None,
) -> Any:
    """The path for tensors of one dtype on one device that take each step together."""
    device = parameters[0].device.type
    if path == "eager":
        pass
    elif device == "cpu":
        if all(map(suits, parameters, slots)) and (built := kernel(rule, parameters[0].dtype)):
            return Native(built, parameters, slots, rows)
    elif path == "compiled" or (
        device == "cuda"
        and find_spec("triton") is not None
        and sum(p.numel() for p in parameters) >= ACCELERATOR_THRESHOLD
    ):
        return Inductor(rule, parameters, slots, rows)
    return Eager(rule, parameters, slots, rows)
