"""Parameters, gradients and distances that the tests of this package share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optimizers.rule import Matrixwise
from optimizers.rules import RULES

SHAPES = [(7,), (), (5, 3), (2, 3, 4, 3), (129, 17)]

ELEMENTWISE = [name for name, rule in RULES.items() if not issubclass(rule, Matrixwise)]

Shapes = Sequence[tuple[int, ...]]


def make_parameters(shapes: Shapes = SHAPES, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The same values at each call."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, dtype=dtype, generator=generator).requires_grad_() for s in shapes]


def path_for(name: str, path: str) -> str:
    """`compiled` carries no rule on matrices, which is refused: what `auto` takes for it does."""
    return path if name in ELEMENTWISE else path.replace("compiled", "auto")


def set_gradients(*copies: Sequence[Tensor], seed: int) -> None:
    """Gives all copies of some parameters the same gradients."""
    generator = torch.Generator().manual_seed(seed)
    for tensors in zip(*copies, strict=True):
        value = torch.randn(tensors[0].shape, dtype=tensors[0].dtype, generator=generator)
        for p in tensors:
            p.grad = value.clone()


def descend(
    optimizers: Sequence[torch.optim.Optimizer],
    *copies: Sequence[Tensor],
    steps: int = 40,
    start: int = 0,
    schedulers: Sequence[torch.optim.lr_scheduler.LRScheduler] = (),
) -> None:
    """All optimizers take steps along the same gradients."""
    for i in range(start, start + steps):
        set_gradients(*copies, seed=i)
        for optimizer in optimizers:
            optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


@torch.no_grad()
def relative_error(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """In the norm over all tensors."""
    difference = torch.stack([(a - b).norm() for a, b in zip(ours, theirs, strict=True)]).norm()
    return float(difference / torch.stack([b.norm() for b in theirs]).norm())


def equal(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
