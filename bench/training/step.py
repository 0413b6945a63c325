"""One optimizer step of K runs: gradients on a batch, coefficients, change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from torch import Tensor

from bench.training.capture import CapturedStep
from bench.training.executions import Executions


class Step:
    """A step in three parts. A subclass says them, or how all are done at once by `take`.

    Attributes:
        counted: whether Lightning counts it without being told.
        capturable: whether its parts can stand in a CUDA graph.
    """

    counted = False
    capturable = True

    def expect(self, indices: Sequence[Tensor]) -> None:
        """Is told of the samples of the steps that come next."""

    def compute(self, indices: Tensor) -> Tensor:
        """Gradients on the samples ``indices`` [U, B] of a step, a row for each of the U seeds;
        returns the losses, [K], detached."""
        raise NotImplementedError

    def prepare(self, step: int) -> None:
        """Counts a step of the optimizer and sets its numbers; ``step`` were taken before."""
        raise NotImplementedError

    def apply(self) -> None:
        """Changes the parameters."""
        raise NotImplementedError

    def take(self, indices: Tensor, step: int) -> Tensor:
        """All three; returns the losses before, [K], detached."""
        losses = self.compute(indices)
        self.prepare(step)
        self.apply()
        return losses


class Captured(Step):
    """Another step, by a CUDA graph from the first few on."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.graph = CapturedStep(step.compute, step.apply)

    def take(self, indices: Tensor, step: int) -> Tensor:
        return self.graph.step(indices, partial(self.step.prepare, step))


def mean_over_batches(
    executions: Executions,
    indices: Tensor,
    gradients_of: Callable[[Tensor], tuple[Tensor, Sequence[Tensor]]],
) -> tuple[Tensor, Sequence[Tensor]]:
    """Losses and gradients of a step: the mean over the batches it accumulates, each weighted by
    its samples, so that it is that of one batch of all of them, up to rounding."""
    first, *others = executions.micro_batches(indices)
    losses, gradients = gradients_of(first)
    if others:
        share = first.shape[1] / indices.shape[1]
        losses, gradients = losses * share, [gradient * share for gradient in gradients]
    for batch in others:
        share = batch.shape[1] / indices.shape[1]
        more, found = gradients_of(batch)
        losses.add_(more, alpha=share)
        for gradient, part in zip(gradients, found, strict=True):
            gradient.add_(part, alpha=share)
    return losses, gradients


def penalised(loss: Tensor, parameters: Iterable[Tensor], l2: float | Tensor) -> Tensor:
    """``loss`` plus ``l2`` times the sum of squared weights (biases are left out)."""
    if isinstance(l2, Tensor) or l2 > 0:
        return loss + l2 * sum(p.square().sum() for p in parameters if p.ndim > 1)
    return loss
