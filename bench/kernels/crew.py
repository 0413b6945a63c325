"""Threads that help the one that trains with its work, part by part."""

from __future__ import annotations

import ctypes
import os
import weakref
from functools import cache
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import torch

from optimizers import toolchain

SOURCE = Path(__file__).with_name("crew.cpp")
FUNCTIONS = ("new", "work", "stop", "delete", "share", "begin_to", "finish")


@cache
def kernel() -> ctypes.CDLL | None:
    """None, with one line in the log, where it cannot be built."""
    names = [f"crew_{name}" for name in FUNCTIONS]
    library = toolchain.load_library(SOURCE.read_text("utf-8"), "Work by several threads", *names)
    if library is None:
        return None
    address = ctypes.c_void_p
    for name in names:
        function = getattr(library, name)
        function.argtypes, function.restype = [address], None
    library.crew_new.argtypes, library.crew_new.restype = [], address
    for function in (library.crew_share, library.crew_begin_to):
        function.argtypes = [address, address, address, ctypes.c_int]
    return library


class Crew:
    """So many threads beside the one that owns it, which alone may call it.

    They do the parts of a work as the owner does: with its rounding, and each product of matrices
    in one thread. Results must not depend on who did which part.

    Attributes:
        size: with the owner.
        address, share: of the crew and of its function, for kernels that hand out work themselves.
    """

    def __init__(self, threads: int) -> None:
        library = kernel()
        assert library is not None
        self.library, self.size = library, 1 + threads
        self.address = library.crew_new()
        self.share = address_of(library.crew_share)
        self.begun: list[Any] = []  # what the work that was begun reads and writes
        ready = Barrier(self.size)
        workers = [
            Thread(target=_work, args=(library, self.address, ready), daemon=True)
            for _ in range(threads)
        ]
        for worker in workers:
            worker.start()
        ready.wait()
        weakref.finalize(self, _end, library, self.address, workers, self.begun, os.getpid())

    def do(self, part: int, context: ctypes.Structure, parts: int) -> None:
        """Has the address of a function called for the places of so many parts, fewer than 2^16;
        all are done afterwards."""
        self.library.crew_share(self.address, part, ctypes.addressof(context), parts)

    def begin_to(self, part: int, context: ctypes.Structure, parts: int, *kept: Any) -> None:
        """The same, as soon as somebody has nothing else to do. `finish` comes before the next."""
        self.begun += [context, *kept]
        self.library.crew_begin_to(self.address, part, ctypes.addressof(context), parts)

    def finish(self) -> None:
        """What was begun is done afterwards."""
        self.library.crew_finish(self.address)
        self.begun.clear()


def _work(library: ctypes.CDLL, address: int, ready: Barrier) -> None:
    torch.set_num_threads(1)  # of this thread, for PyTorch and its BLAS
    ready.wait()
    library.crew_work(address)


def _end(
    library: ctypes.CDLL, address: int, workers: list[Thread], begun: list[Any], process: int
) -> None:
    if os.getpid() != process:  # threads do not survive a fork
        return
    if begun:
        library.crew_finish(address)
    library.crew_stop(address)
    for worker in workers:
        worker.join()
    library.crew_delete(address)


def address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
