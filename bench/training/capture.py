"""A whole optimizer step as one CUDA graph.

A GPU carries the kernels of a small model out faster than a CPU can launch them. In a graph, a
step's kernels (gather, forward, backward, update) are launched at once.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

log = logging.getLogger(__name__)

WARM_UP = 3  # steps taken as usual first: libraries make their plans, and allocate, in them


class CudaGraph:
    """Records kernels without carrying them out, and carries them out again and again."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        self.graph = torch.cuda.CUDAGraph()

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream().wait_stream(self.stream)

    @contextmanager
    def record(self) -> Iterator[None]:
        with torch.cuda.graph(self.graph, stream=self.stream):
            yield

    def replay(self) -> None:
        self.graph.replay()


class CapturedStep:
    """A step that is recorded after the first ones, and from then on replayed.

    Everything that changes from step to step must lie in memory that stays where it is: the
    indices of the batch here, parameters, state and coefficients in the optimizer. The data of a
    recorded step are those of its first batch's shape; other batches are not replayed.

    Args:
        compute: kernels for gradients, from indices to losses; the optimizer finds the gradients.
        apply_gradients: kernels that change the parameters.
    """

    def __init__(
        self, compute: Callable[[Tensor], Tensor], apply_gradients: Callable[[], None]
    ) -> None:
        self.compute, self.apply_gradients = compute, apply_gradients
        self.graph = CudaGraph()
        self.indices: Tensor | None = None
        self.warm = 0
        self.failed = False

    def step(self, indices: Tensor, prepare: Callable[[], None]) -> Tensor:
        """Takes one step, for which ``prepare`` writes the coefficients; returns its losses."""
        if self.indices is None and self.warm == WARM_UP and not self.failed:
            self._record(indices)
        if self.indices is None or indices.shape != self.indices.shape:
            return self._plain(indices, prepare)
        prepare()
        self.indices.copy_(indices)
        self.graph.replay()
        return self.losses.clone()

    def _plain(self, indices: Tensor, prepare: Callable[[], None]) -> Tensor:
        self.warm = min(self.warm + 1, WARM_UP)
        with self.graph.warm_up():
            losses = self.compute(indices)
            prepare()
            self.apply_gradients()
        return losses

    def _record(self, indices: Tensor) -> None:
        own = indices.clone()
        try:
            with self.graph.record():
                self.losses = self.compute(own)
                self.apply_gradients()
        except RuntimeError as error:
            self.failed = True
            log.warning("no CUDA graph, steps are slower: %s", str(error).partition("\n")[0])
        else:
            self.indices = own
