"""Fully connected networks in two calls, for the way there and the way back.

A product takes tens of microseconds, and what PyTorch does around each operator a good part of
that again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.kernels.crew import Crew
from bench.kernels.products import with_products
from optimizers.layouts import PLAIN, Memory, check_memory

SOURCE = Path(__file__).with_name("dense.cpp")
# Multiplications on the way there; fewer are done in the time of a few operators.
WORTH_SHARING = 2**20


address = ctypes.c_void_p


class Description(ctypes.Structure):
    """A network as the kernel reads it."""

    _fields_ = (
        ("sgemm", address),
        ("share", address),
        ("crew", address),
        ("layers", ctypes.c_int),
        ("sizes", ctypes.POINTER(ctypes.c_int)),
        ("rectified", ctypes.POINTER(ctypes.c_bool)),
        ("batch", ctypes.c_int),
        ("samples_a_part", ctypes.c_int),
        ("cuts", ctypes.c_int),
        ("where", ctypes.POINTER(ctypes.c_int)),
        ("x", address),
        ("weights", ctypes.POINTER(address)),
        ("biases", ctypes.POINTER(address)),
        ("outputs", ctypes.POINTER(address)),
        ("changes", ctypes.POINTER(address)),
        ("gradients", ctypes.POINTER(address)),
        ("sums", ctypes.POINTER(address)),
    )


@cache
def kernel() -> tuple[ctypes.CDLL, ctypes.c_void_p] | None:
    """The functions, and the matrix product of PyTorch's BLAS, where both are to be had."""
    return with_products(SOURCE, "Fully connected networks", Description, "there", "back")


class Reading:
    """What reads parameters, weights and biases by turns, where they lie.

    Attributes:
        description: of networks, with ``weights`` and ``biases``.
        found: where the gradients of the parameters go, each of the shape of its own.
        memory: of the parameters that were taken last.
    """

    description: Any
    found: list[Tensor]
    memory: Memory | None = None

    def takes(self, parameters: Sequence[Tensor]) -> bool:
        """Whether these lie as the kernel reads them. From then on it reads these; they are looked
        at anew where they are others than the last.

        Raises:
            RuntimeError: one has no memory.
        """
        if self.memory is None or not self.memory.holds(parameters):
            self.memory = None
            shapes = [x.shape for x in self.found]
            if [p.shape for p in parameters] != shapes or not all(map(plain, parameters)):
                return False
            for place, p in enumerate(parameters):
                check_memory(p, f"parameter {place}")
            self.memory = Memory(parameters)
            self.description.weights, self.description.biases = (
                addresses(parameters[k::2]) for k in (0, 1)
            )
        return True


class Network(Reading):
    """A network of given layers, for batches of one size. What a call gives is good until the next:
    it lies in the same place.

    Args:
        sizes: features that come in, and go out of each layer.
        rectified: of each layer, whether ``max(0, .)`` follows.
        crew: who shares the work; it must be called by the owner of the crew alone then.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rectified: Sequence[bool],
        *,
        batch: int,
        crew: Crew | None = None,
    ) -> None:
        found = kernel()
        assert found is not None
        self.library, sgemm = found
        self.outputs, self.changes = (
            [torch.empty(batch, width) for width in sizes[1:]] for _ in range(2)
        )
        self.gradients = [torch.empty(out, in_) for in_, out in pairwise(sizes)]
        self.sums = [torch.empty(width) for width in sizes[1:]]
        pairs = zip(self.changes, self.sums, strict=True)
        self.others = [pair for pair in pairs if len(pair[1]) % 64]  # which PyTorch sums otherwise
        self.found = list(chain.from_iterable(zip(self.gradients, self.sums, strict=True)))
        products = batch * sum(g.numel() for g in self.gradients)
        self.crew = crew = crew if products >= WORTH_SHARING else None
        parts = 1 if crew is None else crew.size
        cuts = list(chain.from_iterable(cut(sizes, parts)))
        self.description = Description(
            sgemm=sgemm,
            share=crew.share if crew else None,
            crew=crew.address if crew else None,
            layers=len(rectified),
            sizes=(ctypes.c_int * len(sizes))(*sizes),
            rectified=(ctypes.c_bool * len(rectified))(*rectified),
            batch=batch,
            samples_a_part=up(batch / parts, 8),
            cuts=len(cuts) // 3,
            where=(ctypes.c_int * len(cuts))(*cuts),
            outputs=addresses(self.outputs),
            changes=addresses(self.changes),
            gradients=addresses(self.gradients),
            sums=addresses(self.sums),
        )

    def there(self, x: Tensor) -> Tensor:
        """The outputs [B, features] for examples [B, ...], contiguous."""
        self.description.x = x.data_ptr()
        self.library.there(self.description)
        return self.outputs[-1]

    def back(self, x: Tensor, change: Tensor) -> list[Tensor]:
        """The gradients of each layer's weights and biases after the way `there` of ``x``, from
        that of the outputs, [B, features]."""
        self.changes[-1].copy_(change)
        self.description.x = x.data_ptr()
        self.library.back(self.description)
        for change, own in self.others:
            torch.sum(change, 0, out=own)
        return self.found


def cut(sizes: Sequence[int], parts: int) -> list[tuple[int, int, int]]:
    """The gradients of all layers in about so many parts of like cost, each some of the features
    that come into a layer: the layer, from which and up to which; the largest first."""
    costs = [in_ * out for in_, out in pairwise(sizes)]
    found = []
    for layer, (cost, in_) in enumerate(zip(costs, sizes[:-1], strict=True)):
        features = up(in_ / ceil(parts * cost / sum(costs)), 16)
        found += [(layer, k, min(k + features, in_)) for k in range(0, in_, features)]
    return sorted(found, key=lambda c: -(c[2] - c[1]) * sizes[c[0] + 1])


def up(value: float, multiple: int) -> int:
    return multiple * ceil(value / multiple)


def addresses(tensors: Sequence[Tensor]) -> Any:
    return (address * len(tensors))(*map(Tensor.data_ptr, tensors))


def plain(x: Tensor) -> bool:
    plain = type(x) in PLAIN and x.layout is torch.strided and x.is_contiguous()
    return plain and x.dtype is torch.float32 and x.device.type == "cpu"
