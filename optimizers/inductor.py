"""A rule compiled by `torch.compile`: the compiled path wherever `native` has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor

from .eager import Eager, advance
from .rule import Rule


@cache
def compiled(rule: type[Rule]) -> Callable[..., None]:
    """One kernel for any size: neither a new step, nor a learning rate, nor a shape recompiles."""

    @torch.compile(dynamic=True, fullgraph=True)
    def step(p: Tensor, g: Tensor, slots: list[Tensor], c: dict[str, Tensor]) -> None:
        advance(rule, p, g, slots, SimpleNamespace(**c))

    return step


class Inductor(Eager):
    """Every tensor is handed over as `[P]`, or in a stack `[K, P]`."""

    on_host = False

    def __init__(
        self,
        rule: type[Rule],
        parameters: Sequence[Tensor],
        slots: Sequence[Sequence[Tensor]],
        rows: int | None = None,
    ) -> None:
        self.strides = [p.stride() for p in parameters]
        self.originals = parameters
        flat_slots = [[flat(s, rows) for s in tensors] for tensors in slots]
        super().__init__(rule, [flat(p.detach(), rows) for p in parameters], flat_slots, rows)

    def apply(self, gradients: Sequence[Tensor]) -> None:
        for i, g in enumerate(gradients):
            if g.stride() != self.strides[i]:
                g = torch.empty_like(self.originals[i]).copy_(g)
            p, c = self.parameters[i], self.shaped[self.parameters[i].ndim]
            step = compiled(self.rule) if p.shape[-1] > 1 else self.eager
            step(p, flat(g, self.rows), self.slots[i], vars(c))


def flat(x: Tensor, rows: int | None) -> Tensor:
    """Dense memory in its own order."""
    if rows is None:
        return x.as_strided((x.numel(),), (1,))
    return x.as_strided((rows, x.numel() // rows), (x.numel() // rows, 1))
