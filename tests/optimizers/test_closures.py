"""Methods that evaluate the loss themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import functional

from optimizers import OPTIMIZERS, SGD, Adam, closures
from optimizers.closures import GaussNewton, Newton, RandomSearch
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
    for method in (Newton, GaussNewton):
        with pytest.raises(ValueError, match="at most 5000 numbers, not 1 of 6000"):
            method([torch.zeros(6000)])


class Network:
    """A small network's cross-entropy, a closure for `GaussNewton`; float64."""

    def __init__(self, hidden: bool = True) -> None:
        torch.manual_seed(0)
        layers = [nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)] if hidden else [nn.Linear(4, 3)]
        self.model = nn.Sequential(*layers).double()
        self.x, self.labels = torch.randn(7, 4).double(), torch.arange(7) % 3

    def __call__(self) -> tuple[Tensor, Tensor]:
        output = self.model(self.x)
        return nn.functional.cross_entropy(output, self.labels), output

    def pure(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """From all parameters in one vector."""
        sizes = [own.numel() for own in self.model.parameters()]
        own = zip(self.model.named_parameters(), p.split(sizes), strict=True)
        named = {name: part.reshape(old.shape) for (name, old), part in own}
        output = torch.func.functional_call(self.model, named, (self.x,))
        return nn.functional.cross_entropy(output, self.labels), output

    @property
    def vector(self) -> Tensor:
        return nn.utils.parameters_to_vector(self.model.parameters()).detach()


@pytest.mark.parametrize("rows", [2, 128])
def test_a_second_order_step_is_that_of_dense_matrices(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closures, "ROWS", rows)
    p, net = Network().vector, Network()
    hessian = functional.hessian(lambda p: net.pure(p)[0], p)
    jacobian = functional.jacobian(lambda p: net.pure(p)[1].flatten(), p)
    g = functional.jacobian(lambda p: net.pure(p)[0], p)
    of_loss = functional.hessian(
        lambda o: nn.functional.cross_entropy(o.reshape(7, 3), net.labels), net.pure(p)[1].flatten()
    )
    for method, matrix in (
        (Newton, hessian),
        (GaussNewton, jacobian.T @ of_loss @ jacobian),
    ):
        net, damped = Network(), matrix + 0.1 * torch.eye(len(p))
        optimizer = method(net.model.parameters(), lr=0.5, damping=0.1)
        optimizer.step(net if method is GaussNewton else lambda net=net: net()[0])
        torch.testing.assert_close(net.vector, p - 0.5 * torch.linalg.solve(damped, g))


def test_gauss_newton_is_newton_where_the_output_is_linear() -> None:
    one, other = Network(hidden=False), Network(hidden=False)
    GaussNewton(one.model.parameters(), damping=1e-3).step(one)
    Newton(other.model.parameters(), damping=1e-3).step(lambda: other()[0])
    torch.testing.assert_close(one.vector, other.vector)


def test_a_singular_matrix_is_told() -> None:
    p = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"damping=0\.0: the matrix of Newton is singular; give a"):
        Newton([p]).step(lambda: p.sum())
    Newton([p], damping=2.0).step(lambda: p.sum())
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.5))


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
