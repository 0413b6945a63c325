"""Methods that PyTorch lacks, against a second, literal implementation from the paper or notes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from optimizers import (
    OPTIMIZERS,
    AdaGrad,
    Adam,
    AMSGrad,
    Lion,
    Momentum,
    Nesterov,
    Normalised,
    RMSProp,
)
from tests.optimizers.helpers import path_for

CURVATURE = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)) + 0.5
START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
STEPS = 40


def gradient(x: Tensor) -> Tensor:
    """Of a function that is not quadratic, so that it matters where it is taken."""
    return CURVATURE @ x + 0.3 * torch.sin(3 * x)


def iterates_of(make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> Tensor:
    """[STEPS, 3]"""
    x = START.clone().requires_grad_()
    optimizer = make([x])
    path = []
    for _ in range(STEPS):
        x.grad = gradient(x.detach())
        optimizer.step()
        path.append(x.detach().clone())
    return torch.stack(path)


def literal(step: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Follows `step(x, t)`, t from 0, which keeps its own state. [STEPS, 3]"""
    x, path = START.clone(), []
    for t in range(STEPS):
        x = step(x, t)
        path.append(x)
    return torch.stack(path)


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).norm() <= 1e-12 * theirs.norm())


def test_velocity_remembers_past_learning_rates() -> None:
    v = torch.zeros_like(START)

    def step(x: Tensor, t: int) -> Tensor:
        nonlocal v
        v = 0.9 * v - 0.05 * 0.95**t * gradient(x)
        return x + v

    x = START.clone().requires_grad_()
    optimizer = Momentum([x], lr=0.05, momentum=0.9)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
    path = []
    for _ in range(STEPS):
        x.grad = gradient(x.detach())
        optimizer.step()
        decay.step()
        path.append(x.detach().clone())
    assert close(torch.stack(path), literal(step))


def test_momentum_as_an_average() -> None:
    m = torch.zeros_like(START)

    def step(x: Tensor, t: int) -> Tensor:
        nonlocal m
        m = 0.9 * m + (1 - 0.9) * gradient(x)
        return x - 0.1 * m

    assert close(iterates_of(lambda p: Momentum(p, 0.1, form="average")), literal(step))


def test_forms_of_momentum_agree() -> None:
    velocity = iterates_of(lambda p: Momentum(p, 0.01, form="velocity"))
    heavy_ball = iterates_of(lambda p: Momentum(p, 0.01, form="heavy_ball"))
    average = iterates_of(lambda p: Momentum(p, 0.01 / (1 - 0.9), form="average"))
    assert close(heavy_ball, velocity)
    assert close(average, velocity)


@pytest.mark.parametrize(
    ("form", "decay"),
    [("velocity", 1.0), ("velocity", 0.95), ("heavy_ball", 1.0), ("average", 1.0)],
)
def test_nesterov_takes_the_gradient_at_the_look_ahead_point(form: str, decay: float) -> None:
    """The literal algorithm holds x, and evaluates the gradient at x + rho v."""
    rho, lr = 0.9, 0.02
    rates = [lr * decay**t for t in range(STEPS)]
    effective = 1 - rho if form == "average" else 1.0
    v = torch.zeros_like(START)

    def step(x: Tensor, t: int) -> Tensor:
        nonlocal v
        v = rho * v - effective * rates[t] * gradient(x + rho * v)
        return x + v

    held = START.clone().requires_grad_()
    optimizer = Nesterov([held], lr, momentum=rho, form=form)
    path = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        held.grad = gradient(held.detach())
        optimizer.step()
        before = held.detach().clone()
        with optimizer.iterates():
            path.append(held.detach().clone())
        assert torch.equal(held, before)
    assert close(torch.stack(path), literal(step))


def test_nesterov_looks_ahead_by_all_of_the_average() -> None:
    """The notes' third form, in NumPy: the gradient at phi less alpha times the average."""
    alpha, beta, held = 0.1, 0.9, START.clone()
    optimizer = Nesterov([held], alpha, momentum=beta, form="average_ahead")
    phi, m, curvature = START.numpy(), np.zeros(3), CURVATURE.numpy()
    for _ in range(STEPS):
        ahead = phi - alpha * m
        assert np.allclose(held.numpy(), ahead, rtol=1e-12, atol=1e-14)
        m = beta * m + (1 - beta) * (curvature @ ahead + 0.3 * np.sin(3 * ahead))
        phi = phi - alpha * m
        held.grad = gradient(held)
        optimizer.step()
        with optimizer.iterates():
            assert np.allclose(held.numpy(), phi, rtol=1e-12, atol=1e-14)


def test_adagrad_is_a_decaying_rate_over_the_rms_of_past_gradients() -> None:
    eta, past = 0.5, []

    def step(x: Tensor, t: int) -> Tensor:
        past.append(gradient(x))
        rms = torch.stack(past).square().mean(dim=0).sqrt()
        return x - eta / (t + 1) ** 0.5 * past[-1] / rms

    assert close(iterates_of(lambda p: AdaGrad(p, eta, eps=0.0)), literal(step))


