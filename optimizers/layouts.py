"""What tensors look like and where they lie: told at every step, and so as quickly as can be.

The one place that leans on PyTorch's inner workings to do so.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor

try:
    from torch._C._dynamo.guards import TensorGuards
except ImportError:  # they are PyTorch's own; without them steps of many tensors are slower
    TensorGuards = None  # type: ignore[assignment,misc]

PLAIN = (Tensor, torch.nn.Parameter)
HALF = (torch.float16, torch.bfloat16)


def state_dtype(parameter: Tensor) -> torch.dtype:
    """State and arithmetic are float32 where the parameter is half precision."""
    return torch.float32 if parameter.dtype in HALF else parameter.dtype


class Layout:
    """What some tensors look like: their types, dtypes, devices, shapes and strides."""

    def __init__(self, tensors: Sequence[Any]) -> None:
        self.looks = [look(t) for t in tensors]
        self.unchanged = guard(tensors)

    def holds(self, tensors: Sequence[Any]) -> bool:
        """Whether these look the same."""
        if len(tensors) != len(self.looks):
            return False
        if self.unchanged(*tensors):
            return True
        if [look(t) for t in tensors] != self.looks:
            return False
        # A guard is quick, but also goes by what matters to no step, such as autocast.
        self.unchanged = guard(tensors)
        return True


def look(x: Any) -> tuple[Any, ...]:
    if not isinstance(x, Tensor):
        return (type(x),)
    strides = x.stride() if x.layout is torch.strided else None
    return type(x), x.layout, x.dtype, x.device, x.shape, strides


def guard(tensors: Sequence[Any]) -> Any:
    """A function of as many tensors: True only if they look like these."""
    if TensorGuards is None or not all(
        isinstance(t, Tensor) and t.layout is torch.strided for t in tensors
    ):
        return lambda *_: False
    shapes: Any = [list(t.shape) for t in tensors]
    strides: Any = [list(t.stride()) for t in tensors]
    return TensorGuards(*tensors, dynamic_dims_sizes=shapes, dynamic_dims_strides=strides).check


class Memory(Layout):
    """What tensors look like, and where they lie."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__(tensors)
        self.pointers = pointers(tensors)

    def holds(self, tensors: Sequence[Any]) -> bool:
        return super().holds(tensors) and pointers(tensors) == self.pointers


def pointers(tensors: Sequence[Tensor]) -> list[int]:
    return list(map(Tensor.data_ptr, tensors))


def check_memory(x: Tensor, what: str) -> None:
    """PyTorch's own operators would read and write where it has none."""
    if type(x) not in PLAIN or x.layout is not torch.strided or x.numel() == 0 or x.is_meta:
        return
    if (x.storage_offset() + extent(x)) * x.element_size() > x.untyped_storage().nbytes():
        raise RuntimeError(f"{what} lies outside its storage, which was resized")


def extent(x: Tensor) -> int:
    """How many elements of its storage it spans."""
    return 1 + sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))


def overlapping(tensors: Sequence[Tensor]) -> bool:
    """Whether two of them share memory: then the order of operators matters."""
    spans = sorted(
        (x.data_ptr(), x.data_ptr() + extent(x) * x.element_size())
        for x in tensors
        if type(x) in PLAIN and x.numel()
    )
    return any(end > start for (_, end), (start, _) in pairwise(spans))


def fit(parameters: Sequence[Tensor], slots: Sequence[Sequence[Tensor]]) -> bool:
    """Whether all is plain memory, and each parameter's state is laid out as itself."""
    together = [*parameters, *chain.from_iterable(slots)]
    return all(type(x) in PLAIN and not x.is_inference() for x in together) and all(
        x.layout is torch.strided and x.stride() == p.stride() and x.dtype == state_dtype(p)
        for slot in slots
        for x, p in zip(slot, parameters, strict=True)
    )


@torch.no_grad()
def conform(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Each gradient in the layout and dtype of its parameter."""
    return [
        g if g.stride() == p.stride() and g.dtype == p.dtype else torch.empty_like(p).copy_(g)
        for g, p in zip(gradients, parameters, strict=True)
    ]
