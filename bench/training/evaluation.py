"""Evaluation: a split in slices, and the sums over it that metrics are made of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor

from bench.workloads.workload import Batch, Workload


class Slices:
    """A data loader of a split's consecutive slices. With several processes each takes every
    ``processes``-th slice, and one at least, even if it is empty."""

    def __init__(
        self, workload: Workload, split: str, size: int, *, rank: int = 0, processes: int = 1
    ) -> None:
        length = workload.size(split)
        size = min(size, -(-length // processes))
        starts = [*range(0, length, size)[rank::processes]] or [length]
        self.slices = [slice(start, min(start + size, length)) for start in starts]
        self.workload, self.split = workload, split

    def __len__(self) -> int:
        return len(self.slices)

    def __iter__(self) -> Iterator[Batch]:
        for part in self.slices:
            yield self.workload.batch(part, self.split)


class Evaluation:
    """The sums of K runs over a split, by name.

    They are added up in float64 on the CPU: not every device has that.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.seconds = 0.0

    def start(self) -> None:
        self.started = time.perf_counter()
        self.names: list[str] = []
        self.parts: list[Tensor] = []  # of each slice [M, K]

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Those over a slice, each [K]."""
        self.names = list(sums)
        wide = torch.float64 if sums["loss"].dtype == torch.float64 else torch.float32
        self.parts.append(torch.stack([x.to(wide) for x in sums.values()]))

    def end(self, trainer: pl.Trainer) -> list[dict[str, float]]:
        """The value of each metric for each run, the shares of all processes together."""
        sums = torch.stack(self.parts).cpu().double().sum(0)  # [M, K]
        if trainer.world_size > 1:
            device = trainer.strategy.root_device
            sums = trainer.strategy.reduce(sums.to(device), reduce_op="sum").cpu()
        self.seconds += time.perf_counter() - self.started
        rows = sums.T.tolist()  # [K, M]
        return [self.workload.values(dict(zip(self.names, row, strict=True))) for row in rows]
