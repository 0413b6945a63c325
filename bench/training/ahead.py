"""The next batch, gathered while a step computes, where a run leaves a core to do so.

Random rows of a data set come from memory at their own pace; for a small model that is a third of a
step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from bench.kernels.gather import ByteSplit
from bench.workloads.images import Images
from bench.workloads.workload import Batch, Workload


def suits(workload: Workload) -> bool:
    """Whether its batches are gathered from bytes, and follow from their places alone."""
    plain = isinstance(workload, Images) and type(workload).batch is Images.batch
    return plain and isinstance(workload.data.train, ByteSplit)  # type: ignore[attr-defined]


class Ahead:
    """Batches as ``gather`` gives them, which must be a function of its argument alone."""

    def __init__(self, gather: Callable[[Tensor], Batch]) -> None:
        self.gather = gather
        self.coming: deque[Tensor] = deque()
        self.next: tuple[Tensor, Future[Batch]] | None = None
        self.pool = ThreadPoolExecutor(1, initializer=partial(torch.set_num_threads, 1))

    def expect(self, indices: Sequence[Tensor]) -> None:
        """What `take` will be asked for, in order; it may be asked for other things, too."""
        self.coming = deque(indices)

    def take(self, indices: Tensor) -> Batch:
        following, self.next = self.next, None
        known = following is not None and following[0] is indices
        batch = following[1].result() if following and known else self.gather(indices)
        if self.coming and self.coming[0] is indices:
            self.coming.popleft()
            if self.coming:
                self.next = self.coming[0], self.pool.submit(self.gather, self.coming[0])
        return batch
