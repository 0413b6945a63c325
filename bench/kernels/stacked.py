"""Fully connected networks side by side, all in two calls: for the way there and the way back."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from pathlib import Path

import torch
from torch import Tensor

from bench.kernels.dense import Reading, address, addresses
from bench.kernels.products import with_products

SOURCE = Path(__file__).with_name("stacked.cpp")


class Description(ctypes.Structure):
    """Networks as the kernel reads them."""

    _fields_ = (
        ("sgemm", address),
        ("layers", ctypes.c_int),
        ("sizes", ctypes.POINTER(ctypes.c_int)),
        ("rectified", ctypes.POINTER(ctypes.c_bool)),
        ("batch", ctypes.c_int),
        ("runs", ctypes.c_int),
        ("seeds", ctypes.c_int),
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
    return with_products(SOURCE, "Stacks of fully connected networks", Description, "there", "back")


class Networks(Reading):
    """K networks of given layers, ordered by seed, as many of each. What a call gives is good until
    the next: it lies in the same place.

    Args:
        sizes: features that come in, and go out of each layer.
        rectified: of each layer, whether ``max(0, .)`` follows.
        batch: examples for each.
        runs: K.
        seeds: how many batches there are; the networks of a seed see the same examples.
    """

    def __init__(
        self, sizes: Sequence[int], rectified: Sequence[bool], *, batch: int, runs: int, seeds: int
    ) -> None:
        found = kernel()
        assert found is not None
        self.library, sgemm = found
        self.outputs, self.changes = (
            [torch.empty(runs, width, batch) for width in sizes[1:]] for _ in range(2)
        )
        self.gradients = [torch.empty(runs, out, in_) for in_, out in pairwise(sizes)]
        self.sums = [torch.empty(runs, width) for width in sizes[1:]]
        pairs = zip(self.changes, self.sums, strict=True)
        self.others = [pair for pair in pairs if pair[1].shape[1] % 64]  # PyTorch sums otherwise
        self.found = list(chain.from_iterable(zip(self.gradients, self.sums, strict=True)))
        self.description = Description(
            sgemm=sgemm,
            layers=len(rectified),
            sizes=(ctypes.c_int * len(sizes))(*sizes),
            rectified=(ctypes.c_bool * len(rectified))(*rectified),
            batch=batch,
            runs=runs,
            seeds=seeds,
            outputs=addresses(self.outputs),
            changes=addresses(self.changes),
            gradients=addresses(self.gradients),
            sums=addresses(self.sums),
        )

    def there(self, x: Tensor) -> Tensor:
        """The outputs [K, B, features] for the examples [U, B, ...] of each seed, contiguous."""
        self.description.x = x.data_ptr()
        self.library.there(self.description)
        return self.outputs[-1].transpose(1, 2).contiguous()

    def back(self, x: Tensor, change: Tensor) -> list[Tensor]:
        """The gradients of each layer's weights and biases after the way `there` of ``x``, from
        that of the outputs, [K, B, features]."""
        self.changes[-1].copy_(change.transpose(1, 2))
        self.description.x = x.data_ptr()
        self.library.back(self.description)
        for changed, own in self.others:
            torch.sum(changed.transpose(1, 2).contiguous(), 1, out=own)
        return self.found
