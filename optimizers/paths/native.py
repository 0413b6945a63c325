"""A rule compiled to one CPU kernel over all tensors of a batch.

The kernel is built once for each rule and type. Calling it costs a few microseconds, and no memory
is allocated or copied: parameters, gradients and state stay where they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ..layouts import check_memory
from ..rule import Rule
from ..toolchain import load_library, threads_for
from .translate import Source, translate

REALS = {torch.float32: "float", torch.float64: "double"}


@dataclass(frozen=True)
class Kernel:
    call: Callable[..., None]
    coefficients: tuple[str, ...]


def kernel(rule: type[Rule], dtype: torch.dtype) -> Kernel | None:
    """The rule's kernel; None, with one line in the log, where it cannot be built."""
    return load(translate(rule, REALS[dtype]))


@cache
def load(source: Source) -> Kernel | None:
    library = load_library(source.text, source.rule, "step")
    if library is None:
        return None
    i64, address = ctypes.c_int64, ctypes.c_void_p
    library.step.argtypes = [i64, address, address, i64, address, ctypes.c_int]
    library.step.restype = None
    return Kernel(library.step, source.coefficients)


def suits(parameter: Tensor) -> bool:
    return parameter.device.type == "cpu" and parameter.dtype in REALS


class Native:
    """The compiled path on a CPU; for a stack too, each row with its own coefficients.

    It knows addresses, not tensors: whoever calls `apply` has made sure that the parameters and
    slots are still those that it was made for.
    """

    def __init__(
        self,
        kernel: Kernel,
        parameters: Sequence[Tensor],
        slots: Sequence[Sequence[Tensor]],
        rows: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.addresses = np.zeros((2 + len(slots), len(parameters)), np.int64)
        for operand, tensors in zip(self.addresses, [parameters, [], *slots], strict=True):
            operand[: len(tensors)] = [x.data_ptr() for x in tensors]
        rows = 1 if rows is None else rows
        self.sizes = np.array([p.numel() // rows for p in parameters], np.int64)
        self.elements = rows * int(self.sizes.sum())
        self.coefficients = torch.empty(
            rows, len(kernel.coefficients), dtype=parameters[0].dtype
        ).numpy()
        self.arguments = (
            len(parameters),
            self.addresses.ctypes.data,
            self.sizes.ctypes.data,
            rows,
            self.coefficients.ctypes.data,
        )

    def prepare(self, coefficients: Mapping[str, Any]) -> None:
        for i, name in enumerate(self.kernel.coefficients):
            self.coefficients[:, i] = coefficients[name]

    def rescale(self, factor: Tensor) -> None:
        self.coefficients[:, self.kernel.coefficients.index("scale")] *= np.asarray(factor)

    def locate(self, gradients: Sequence[Tensor]) -> None:
        """Look at where the gradients of the next step are.

        Raises:
            RuntimeError: one has no memory.
        """
        addresses = np.fromiter(map(Tensor.data_ptr, gradients), np.int64, len(gradients))
        if not np.array_equal(addresses, self.addresses[1]):
            for i, g in enumerate(gradients):
                check_memory(g, f"gradient {i}")
            self.addresses[1] = addresses

    def apply(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        slots: Sequence[Sequence[Tensor]],
    ) -> None:
        """Take the step that was prepared, on gradients that were located and have the parameters'
        layout and dtype."""
        self.kernel.call(*self.arguments, threads_for(self.elements))
        increment_version(parameters)
