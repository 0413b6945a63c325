"""Which path carries out a rule. All give the same numbers; they differ in what a step costs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from ..rule import Hyperparameter, Matrixwise, Rule, choice
from . import native
from .eager import Eager, Matrices
from .native import Native

PATH: Hyperparameter = choice("auto", "eager", "compiled")

# `auto` compiles for an accelerator from this many elements on: there, compilation takes seconds
# even from a warm cache. On a CPU a warm kernel loads in the time of a few steps.
ACCELERATOR_THRESHOLD = 1_000_000


def check_path(path: object, rule: type[Rule]) -> None:
    """ValueError if there is no such path, or it cannot carry the rule."""
    PATH.check("path", path)
    if path == "compiled" and issubclass(rule, Matrixwise):
        raise ValueError(
            f"path={path!r} cannot carry {rule.__name__}, a rule on whole matrices: it must be "
            "'auto' or 'eager'"
        )


def choose(
    path: str,
    rule: type[Rule],
    parameters: Sequence[Tensor],
    slots: Sequence[Sequence[Tensor]],
    rows: int | None = None,
) -> Eager | Native:
    """The path for tensors of one dtype on one device that take each step together.

    The state of a slot is a tensor for each parameter; unless `path` is eager, of its layout.
    """
    check_path(path, rule)
    if issubclass(rule, Matrixwise):
        return Matrices(rule, parameters, rows)
    if path != "eager" and all(dense(p, rows) for p in parameters):
        if native.suits(parameters[0]):
            if (kernel := native.kernel(rule, parameters[0].dtype)) is not None:
                return Native(kernel, parameters, slots, rows)
        elif path == "compiled" or worth_compiling(parameters):
            from .inductor import Inductor  # brings in all of torch.compile

            return Inductor(rule, parameters, rows)
    return Eager(rule, parameters, rows)


def dense(p: Tensor, rows: int | None) -> bool:
    """Whether it is plain memory without gaps, in a stack row after row."""
    plain = type(p) in (Tensor, torch.nn.Parameter)
    return (
        plain
        and torch.empty_like(p).stride() == p.stride()
        and (rows is None or p.numel() == 0 or p[0].numel() == p.stride(0))
    )


def worth_compiling(parameters: Sequence[Tensor]) -> bool:
    on_accelerator = parameters[0].device.type == "cuda" and find_spec("triton") is not None
    return on_accelerator and sum(p.numel() for p in parameters) >= ACCELERATOR_THRESHOLD


def clip_factor(norm: Tensor, limit: float | Tensor) -> Tensor:
    """What brings gradients of this joint norm down to the limit."""
    return (limit / (norm + 1e-6)).clamp(max=1.0)
