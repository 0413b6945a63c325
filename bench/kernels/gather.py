"""Training images that stay bytes where they lie, and are scaled when a batch is gathered.

Images scaled in advance take four times the memory, in each process of a sweep, and a batch of
random ones is then four times as much to read.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from optimizers import toolchain

SOURCE = Path(__file__).with_name("gather.cpp")


class Gathering(ctypes.Structure):
    """What the kernel reads and writes; whoever has one keeps the tensors."""

    _fields_ = (
        ("images", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("pixels", ctypes.c_int64),
        ("interleaved", ctypes.c_bool),
        ("shift", ctypes.c_void_p),
        ("divisor", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("rows_a_part", ctypes.c_int64),
    )


@cache
def kernel() -> ctypes.CDLL | None:
    """Its function ``gather``, and ``gather_part`` for a `Crew`; None, with one line in the log,
    where it cannot be built."""
    library = toolchain.load_library(
        SOURCE.read_text("utf-8"), "Gathering of batches", "gather", "gather_part"
    )
    if library is not None:
        library.gather.argtypes = [ctypes.POINTER(Gathering), ctypes.c_int]
        library.gather.restype = None
    return library


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
        return self.batch(slice(None))[0]

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The images and labels at ``index``, and no others are scaled."""
        rows, labels = (
            x[index].contiguous() if isinstance(index, slice) else x.index_select(0, index)
            for x in (self.index, self.labels)
        )
        images = self.empty(len(rows))
        library = kernel()
        assert library is not None
        library.gather(self.gathering(rows, images), toolchain.threads_for(images.numel()))
        return images, labels

    def empty(self, count: int) -> Tensor:
        """Room for so many images."""
        return torch.empty(
            (count, *self.source.shape[1:]),
            dtype=torch.float32,
            memory_format=torch.channels_last if self._interleaved else torch.contiguous_format,
        )

    def gathering(self, rows: Tensor, images: Tensor, rows_a_part: int = 0) -> Gathering:
        """How images of the data set [B] come into `empty` ones."""
        channels, height, width = self.source.shape[1:]
        return Gathering(
            *(self.source.data_ptr(), rows.data_ptr(), len(rows)),
            *(channels, height * width, self._interleaved),
            *(self.shift.data_ptr(), self.divisor.data_ptr(), images.data_ptr()),
            rows_a_part,
        )

    @property
    def _interleaved(self) -> bool:
        return not self.shift.is_contiguous()
