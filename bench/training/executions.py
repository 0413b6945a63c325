"""A Lightning data loader of indices: which examples make each step."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from bench.data import epoch_order
from bench.data.tensors import Sampling

DEFAULT_STEPS = 50


class Executions:
    """The batches of one epoch as index tensors, several optimizer steps to an item.

    An item is a list of int64 tensors ``[U, B]``, one a step, with a row for each of U seeds;
    Lightning calls it a batch. The order of the samples is a function of the seed and the epoch
    alone: it depends neither on how many steps make an item nor on the other seeds. With several
    processes each takes every ``world_size``-th sample of a batch, which is filled up from its
    start where it cannot be divided.

    Args:
        size: number of training samples.
        batch_size: samples a batch, over all processes.
        accumulate: batches a step; those left at an epoch's end make one, too. An item holds the
            batches of a step as one, which `micro_batches` takes apart.
        steps: optimizer steps an item holds at most.
        ends: steps of each epoch with which an item must end.
        ends_in: the same for single epochs, in place of ``ends``.
        steps_left: how many optimizer steps the run may still take, asked before each item.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        accumulate: int = 1,
        sampling: Sampling,
        drop_last: bool,
        seeds: Sequence[int],
        steps: int,
        steps_left: Callable[[], int | None],
        ends: Sequence[int] = (),
        ends_in: Mapping[int, Sequence[int]] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.size = size
        self.micro_batch = min(batch_size, size)
        self.batch_size = min(batch_size * accumulate, size)  # samples a step
        self.sampling = sampling
        self.seeds = list(seeds)
        self.steps = steps
        self.steps_left = steps_left
        self.ends, self.ends_in = ends, ends_in or {}
        self.rank = rank
        self.world_size = world_size
        self.used = size - size % self.micro_batch if drop_last else size  # samples an epoch
        self.steps_per_epoch = -(-self.used // self.batch_size)
        self.taken = 0  # steps of the epoch that is next: a run may go on within one
        self.epoch = 0
        self.sampler = self  # Lightning calls `sampler.set_epoch` before each epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Items of the epoch that has most; Lightning asks once, and another may end earlier."""
        return max(sum(1 for _ in self._items(epoch)) for epoch in (*self.ends_in, -1))

    def _items(self, epoch: int) -> Iterator[tuple[int, int]]:
        """The steps of an epoch that make an item each: from, and up to."""
        start = 0
        for end in (*self.ends_in.get(epoch, self.ends), self.steps_per_epoch):
            for first in range(start, end, self.steps):
                yield first, min(first + self.steps, end)
            start = end

    def __iter__(self) -> Iterator[list[Tensor]]:
        orders = [
            epoch_order(self.size, sampling=self.sampling, seed=seed, epoch=self.epoch)
            for seed in self.seeds
        ]
        batches = torch.stack(orders)[:, : self.used].split(self.batch_size, dim=1)
        taken, self.taken = self.taken, 0
        for first, end in self._items(self.epoch):
            start = max(first, taken)
            left = self.steps_left()
            stop = end if left is None else min(end, start + left)
            if start < stop:
                yield [self._share(batch) for batch in batches[start:stop]]

    def micro_batches(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The batches that make one step, of an item's tensor [U, B]."""
        size = -(-self.micro_batch // self.world_size)
        return batch.split(size, dim=1) if batch.shape[1] > size else (batch,)

    def _share(self, batch: Tensor) -> Tensor:
        if self.world_size == 1:
            return batch
        size = batch.shape[1]
        places = torch.arange(-(-size // self.world_size)) * self.world_size + self.rank
        return batch[:, places % size]