def test_adam_without_bias_correction() -> None:
    m, v = torch.zeros_like(START), torch.zeros_like(START)

    def step(x: Tensor, t: int) -> Tensor:
        nonlocal m, v
        m = 0.9 * m + 0.1 * gradient(x)
        v = 0.999 * v + 0.001 * gradient(x) ** 2
        return x - 0.01 * m / (v.sqrt() + 1e-8)

    assert close(iterates_of(lambda p: Adam(p, 0.01, bias_correction=False)), literal(step))


def test_adam_as_in_the_paper() -> None:
    m, v = torch.zeros_like(START), torch.zeros_like(START)

    def step(x: Tensor, t: int) -> Tensor:
        nonlocal m, v
        m = 0.9 * m + 0.1 * gradient(x)
        v = 0.999 * v + 0.001 * gradient(x) ** 2
        m_hat, v_hat = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
        return x - 0.01 * m_hat / (v_hat.sqrt() + 1e-8)

    assert close(iterates_of(lambda p: Adam(p, 0.01)), literal(step))


def test_amsgrad_divides_by_the_largest_moment_so_far() -> None:
    m, moments = torch.zeros_like(START), [torch.zeros_like(START)]

    def step(x: Tensor, t: int) -> Tensor:
        nonlocal m
        m = 0.9 * m + 0.1 * gradient(x)
        moments.append(0.5 * moments[-1] + 0.5 * gradient(x) ** 2)
        largest = torch.stack(moments).amax(dim=0) / (1 - 0.5 ** (t + 1))
        return x - 0.05 * m / (1 - 0.9 ** (t + 1)) / (largest.sqrt() + 1e-8)

    assert close(iterates_of(lambda p: AMSGrad(p, 0.05, beta2=0.5)), literal(step))


def test_normalised_is_adam_without_averages() -> None:
    def step(x: Tensor, t: int) -> Tensor:
        return x - 0.01 * gradient(x) / (gradient(x).abs() + 1e-8)

    path = iterates_of(lambda p: Normalised(p, 0.01))
    assert close(path, literal(step))
    assert close(iterates_of(lambda p: Adam(p, 0.01, beta1=0.0, beta2=0.0)), path)


def test_lion() -> None:
    m = torch.zeros_like(START)

    def step(x: Tensor, t: int) -> Tensor:
        nonlocal m
        g = gradient(x)
        direction = torch.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
        return x - 0.003 * (direction + 0.1 * x)

    assert close(iterates_of(lambda p: Lion(p, 0.003, weight_decay=0.1)), literal(step))


def test_rmsprop_centred_with_momentum() -> None:
    s, mean, v = (torch.zeros_like(START) for _ in range(3))

    def step(x: Tensor, t: int) -> Tensor:
        nonlocal s, mean, v
        g = gradient(x)
        s, mean = 0.95 * s + 0.05 * g**2, 0.95 * mean + 0.05 * g
        v = 0.9 * v + g / ((s - mean**2).sqrt() + 1e-4)
        return x - 1e-3 * v

    settings = {"decay": 0.95, "centred": True, "momentum": 0.9, "eps": 1e-4}
    assert close(iterates_of(lambda p: RMSProp(p, 1e-3, **settings)), literal(step))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_of_weights_alone(name: str) -> None:
    """`weight_decay_on="weights"` leaves vectors as they would be without decay."""
    results = []
    for settings in ({"weight_decay": 0.0}, {"weight_decay": 0.3, "weight_decay_on": "weights"}):
        matrix, bias = torch.ones(2, 2), torch.ones(2)
        optimizer = OPTIMIZERS[name]([matrix, bias], lr=0.1, **settings)
        for t in range(3):
            matrix.grad, bias.grad = torch.full((2, 2), 0.1 + t), torch.full((2,), 0.1 + t)
            optimizer.step()
        results.append((matrix, bias))
    (plain, plain_bias), (decayed, bias) = results
    assert torch.equal(bias, plain_bias)
    # Of a gradient, its sign is all that matters to it, and decay turned none.
    assert torch.equal(decayed, plain) == (name == "normalised")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("path", ["eager", "compiled"])
def test_clipping(name: str, path: str) -> None:
    ours, path = [torch.ones(3, 2), torch.ones(4)], path_for(name, path)
    theirs = [p.clone() for p in ours]
    a = OPTIMIZERS[name](ours, path=path, clip_norm=0.5)
    b = OPTIMIZERS[name](theirs, path=path)
    for t in range(5):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.linspace(-1, 1, p.numel()).view_as(p) * (t - 2)
            q.grad = p.grad.clone()
        torch.nn.utils.clip_grad_norm_(theirs, 0.5)
        a.step()
        b.step()
    assert all(torch.allclose(p, q, rtol=1e-6) for p, q in zip(ours, theirs, strict=True))
