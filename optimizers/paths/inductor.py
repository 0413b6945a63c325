"""A rule compiled by `torch.compile`: the compiled path wherever `native` has none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from ..rule import Rule
from .eager import Eager, advance

RAISED = "backend='inductor' raised:"  # before the reason, on a line of its own

log = logging.getLogger(__name__)


@cache
def compiled(rule: Any) -> Callable[..., None]:
    """One kernel for any size: neither a new step, nor a learning rate, nor a shape recompiles."""

    def step(p: Tensor, g: Tensor, slots: list[Tensor], c: SimpleNamespace) -> None:
        advance(rule, p, g, slots, c)

    # Compilations are counted, and limited, by code object: each rule gets one of its own.
    step.__code__ = step.__code__.replace(co_name=rule.__name__)
    return torch.compile(step, dynamic=True, fullgraph=True)


class Inductor(Eager):
    """Every tensor is handed over as `[P]`, or in a stack `[K, P]`."""

    def __init__(
        self, rule: type[Rule], parameters: Sequence[Tensor], rows: int | None = None
    ) -> None:
        super().__init__(rule, parameters, rows)
        self.step: Callable[..., None] = compiled(rule)  # type: ignore[arg-type]  # classes can be hashed
        self.axes = {1 if rows is None else 2}
        self.on_host = False  # numbers would be compiled in

    @torch.no_grad()
    def apply(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        slots: Sequence[Sequence[Tensor]],
    ) -> None:
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            own = [flat(slot[i], self.rows) for slot in slots]
            (axes,) = self.axes
            arguments = flat(p.detach(), self.rows), flat(g, self.rows), own, self.shaped[axes]
            try:
                self.step(*arguments)
            except TorchDynamoException as error:
                reason = str(error).removeprefix(RAISED).lstrip().splitlines()[0]
                log.warning("%s runs uncompiled, which is slower: %s", self.rule.__name__, reason)
                self.step = partial(advance, self.rule)
                self.step(*arguments)


def flat(x: Tensor, rows: int | None) -> Tensor:
    """Dense memory in its own order."""
    if rows is None:
        return x.as_strided((x.numel(),), (1,))
    return x.as_strided((rows, x.numel() // rows), (x.numel() // rows, 1))
