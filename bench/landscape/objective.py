"""A workload's training loss on some of its examples, as a function of the model's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp

from bench.training.step import penalised
from bench.workloads.workload import Batch, Workload

MOST_AT_ONCE = 1000  # examples whose second derivatives are in memory together


class Objective:
    """The loss that is minimised, with its l2 term, in evaluation mode: without dropout.

    The mean over examples. Weights and vectors are flat, ``[P]``, in the order of
    ``named_parameters``, on the device and in the dtype of the model.

    Args:
        model: the workload's; put into evaluation mode.
        examples: of the training split, int64 ``[N]``; None for all of them in their order.

    Attributes:
        at: the model's weights.
        size: P.
        count: N.
    """

    def __init__(self, workload: Workload, model: nn.Module, examples: Tensor | None) -> None:
        self.workload, self.model = workload, model.eval()
        self.shapes = {name: p.shape for name, p in model.named_parameters()}
        self.at = flat([p.detach() for p in model.parameters()])
        self.size = self.at.numel()
        device = self.at.device
        self.examples = (
            torch.arange(workload.train_size, device=device)
            if examples is None
            else examples.to(device)
        )
        self.count = len(self.examples)
        together = min(MOST_AT_ONCE, workload.evaluation_batch)
        self.batches = [
            (len(part) / self.count, self.batch(part)) for part in self.examples.split(together)
        ]
        if not self.batches[0][1]:  # a function: it is the same for each of its steps
            self.batches = [(1.0, {})]

    def batch(self, index: Tensor) -> Batch:
        return {
            name: x.to(self.at) if x.is_floating_point() else x
            for name, x in self.workload.batch(index).items()
        }

    def named(self, weights: Tensor) -> dict[str, Tensor]:
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = weights.split(sizes)
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def of_batch(self, weights: Tensor, batch: Batch) -> Tensor:
        named = self.named(weights)
        output = self.workload.call(lambda *x: functional_call(self.model, named, x), batch)
        loss = self.workload.objective(output, batch)
        return penalised(loss, named.values(), self.workload.l2)

    def loss(self, weights: Tensor) -> float:
        with torch.no_grad():
            return float(sum(share * self.of_batch(weights, b) for share, b in self.batches))

    def sums(self, weights: Tensor) -> dict[str, float]:
        """The loss without the l2 term, and the metrics."""
        total: dict[str, float] = {}
        named = self.named(weights)
        with torch.no_grad():
            for _, batch in self.batches:
                output = self.workload.call(lambda *x: functional_call(self.model, named, x), batch)
                for name, value in self.workload.sums(output, batch).items():
                    total[name] = total.get(name, 0.0) + float(value)
        return self.workload.values(total)

    def gradient(self, weights: Tensor) -> Tensor:
        return self._sum(lambda batch: grad(self.of_batch)(weights, batch))

    def gradients(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """At the model's weights: of each part's examples, ``[B]``, one at a time."""
        for part in parts:
            yield grad(self.of_batch)(self.at, self.batch(part))

    def hessian(self) -> Callable[[Tensor], Tensor]:
        """At the model's weights: from v to Hv, by reverse mode twice. The graph of the gradient is
        kept where all examples fit into it; else it is made anew for each product."""
        kept = len(self.batches) == 1
        known = self._transposed(self.batches[0][1]) if kept else None

        def product(v: Tensor) -> Tensor:
            return self._sum(lambda batch: (known or self._transposed(batch))(v)[0])

        return product

    def _transposed(self, batch: Batch) -> Callable[[Tensor], tuple[Tensor]]:
        """The Hessian is its own transpose."""
        return vjp(lambda weights: grad(self.of_batch)(weights, batch), self.at)[1]

    def _sum(self, of_batch: Callable[[Mapping[str, Tensor]], Tensor]) -> Tensor:
        with torch.enable_grad():
            parts = [share * of_batch(batch) for share, batch in self.batches]
        return torch.stack(parts).sum(0).detach()


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """One after another, ``[P]``; a copy."""
    return torch.cat([x.reshape(-1) for x in tensors])


def drawn_examples(workload: Workload, most: int, seed: int) -> Tensor | None:
    """So many different examples of the training split, by the seed; None for all, where there are
    no more."""
    if most >= workload.train_size:
        return None
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(workload.train_size, generator=generator)[:most]
