"""The next batch, gathered while a step computes, where a run leaves a core to do so.

Random rows of a data set come from memory at their own pace; for a small model that is a third of a
step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bench.kernels import gather
from bench.kernels.crew import Crew, address_of
from bench.kernels.gather import ByteSplit, Gathering
from bench.workloads.images import Images
from bench.workloads.workload import Batch, Workload

ROWS = 16  # that somebody gathers before looking for what is more urgent


def split_of(workload: Workload) -> ByteSplit | None:
    """What batches are gathered from, if that is bytes, and they follow from their places alone."""
    plain = isinstance(workload, Images) and type(workload).batch is Images.batch
    split = workload.data.train if plain else None  # type: ignore[attr-defined]
    return split if isinstance(split, ByteSplit) else None


class Filling(NamedTuple):
    images: Tensor
    to: Gathering


class Coming(NamedTuple):
    indices: Tensor  # [1, B], by which it is asked for
    rows: Tensor  # [B], of the data set
    labels: Tensor  # [B]
    filling: Filling | None  # None for memory of its own, found when it is needed


class Ahead:
    """Batches of a split as `Images.batch` gives them, by a crew that has nothing else to do.

    Attributes:
        reuses: whether a batch is good until the next but one is taken, and no longer.
    """

    def __init__(self, split: ByteSplit, crew: Crew) -> None:
        library = gather.kernel()
        assert library is not None
        self.part = address_of(library.gather_part)
        self.split, self.crew = split, crew
        self.coming: deque[Coming] = deque()
        self.next: Coming | None = None
        self.reuses = False

    def expect(self, indices: Sequence[Tensor]) -> None:
        """What `take` will be asked for, in order; it may be asked for other things, too."""
        every, sizes = torch.cat([item[0] for item in indices]), [item.shape[1] for item in indices]
        rows, labels = (
            x.index_select(0, every).split(sizes) for x in (self.split.index, self.split.labels)
        )
        rooms = [self.split.empty(max(sizes)) for _ in sizes[:2]] if self.reuses else []
        self.coming = deque(
            Coming(*item, self._filling(item[1], rooms[k % 2]) if rooms else None)
            for k, item in enumerate(zip(indices, rows, labels, strict=True))
        )

    def _filling(self, rows: Tensor, room: Tensor) -> Filling:
        images = room[: len(rows)]
        return Filling(images, self.split.gathering(rows, images, ROWS))

    def take(self, indices: Tensor) -> Batch:
        following, self.next = self.next, None
        if following is not None:
            self.crew.finish()
        if self.coming and self.coming[0].indices is indices:
            self.coming.popleft()
        if following is not None and following.indices is indices and following.filling is not None:
            images, labels = following.filling.images, following.labels
        else:
            images, labels = self.split.batch(indices[0])
        if self.coming:
            self._begin(self.coming[0])
        return {"images": images, "labels": labels}

    def _begin(self, coming: Coming) -> None:
        rows = coming.rows
        filling = coming.filling or self._filling(rows, self.split.empty(len(rows)))
        self.next = coming._replace(filling=filling)
        kept = filling, rows, self.split
        self.crew.begin_to(self.part, filling.to, -(-len(rows) // ROWS), *kept)
