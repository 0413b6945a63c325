"""A rule compiled to one CPU kernel over all tensors of a batch.

The kernel is built once for each rule and type, in about half a second, and kept in the user's
cache; loading it again takes about a millisecond. Calling it costs a few microseconds, and no
memory is allocated or copied: parameters, gradients and state stay where they are.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ..layouts import check_memory
from ..rule import Rule
from .translate import Source, translate

log = logging.getLogger(__name__)

REALS = {torch.float32: "float", torch.float64: "double"}

FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-ffp-contract=off"]  # a fused multiply-add rounds differently from two operators
FLAGS += ["-fopenmp", "-shared", "-fPIC"]

# Elements a thread must have before starting it pays.
GRAIN = 16384


@dataclass(frozen=True)
class Kernel:
    call: Callable[..., None]
    coefficients: tuple[str, ...]


def kernel(rule: type[Rule], dtype: torch.dtype) -> Kernel | None:
    """The rule's kernel; None, with one line in the log, where it cannot be built."""
    return load(translate(rule, REALS[dtype]))


@cache
def load(source: Source) -> Kernel | None:
    library = load_library(source.text, source.rule)
    if library is None:
        return None
    i64, address = ctypes.c_int64, ctypes.c_void_p
    library.step.argtypes = [i64, address, address, i64, address, ctypes.c_int]
    library.step.restype = None
    return Kernel(library.step, source.coefficients)


def load_library(text: str, what: str) -> ctypes.CDLL | None:
    """The library of a text in C++; None, with one line in the log about `what`, where it cannot be
    built."""
    try:
        return ctypes.CDLL(str(build(text)))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", None) or error).splitlines()[0]
        log.warning("%s runs uncompiled, which is slower: %s", what, reason)
        return None


def build(text: str, folder: Path | None = None) -> Path:
    """The shared library of a kernel, compiled unless the folder has it: by default the cache."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)
    if compiler is None:
        raise FileNotFoundError("no C++ compiler found; install g++, or name one in CXX")
    key = hashlib.sha256("\n".join([text, compiler, *FLAGS, processor()]).encode()).hexdigest()
    folder = folder or platformdirs.user_cache_path("optimizer-bench") / "kernels"
    library = folder / f"{key[:32]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            code, built = Path(scratch, "step.cpp"), Path(scratch, "step.so")
            code.write_text(text)
            command = [compiler, *FLAGS, str(code), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            built.replace(library)  # atomic: two processes may build at once
    return library


@cache
def processor() -> str:
    """What `-march=native` depends on: a cache may be shared by unlike machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    features = [line for line in lines if line.lower().startswith(("flags", "features"))]
    return features[0] if features else torch.backends.cpu.get_cpu_capability()


def threads_for(elements: int) -> int:
    return min(torch.get_num_threads(), 1 + elements // GRAIN)


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
