"""Fully connected networks in two calls, for the way there and the way back.

A product takes tens of microseconds, and what PyTorch does around each operator a good part of
that again.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optimizers import toolchain
from optimizers.layouts import PLAIN, Memory, check_memory

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("dense.cpp")
LIBRARIES = Path(torch.__file__).parent / "lib"


@cache
def kernel() -> tuple[ctypes.CDLL, Any] | None:
    """The functions, and the matrix product of PyTorch's BLAS; None, with one line in the log,
    where they cannot be built or the BLAS is not to be had."""
    library = toolchain.load_library(
        SOURCE.read_text("utf-8"), "Fully connected networks", "there", "back"
    )
    try:
        blas = ctypes.CDLL(str(LIBRARIES / "libtorch_cpu.so"))
        sgemm = ctypes.cast(blas.sgemm_, ctypes.c_void_p)
    except (OSError, AttributeError) as error:
        log.info("fully connected networks go by PyTorch's operators: %s", error)
        return None
    if library is None:
        return None
    for function, more in ((library.there, 3), (library.back, 4)):
        function.argtypes = [ctypes.c_void_p, ctypes.c_int, *[ctypes.c_void_p] * 2, ctypes.c_int]
        function.argtypes += [ctypes.c_void_p] * (1 + more)
        function.restype = None
    return library, sgemm


class Network:
    """A network of given layers, for batches of one size. What a call gives is good until the next:
    it lies in the same place.

    Args:
        sizes: features that come in, and go out of each layer.
        rectified: of each layer, whether ``max(0, .)`` follows.
    """

    def __init__(self, sizes: Sequence[int], rectified: Sequence[bool], *, batch: int) -> None:
        found = kernel()
        assert found is not None
        self.library, sgemm = found
        self.layers = len(rectified)
        self.outputs, self.changes = (
            [torch.empty(batch, width) for width in sizes[1:]] for _ in range(2)
        )
        self.gradients = [torch.empty(out, in_) for in_, out in pairwise(sizes)]
        self.sums = [torch.empty(width) for width in sizes[1:]]
        self.found = list(chain.from_iterable(zip(self.gradients, self.sums, strict=True)))
        self.shape = (
            *(sgemm, self.layers, (ctypes.c_int * len(sizes))(*sizes)),
            *((ctypes.c_bool * len(rectified))(*rectified), batch),
        )
        self.room = (
            *(self._addresses(self.outputs), self._addresses(self.changes)),
            self._addresses(self.gradients),
        )
        self.memory: Memory | None = None

    def takes(self, parameters: Sequence[Tensor]) -> bool:
        """Whether these, weights and biases by turns, lie as the kernel reads them. From then on it
        reads these; they are looked at anew where they are others than the last.

        Raises:
            RuntimeError: one has no memory.
        """
        if self.memory is None or not self.memory.holds(parameters):
            self.memory = None
            shapes = [x.shape for x in self.found]
            if [p.shape for p in parameters] != shapes or not all(map(_plain, parameters)):
                return False
            for place, p in enumerate(parameters):
                check_memory(p, f"parameter {place}")
            self.memory = Memory(parameters)
            self.weights, self.biases = (self._addresses(parameters[k::2]) for k in (0, 1))
        return True

    def there(self, x: Tensor) -> Tensor:
        """The outputs [B, features] for examples [B, ...], contiguous."""
        self.library.there(*self.shape, x.data_ptr(), self.weights, self.biases, self.room[0])
        return self.outputs[-1]

    def back(self, x: Tensor, change: Tensor) -> list[Tensor]:
        """The gradients of each layer's weights and biases after the way `there` of ``x``, from
        that of the outputs, [B, features]."""
        self.changes[-1].copy_(change)
        self.library.back(*self.shape, x.data_ptr(), self.weights, *self.room)
        for change, own in zip(self.changes, self.sums, strict=True):
            torch.sum(change, 0, out=own)
        return self.found

    def _addresses(self, tensors: Sequence[Tensor]) -> Any:
        return (ctypes.c_void_p * self.layers)(*map(Tensor.data_ptr, tensors))


def _plain(x: Tensor) -> bool:
    plain = type(x) in PLAIN and x.layout is torch.strided and x.is_contiguous()
    return plain and x.dtype is torch.float32 and x.device.type == "cpu"
