"""Methods that evaluate the loss themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optimizers import OPTIMIZERS, SGD, Adam
from optimizers.closures import Newton, RandomSearch
from tests.optimizers.helpers import equal

MATRIX = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


class Bowl:
    """`½ xᵀMx - sum(x) + (b - 3)²`, a closure that counts its calls."""

    def __init__(self) -> None:
        self.x = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
        self.b = torch.zeros((), dtype=torch.float64, requires_grad=True)
        self.parameters = [self.x, self.b]
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        return self.x @ MATRIX @ self.x / 2 - self.x.sum() + (self.b - 3) ** 2

    def minimum(self) -> list[Tensor]:
        one = torch.ones(2, dtype=torch.float64)
        return [torch.linalg.solve(MATRIX, one), torch.tensor(3.0, dtype=torch.float64)]


def test_newton_is_exact_on_a_quadratic() -> None:
    bowl = Bowl()
    Newton(bowl.parameters).step(bowl)
    for p, best in zip(bowl.parameters, bowl.minimum(), strict=True):
        torch.testing.assert_close(p.detach(), best)


def test_damped_newton_takes_shorter_steps() -> None:
    bowl, damped = Bowl(), Bowl()
    Newton(bowl.parameters).step(bowl)
    Newton(damped.parameters, damping=10.0).step(damped)
    start = Bowl().b
    assert abs(damped.b - start) < abs(bowl.b - start)


def test_newton_is_for_few_parameters() -> None:
    with pytest.raises(ValueError, match="at most 2000 numbers, not 1 of 3000"):
        Newton([torch.zeros(3000)])


@pytest.mark.parametrize("local", [True, False])
def test_random_search_never_gets_worse_and_follows_its_seed(local: bool) -> None:
    ends = []
    for seed in (0, 0, 1):
        bowl = Bowl()
        search = RandomSearch(bowl.parameters, 0.5, local=local, seed=seed)
        losses = [float(search.step(bowl)) for _ in range(100)]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < losses[0] - 1
        ends.append([p.detach() for p in bowl.parameters])
    assert equal(ends[0], ends[1])
    assert not equal(ends[0], ends[2])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numeric_gradients_serve_every_rule(name: str) -> None:
    numeric, analytic = Bowl(), Bowl()
    a = OPTIMIZERS[name](numeric.parameters, 0.05, gradient="numeric")
    b = OPTIMIZERS[name](analytic.parameters, 0.05)
    for _ in range(10):
        loss = a.step(numeric)
        b.zero_grad()
        analytic().backward()
        b.step()
    assert not loss.requires_grad
    assert numeric.calls == 10 * (1 + 2 * 3)
    for p, q in zip(numeric.parameters, analytic.parameters, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-8)


def test_numeric_gradients_are_for_few_parameters() -> None:
    p = torch.zeros(20_000)
    with pytest.raises(ValueError, match="20000 parameters would evaluate the loss 40000 times"):
        SGD([p], gradient="numeric").step(lambda: p.sum())


def test_no_closure() -> None:
    p = torch.zeros(2)
    for optimizer in (Newton([p]), RandomSearch([p]), Adam([p], gradient="numeric")):
        with pytest.raises(ValueError, match="needs a closure that returns the loss"):
            optimizer.step()
