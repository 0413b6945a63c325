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

from .eager import Eager, advance
from .rule import Rule

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
        self,
        rule: type[Rule],
        parameters: Sequence[Tensor],
        slots: Sequence[Sequence[Tensor]],
        rows: int | None = None,
    ) -> None:
        self.strides = [p.stride() for p in parameters]
        self.originals = parameters
        self.step: Callable[..., None] = compiled(rule)  # type: ignore[arg-type]  # classes can be hashed
        flat_slots = [[flat(s, rows) for s in tensors] for tensors in slots]
        super().__init__(rule, [flat(p.detach(), rows) for p in parameters], flat_slots, rows)
        self.on_host = False  # numbers would be compiled in

    def apply(self, gradients: Sequence[Tensor]) -> None:
        for i, g in enumerate(gradients):
            if g.stride() != self.strides[i]:
                g = torch.empty_like(self.originals[i]).copy_(g)
            p = self.parameters[i]
            arguments = p, flat(g, self.rows), self.slots[i], self.shaped[p.ndim]
            try:
                self.step(*arguments)
            except TorchDynamoException as error:
                reason = str(error).splitlines()[0]
                log.warning("%s runs uncompiled, which is slower: %s", self.rule.__name__, reason)
                self.step = partial(advance, self.rule)
                self.step(*arguments)


def flat(x: Tensor, rows: int | None) -> Tensor:
    """Dense memory in its own order."""
    if rows is None:
        return x.as_strided((x.numel(),), (1,))
    return x.as_strided((rows, x.numel() // rows), (x.numel() // rows, 1))
