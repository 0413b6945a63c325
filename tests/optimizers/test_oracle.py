"""Every rule that PyTorch has too, against PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from tests.cases import CASES, TOLERANCE, Case

SHAPES = [(7,), (), (5, 3), (2, 3, 4, 3), (129, 17)]
STEPS = 40


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """As the default too: NAdam's oracle keeps a product of scalars in the default dtype."""
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def make_parameters(dtype: torch.dtype, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, dtype=dtype, generator=generator).requires_grad_() for s in shapes]


@torch.no_grad()
def relative_error(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    difference = torch.stack([(a - b).norm() for a, b in zip(ours, theirs, strict=True)]).norm()
    return float(difference / torch.stack([b.norm() for b in theirs]).norm())


def descend(
    ours: Sequence[Tensor],
    theirs: Sequence[Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    schedulers: Sequence[torch.optim.lr_scheduler.LRScheduler] = (),
) -> None:
    """Both take `STEPS` steps along the same gradients."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, dtype=a.dtype, generator=generator)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_path(case: Case, dtype: torch.dtype) -> None:
    ours, theirs = make_parameters(dtype), make_parameters(dtype)
    descend(ours, theirs, [case.optimizer(ours), case.oracle(theirs)])
    assert relative_error(ours, theirs) <= TOLERANCE[dtype]
