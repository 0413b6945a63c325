"""Row k of a stack gives what run k alone gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from optimizers import OPTIMIZERS
from optimizers.rules import RULES
from optimizers.schedules import Cosine
from optimizers.stack import Stack
from tests.optimizers.helpers import equal, path_for, relative_error

K = 4
SHAPES = [(7,), (), (5, 3), (2, 3, 4), (130, 17)]


def varying(name: str) -> dict[str, Any]:
    """Every numeric hyperparameter of a rule, another one in each run."""
    spread = {
        "lr": np.logspace(-3, -1, K),
        "weight_decay": np.linspace(0.0, 0.3, K),
        "bias_correction": [True, False, True, False],
        "centred": [False, True, True, False],
        "maximize": [False, False, True, True],
        "initial_accumulator": np.linspace(0, 1, K),
        "eps": np.logspace(-8, -2, K),
        "nesterov": [True, False, True, False],
        "ns_steps": [5, 3, 0, 7],
        "ns_a": [3.4445, 2.0, 3.0, 3.4445],
        "ns_b": [-4.775, -1.5, -3.2, -4.775],
        "ns_c": [2.0315, 0.5, 1.2, 2.0315],
    }
    momenta = np.linspace(0.0, 0.95, K)
    numbers = [n for n, h in RULES[name].hyperparameters.items() if h.kind is not str]
    return {n: spread.get(n, momenta) for n in [*numbers, "maximize"]}


def stacked() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(K, *shape, generator=generator) for shape in SHAPES]


def row(settings: dict[str, Any], k: int) -> dict[str, Any]:
    """Bools and whole numbers stay what they are."""
    picked = {name: values[k] for name, values in settings.items()}
    return {n: v if isinstance(v, bool | int) else float(v) for n, v in picked.items()}


def gradients(parameters: list[Tensor], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator).to(p.dtype) for p in parameters]


@pytest.mark.parametrize("path", ["eager", "compiled"])
@pytest.mark.parametrize("options", [{}, {"weight_decay_on": "weights"}, {"clip_norm": 0.5}])
@pytest.mark.parametrize("name", RULES)
def test_rows_are_runs(name: str, options: dict[str, Any], path: str) -> None:
    parameters, settings, path = stacked(), varying(name), path_for(name, path)
    schedule = Cosine(total_steps=np.array([10, 20, 30, 40]), warmup_steps=3)
    runs = [[p[k].clone() for p in parameters] for k in range(K)]
    stack = Stack(name, parameters, {**settings, **options}, path=path)
    alone = [OPTIMIZERS[name](runs[k], **row(settings, k), **options, path=path) for k in range(K)]
    for t in range(12):
        rates = settings["lr"] * schedule(t)
        together = gradients(parameters, t)
        stack.step(together, lr=rates)
        for k, optimizer in enumerate(alone):
            optimizer.param_groups[0]["lr"] = float(rates[k])
            for p, g in zip(runs[k], together, strict=True):
                p.grad = g[k].clone()
            optimizer.step()
    for k in range(K):
        ours, theirs = [p[k] for p in parameters], runs[k]
        assert relative_error(ours, theirs) <= 1e-5
        # Not bit for bit: a norm over rows adds up in another order, as a product of matrices does,
        # and in the last bit arrays of float64 have other powers than numbers have, which matters
        # where they cancel.
        assert equal(ours, theirs) or "clip_norm" in options or name in ("radam", "muon")


def test_rows_are_runs_in_half_precision() -> None:
    parameters = [p.bfloat16() for p in stacked()]
    runs = [[p[k].clone() for p in parameters] for k in range(K)]
    rates = [1e-3, 1e-2, 0.1, 1.0]
    stack = Stack("adam", parameters, {"lr": rates})
    alone = [OPTIMIZERS["adam"](runs[k], rates[k]) for k in range(K)]
    for t in range(5):
        together = gradients(parameters, t)
        stack.step(together)
        for k, optimizer in enumerate(alone):
            for p, g in zip(runs[k], together, strict=True):
                p.grad = g[k].clone()
            optimizer.step()
    assert all(equal([p[k] for p in parameters], runs[k]) for k in range(K))


@pytest.mark.parametrize("path", ["auto", "eager"])
def test_dtypes_may_differ(path: str) -> None:
    """Each parameter steps as it does among others of its dtype."""
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float32, torch.float64]
    mixed = [p.to(dtype) for p, dtype in zip(stacked(), dtypes, strict=True)]
    stack = Stack("adam", mixed, {"lr": [1e-3, 1e-2, 0.1, 1.0]}, path=path)
    apart = [Stack("adam", [p.clone()], {"lr": [1e-3, 1e-2, 0.1, 1.0]}, path=path) for p in mixed]
    for t in range(5):
        together = gradients(mixed, t)
        stack.step(together)
        for one, g in zip(apart, together, strict=True):
            one.step([g])
    assert equal(stack.parameters, [one.parameters[0] for one in apart])


@pytest.mark.parametrize("path", ["eager", "compiled"])
@pytest.mark.parametrize("rows", [[2], [0, 3], torch.tensor([True, False, True, False])])
def test_runs_that_are_left_go_on_as_before(rows: Any, path: str) -> None:
    settings = {"lr": np.logspace(-3, -1, K), "beta1": np.linspace(0, 0.9, K), "clip_norm": 5.0}
    whole, parts = stacked(), stacked()
    all_runs = Stack("adam", whole, settings, path=path)
    some_runs = Stack("adam", parts, settings, path=path)
    for t in range(3):
        all_runs.step(gradients(whole, t))
        some_runs.step(gradients(whole, t))
    kept = some_runs.keep(rows)
    for t in range(3, 6):
        together = gradients(whole, t)
        all_runs.step(together)
        some_runs.step([g[rows] for g in together])
    assert some_runs.runs == len(kept[0])
    assert equal(kept, [p[rows] for p in whole])


def test_gradients_may_lie_in_the_parameters() -> None:
    ours, theirs = stacked(), stacked()
    a, b = Stack("sgd", ours, {"lr": 0.1}), Stack("sgd", theirs, {"lr": 0.1})
    for p, g in zip(ours, gradients(ours, 0), strict=True):
        p.grad = g
    a.step()
    b.step(gradients(ours, 0))
    assert equal(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lr": [1e-3, -1.0, 1e-3, 1e-3]}, ValueError, "lr=-1.0 is not accepted"),
        ({"lr": float("nan")}, ValueError, "lr=nan is not accepted"),
        ({"beta1": 1.0}, ValueError, "beta1=1.0 is not accepted"),
        ({"momentum": 0.9}, TypeError, "Adam has no momentum: it takes lr, "),
        ({"weight_decay_on": "biases"}, ValueError, "one of \\['all', 'weights'\\]"),
        ({"gradient": "numeric"}, ValueError, "autograd"),
        ({"lr": [0.1, 0.2]}, ValueError, "lr has 2 values for 4 runs"),
        ({"bias_correction": [1, 0.5, 0, 1]}, ValueError, "bias_correction=0.5 is not accepted"),
        ({"weight_decay_on": 3}, ValueError, "weight_decay_on=3 is not accepted"),
    ],
)
def test_mistakes(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Stack("adam", stacked(), settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_decay_on": "weights"}, "weight_decay_on cannot change"),
        ({"momentum": 0.5}, "momentum: needs state"),
        ({"lr": -1.0}, "lr=-1.0 is not accepted"),
    ],
)
def test_mistakes_while_training(changes: dict[str, Any], message: str) -> None:
    stack = Stack("rmsprop", stacked())
    stack.step(gradients(stack.parameters, 0))
    with pytest.raises(ValueError, match=message):
        stack.step(gradients(stack.parameters, 1), **changes)


@pytest.mark.parametrize("shapes", [[(3, 2), (4, 2)], [()], [(3,), ()]])
def test_parameters_of_another_number_of_runs_are_refused(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"parameters are \[K, \.\.\.\], K the same for all, not"):
        Stack("sgd", [torch.ones(shape) for shape in shapes])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_stack_needs_every_gradient(count: int) -> None:
    stack = Stack("sgd", [torch.ones(2, 3), torch.ones(2)])
    given = [torch.ones(2, 3), torch.ones(2), torch.ones(2)][:count]
    with pytest.raises(ValueError, match=rf"^{count} gradients for 2 parameters: a stack needs"):
        stack.step(given)
    stack.parameters[0].grad = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"^1 gradients for 2 parameters: a stack needs"):
        stack.step()
    assert equal(stack.parameters, [torch.ones(2, 3), torch.ones(2)])
