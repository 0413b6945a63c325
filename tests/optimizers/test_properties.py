"""What must hold for all tensors, not only for those of an example."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optimizers import OPTIMIZERS, Stack
from tests.optimizers.helpers import (
    descend,
    equal,
    make_parameters,
    path_for,
    relative_error,
)

PATHS = st.sampled_from(["eager", "compiled"])
NAMES = st.sampled_from(sorted(OPTIMIZERS))
SEEDS = st.integers(0, 2**32)


def gradients(seed: int, size: int, steps: int = 5) -> Tensor:
    """[steps, size]"""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, size, dtype=torch.float64, generator=generator)


def final(name: str, gradients: Tensor, path: str, **hyperparameters: object) -> Tensor:
    """Where zeros `[size]` end."""
    p = torch.zeros(gradients.shape[1], dtype=gradients.dtype)
    optimizer = OPTIMIZERS[name](
        [p], **{"lr": 0.1, **hyperparameters, "path": path_for(name, path)}
    )
    for g in gradients:
        p.grad = g.clone()
        optimizer.step()
    return p


@settings(deadline=None, max_examples=60)
@given(name=NAMES, path=PATHS, seed=SEEDS, data=st.data())
def test_permuting_and_splitting_parameters_changes_nothing(
    name: str, path: str, seed: int, data: st.DataObject
) -> None:
    path = path_for(name, path)
    size = data.draw(st.integers(1, 200))
    order = torch.tensor(data.draw(st.permutations(range(size))))
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=4)))
    g = gradients(seed, size)
    whole = final(name, g, path=path)
    parts = [torch.zeros(n, dtype=g.dtype) for n in map(len, torch.tensor_split(order, cuts))]
    optimizer = OPTIMIZERS[name](parts, lr=0.1, path=path)
    for row in g:
        for p, piece in zip(parts, torch.tensor_split(row[order], cuts), strict=True):
            p.grad = piece.clone()
        optimizer.step()
    # A root of PyTorch's own may differ in the last bit with where in a tensor it stands.
    torch.testing.assert_close(torch.cat(parts), whole[order], rtol=1e-14, atol=1e-15)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(["adam", "amsgrad", "nadam", "adamax", "rmsprop", "adagrad", "lion"]),
    path=PATHS,
    seed=SEEDS,
    exponent=st.floats(-6, 6),
)
def test_the_scale_of_the_loss_does_not_matter(
    name: str, path: str, seed: int, exponent: float
) -> None:
    without_eps = {"path": path} if name == "lion" else {"path": path, "eps": 0.0}
    g = gradients(seed, 20)
    scaled = final(name, g * 10**exponent, **without_eps)
    torch.testing.assert_close(scaled, final(name, g, **without_eps), rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(name=NAMES, path=PATHS, seed=SEEDS, weight_decay=st.floats(0, 1))
def test_a_learning_rate_of_zero_changes_nothing(
    name: str, path: str, seed: int, weight_decay: float
) -> None:
    ours, start = make_parameters(), make_parameters()
    path = path_for(name, path)
    optimizer = OPTIMIZERS[name](ours, lr=0.0, weight_decay=weight_decay, path=path)
    descend([optimizer], ours, steps=3, start=seed % 1000)
    assert equal(ours, start)


@settings(deadline=None, max_examples=40)
@given(name=NAMES, path=PATHS, before=st.integers(0, 5), after=st.integers(0, 5))
def test_a_state_dict_in_the_middle_changes_nothing(
    name: str, path: str, before: int, after: int
) -> None:
    whole, parts, path = make_parameters(), make_parameters(), path_for(name, path)
    descend([OPTIMIZERS[name](whole, path=path)], whole, steps=before + after)
    first, second = OPTIMIZERS[name](parts, path=path), OPTIMIZERS[name](parts, path=path)
    descend([first], parts, steps=before)
    second.load_state_dict(first.state_dict())
    descend([second], parts, steps=after, start=before)
    assert equal(parts, whole)


@settings(deadline=None, max_examples=40)
@given(name=NAMES, path=PATHS, seed=SEEDS)
def test_maximizing_is_minimizing_the_negative(name: str, path: str, seed: int) -> None:
    g = gradients(seed, 20)
    up = final(name, g, maximize=True, path=path)
    assert torch.equal(up, final(name, -g, path=path))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_descend_a_bowl(name: str) -> None:
    p = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = OPTIMIZERS[name]([p], lr=0.01)
    for _ in range(1000):
        p.grad = p.detach().clone()
        optimizer.step()
    limit = {"adagrad": 2.0}.get(name, 0.05)
    assert p.norm() < limit
    assert relative_error([p], [torch.tensor([1.0, -2.0])]) > 0


WITH_EPS = [name for name, made in OPTIMIZERS.items() if "eps" in made.declared()]


@pytest.mark.parametrize("name", WITH_EPS)
@pytest.mark.parametrize("path", ["eager", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_of_zero_moves_nothing(name: str, path: str, dtype: torch.dtype) -> None:
    """Also where eps is 0, alone and in a stack: 0/0 is 0."""
    path = path_for(name, path)
    p = torch.ones(3, dtype=dtype)
    eps = [key for key in OPTIMIZERS[name].declared() if key in ("eps", "adamw_eps")]
    none = dict.fromkeys(eps, 0.0)
    optimizer = OPTIMIZERS[name]([p], lr=0.1, path=path, weight_decay=0.0, **none)
    rows = torch.ones(2, 3, dtype=dtype)
    some = {key: [0.0, 1e-8] for key in eps}
    stack = Stack(name, [rows], {"lr": 0.1, "weight_decay": 0.0, **some}, path=path)
    for _ in range(3):
        p.grad = torch.tensor([0.0, 1.0, -1.0], dtype=dtype)
        optimizer.step()
        stack.step([p.grad.expand(2, 3)])
    assert p[0] == 1
    assert (rows[:, 0] == 1).all()
    assert p.isfinite().all()
    assert rows.isfinite().all()
    assert not (p[1:] == 1).any()


@pytest.mark.parametrize("path", ["eager", "compiled"])
def test_a_constant_gradient_has_a_variance_of_at_least_zero(path: str) -> None:
    p = torch.zeros(4)
    optimizer = OPTIMIZERS["rmsprop"]([p], lr=1e-3, centred=True, path=path)
    for _ in range(2000):
        p.grad = torch.tensor([0.7, -0.3, 1e-3, 123.4])
        optimizer.step()
    assert p.isfinite().all()
