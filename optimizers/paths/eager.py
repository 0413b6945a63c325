"""A rule carried out by PyTorch's own operators: any device, any real dtype, any strides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..layouts import check_memory, state_dtype
from ..rule import Rule


def advance(rule: type[Rule], p: Tensor, g: Tensor, slots: Sequence[Tensor], c: Any) -> None:
    """One step of one tensor, in place."""
    dtype = state_dtype(p)
    next_p, next_slots = rule.step(p.to(dtype), g.to(dtype), tuple(slots), c)
    p.copy_(next_p)
    for slot, next_slot in zip(slots, next_slots, strict=True):
        slot.copy_(next_slot)


class Eager:
    """The path that always works, one tensor after another.

    Coefficients are Python floats for one run on the CPU. For a stack, and on an accelerator, they
    are rows of one buffer on the device: only `prepare` writes to it from the host, so that `apply`
    can be captured in a CUDA graph.
    """

    def __init__(
        self, rule: type[Rule], parameters: Sequence[Tensor], rows: int | None = None
    ) -> None:
        self.rule, self.rows = rule, rows
        self.axes = {p.ndim for p in parameters}
        self.dtype, self.device = state_dtype(parameters[0]), parameters[0].device
        self.on_host = rows is None and self.device.type == "cpu"
        self.names: list[str] = []
        self.buffer: Tensor | None = None  # [C] or [C, K]
        self.shaped: dict[int, SimpleNamespace] = {}  # coefficients for tensors of that many axes

    def prepare(self, coefficients: Mapping[str, Any]) -> None:
        """Set the coefficients of the next step; each a float, or in a stack an array `[K]`."""
        if self.on_host:
            self.shaped = dict.fromkeys(self.axes, SimpleNamespace(**coefficients))
            return
        shape = () if self.rows is None else (self.rows,)
        stacked = np.stack([np.broadcast_to(value, shape) for value in coefficients.values()])
        values = torch.from_numpy(stacked).to(self.dtype)
        if self.buffer is None:
            self.names = list(coefficients)
            self.buffer = values.to(self.device)
            self.shaped = {n: self.views(n) for n in self.axes}
        else:
            self.buffer.copy_(values, non_blocking=True)  # pageable memory is staged at once

    def views(self, axes: int) -> SimpleNamespace:
        """The buffer's rows as coefficients of tensors with so many axes."""
        assert self.buffer is not None
        shape = () if self.rows is None else (self.rows, *[1] * (axes - 1))
        rows = [row.view(shape) for row in self.buffer]
        return SimpleNamespace(**dict(zip(self.names, rows, strict=True)))

    def rescale(self, factor: Tensor) -> None:
        """Multiply every gradient of the next step by a number, or in a stack by `[K]` of them."""
        if self.buffer is None:
            c = next(iter(self.shaped.values()))  # the same for all
            c.scale = c.scale * factor
        else:
            self.buffer[self.names.index("scale")] *= factor

    def locate(self, gradients: Sequence[Tensor]) -> None:
        """Look at where the gradients of the next step are.

        Raises:
            RuntimeError: one has no memory.
        """
        for i, g in enumerate(gradients):
            check_memory(g, f"gradient {i}")

    @torch.no_grad()
    def apply(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        slots: Sequence[Sequence[Tensor]],
    ) -> None:
        """Take the step that was prepared, on tensors like those that this path was made for."""
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            advance(self.rule, p, g, [slot[i] for slot in slots], self.shaped[p.ndim])


# Up to so many elements, matrices of one shape are stepped together: then what a product costs is
# the call. Larger ones are not worth a copy.
SMALL = 8_192


class Matrices(Eager):
    """A rule on matrices: n of one shape at once, `[n, rows, columns]`; of a stack `[n, K, …]`."""

    def __init__(
        self, rule: type[Rule], parameters: Sequence[Tensor], rows: int | None = None
    ) -> None:
        super().__init__(rule, parameters, rows)
        self.axes = {2 if rows is None else 3}
        alike: dict[Any, list[int]] = {}
        for i, p in enumerate(parameters):
            alike.setdefault((p.shape, i if p.numel() > SMALL else None), []).append(i)
        self.alike = list(alike.values())

    @torch.no_grad()
    def apply(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        slots: Sequence[Sequence[Tensor]],
    ) -> None:
        (axes,) = self.axes
        with torch.autocast(self.device.type, enabled=False):  # it would round products
            for members in self.alike:
                p, g, *own = (
                    self.together([tensors[i] for i in members])
                    for tensors in (parameters, gradients, *slots)
                )
                next_p, next_own = self.rule.step(p, g, tuple(own), self.shaped[axes])
                for tensors, results in zip((parameters, *slots), (next_p, *next_own), strict=True):
                    for i, result in zip(members, results, strict=True):
                        tensors[i].copy_(result.reshape(tensors[i].shape))

    def together(self, tensors: Sequence[Tensor]) -> Tensor:
        """[n, rows, columns], or [n, K, rows, columns]"""
        (axes,) = self.axes
        flat = [x.flatten(axes - 1).to(self.dtype) for x in tensors]
        return torch.stack(flat) if flat[1:] else flat[0].unsqueeze(0)
