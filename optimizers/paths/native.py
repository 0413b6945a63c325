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
from ..toolchain import GRAIN, load_library, threads_for
from .translate import Source, translate

REALS = {torch.float32: "float", torch.float64: "double"}


PARTS = 4  # of a step that is shared out

# Has all parts of some work done: the address of a function of a context and a place, the context,
# and how many places there are.
Share = Callable[[int, ctypes.Structure, int], None]


class Step(ctypes.Structure):
    """What a kernel reads and writes."""

    _fields_ = (
        ("tensors", ctypes.c_int64),
        ("pointers", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("coefficients", ctypes.c_void_p),
        ("parts", ctypes.c_int64),
    )


@dataclass(frozen=True)
class Kernel:
    call: Callable[..., None]
    part: int  # the address of what takes a part of a step
    coefficients: tuple[str, ...]


def kernel(rule: type[Rule], dtype: torch.dtype) -> Kernel | None:
    """The rule's kernel; None, with one line in the log, where it cannot be built."""
    return load(translate(rule, REALS[dtype]))


@cache
def load(source: Source) -> Kernel | None:
    library = load_library(source.text, source.rule, "step", "step_part")
    if library is None:
        return None
    library.step.argtypes = [ctypes.POINTER(Step), ctypes.c_int]
    library.step.restype = None
    part = ctypes.cast(library.step_part, ctypes.c_void_p).value or 0
    return Kernel(library.step, part, source.coefficients)


def suits(parameter: Tensor) -> bool:
    return parameter.device.type == "cpu" and parameter.dtype in REALS


class Native:
    """The compiled path on a CPU; for a stack too, each row with its own coefficients.

    It knows addresses, not tensors: whoever calls `apply` has made sure that the parameters and
    slots are still those that it was made for.

    Attributes:
        share: how large steps are shared out; None for PyTorch's number of threads.
    """

    share: Share | None = None

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
        self.alone = rows is None
        rows = 1 if rows is None else rows
        self.sizes = np.array([p.numel() // rows for p in parameters], np.int64)
        self.elements = rows * int(self.sizes.sum())
        self.coefficients = torch.empty(
            rows, len(kernel.coefficients), dtype=parameters[0].dtype
        ).numpy()
        self.step = Step(
            len(parameters),
            self.addresses.ctypes.data,
            self.sizes.ctypes.data,
            rows,
            self.coefficients.ctypes.data,
            PARTS,
        )

    def prepare(self, coefficients: Mapping[str, Any]) -> None:
        found = [coefficients[name] for name in self.kernel.coefficients]
        if self.alone:
            self.coefficients[0] = found
            return
        for column, value in zip(self.coefficients.T, found, strict=True):
            column[:] = value

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
        if self.share is not None and self.elements > PARTS * GRAIN:
            self.share(self.kernel.part, self.step, PARTS)
        else:
            self.kernel.call(self.step, threads_for(self.elements))
        increment_version(parameters)
