"""Kernels whose matrix products are those of PyTorch's own BLAS, to the last bit."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import torch

from optimizers import toolchain

log = logging.getLogger(__name__)

HEADER = Path(__file__).with_name("products.h")
LIBRARIES = Path(torch.__file__).parent / "lib"


def with_products(
    source: Path, what: str, description: type[ctypes.Structure], *functions: str
) -> tuple[ctypes.CDLL, ctypes.c_void_p] | None:
    """A kernel whose functions take a description, and the product that this is to name; None, with
    one line in the log, where it cannot be built or the BLAS is not to be had."""
    text = HEADER.read_text("utf-8") + source.read_text("utf-8")
    library = toolchain.load_library(text, what, *functions)
    try:
        blas = ctypes.CDLL(str(LIBRARIES / "libtorch_cpu.so"))
        sgemm = ctypes.cast(blas.sgemm_, ctypes.c_void_p)
    except (OSError, AttributeError) as error:
        log.info("%s go by PyTorch's operators: %s", what[:1].lower() + what[1:], error)
        return None
    if library is None:
        return None
    for name in functions:
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.POINTER(description)], None
    return library, sgemm
