"""Training images that stay bytes where they lie, and are scaled when a batch is gathered.

Images scaled in advance take four times the memory, in each process of a sweep, and a batch of
random ones is then four times as much to read.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from optimizers import toolchain

SOURCE = Path(__file__).with_name("gather.cpp")


@cache
def kernel() -> Callable[..., None] | None:
    """None, with one line in the log, where it cannot be built."""
    library = toolchain.load_library(SOURCE.read_text("utf-8"), "Gathering of batches", "gather")
    if library is None:
        return None
    i64, address = ctypes.c_int64, ctypes.c_void_p
    library.gather.argtypes = [address, address, i64, i64, i64, ctypes.c_bool]
    library.gather.argtypes += [address, address, address, ctypes.c_int]
    library.gather.restype = None
    return library.gather


def suits(images: Tensor) -> bool:
    """Whether a `ByteSplit` can be made of ``images``."""
    return images.device.type == "cpu" and images.is_contiguous() and kernel() is not None


@dataclass(frozen=True)
class ByteSplit:
    """Some images of a data set, to a reader as if they were a `Split` in float32, bit for bit."""

    source: Tensor  # [N, C, H, W], uint8, contiguous: all images of the data set
    index: Tensor  # [M], int64: those in the split
    labels: Tensor  # [M], int64
    shift: Tensor  # [1, C, H, W], float32, in the memory format of the batches
    divisor: Tensor  # [1, C, H, W], the same

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """All of them, scaled anew each time: [M, C, H, W], float32."""
        return self.batch(torch.arange(len(self)))[0]

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        interleaved = not self.shift.is_contiguous()
        rows = self.index.index_select(0, index)
        channels, height, width = self.source.shape[1:]
        images = torch.empty(
            (len(rows), channels, height, width),
            dtype=torch.float32,
            memory_format=torch.channels_last if interleaved else torch.contiguous_format,
        )
        gather = kernel()
        assert gather is not None
        gather(
            *(self.source.data_ptr(), rows.data_ptr(), len(rows)),
            *(channels, height * width, interleaved),
            *(self.shift.data_ptr(), self.divisor.data_ptr(), images.data_ptr()),
            toolchain.threads_for(images.numel()),
        )
        return images, self.labels.index_select(0, index)
