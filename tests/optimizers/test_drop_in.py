"""What people expect of a `torch.optim.Optimizer`."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

import optimizers
from optimizers import OPTIMIZERS, Adam, Momentum
from optimizers.interop import FLAGS
from tests.cases import CASES, TOLERANCE, Case
from tests.optimizers.helpers import (
    descend,
    equal,
    make_parameters,
    path_for,
    relative_error,
    set_gradients,
)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("path", ["eager", "compiled"])
def test_resumed_training_is_bit_identical(name: str, path: str) -> None:
    whole, first = make_parameters(), make_parameters()
    make, path = OPTIMIZERS[name], path_for(name, path)
    descend([make(whole, 0.1, path=path)], whole, steps=10)
    before = make(first, 0.1, path=path)
    descend([before], first, steps=5)
    file = io.BytesIO()
    torch.save({"parameters": first, "optimizer": before.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = [p.detach().requires_grad_() for p in saved["parameters"]]
    after = make(second, 99.0, path=path)
    after.load_state_dict(saved["optimizer"])
    descend([after], second, steps=5, start=5)
    assert equal(second, whole)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_goes_on_from_a_torch_state_dict(case: Case) -> None:
    ours, theirs = make_parameters(dtype=torch.float64), make_parameters(dtype=torch.float64)
    oracle = case.oracle(theirs)
    descend([oracle], ours, theirs, steps=5)
    with torch.no_grad():
        for p, q in zip(ours, theirs, strict=True):
            p.copy_(q)
    optimizer = case.optimizer(ours)
    optimizer.load_state_dict(oracle.state_dict())
    descend([optimizer, oracle], ours, theirs, steps=5, start=5)
    # PyTorch keeps NAdam's product of momenta in float32.
    assert relative_error(ours, theirs) <= (
        1e-9 if case.name == "nadam" else TOLERANCE[torch.float64]
    )


@pytest.mark.parametrize(
    ("theirs", "settings", "ours", "what"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}, Momentum, "dampening=0.5"),
        (torch.optim.Adagrad, {"lr_decay": 0.1}, optimizers.AdaGrad, "lr_decay=0.1"),
        (torch.optim.Adam, {"amsgrad": True}, Adam, "amsgrad=True"),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, Momentum, "nesterov=True"),
    ],
)
def test_refuses_a_state_dict_of_another_method(
    theirs: Any, settings: dict[str, Any], ours: Any, what: str
) -> None:
    state = theirs(make_parameters(), lr=0.1, **settings).state_dict()
    with pytest.raises(ValueError, match=f"{what} has no counterpart in {ours.__name__}"):
        ours(make_parameters()).load_state_dict(state)


def test_a_group_added_later_counts_its_own_steps() -> None:
    ours, theirs = make_parameters(), make_parameters()
    a, b = Adam(ours[:2], 0.1), torch.optim.Adam(theirs[:2], 0.1)
    descend([a, b], ours, theirs, steps=3)
    a.add_param_group({"params": ours[2:], "lr": 0.01, "beta1": 0.5})
    b.add_param_group({"params": theirs[2:], "lr": 0.01, "betas": (0.5, 0.999)})
    descend([a, b], ours, theirs, steps=3)
    assert relative_error(ours, theirs) <= 1e-6


def test_parameters_without_gradient_wait() -> None:
    ours, theirs = make_parameters(), make_parameters()
    a, b = Adam(ours, 0.1), torch.optim.Adam(theirs, 0.1)
    for seed in range(8):
        set_gradients(ours, theirs, seed=seed)
        for i in range(len(ours)):
            if (seed + i) % 3 == 0:
                ours[i].grad = theirs[i].grad = None
        a.step()
        b.step()
    assert relative_error(ours, theirs) <= 1e-6
    a.zero_grad()
    before = [p.detach().clone() for p in ours]
    a.step()
    assert equal(ours, before)


def test_closure() -> None:
    p = torch.tensor([3.0], requires_grad=True)
    optimizer = optimizers.SGD([p], 0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert p.item() == pytest.approx(2.4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_parameters_have_float32_state(dtype: torch.dtype) -> None:
    ours = [p.detach().to(dtype).requires_grad_() for p in make_parameters()]
    optimizer = Adam(ours, 1e-2)
    exact = [p.detach().float() for p in ours]
    reference = Adam(exact, 1e-2)
    for seed in range(10):
        set_gradients(ours, seed=seed)
        for p, q in zip(ours, exact, strict=True):
            assert p.grad is not None
            q.grad = p.grad.float()
        optimizer.step()
        reference.step()
    assert {x.dtype for s in optimizer.state.values() for x in (s["m"], s["v"])} == {torch.float32}
    moments = [[o.state[p]["v"] for p in ps] for o, ps in ((optimizer, ours), (reference, exact))]
    assert equal(*moments)
    assert relative_error(ours, [q.to(dtype) for q in exact]) < 10 * torch.finfo(dtype).eps
    loaded = Adam(ours)
    loaded.load_state_dict(optimizer.state_dict())
    assert equal([loaded.state[p]["v"] for p in ours], moments[0])


def test_mixed_dtypes_in_one_group() -> None:
    ours = [torch.ones(3), torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.bfloat16)]
    optimizer = Adam(ours, 0.1)
    for p in ours:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert all(torch.allclose(p.double(), torch.tensor(0.9).double(), atol=5e-3) for p in ours)


def test_grad_scaler() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    ours, theirs = make_parameters(), make_parameters()
    a, b = Adam(ours, 0.1), Adam(theirs, 0.1)
    for seed in range(4):
        set_gradients(ours, theirs, seed=seed)
        scaler.scale(torch.zeros(()))
        for p in ours:
            assert p.grad is not None
            p.grad = p.grad * scaler.get_scale()
        if seed == 2:  # an overflow: the step is left out
            assert ours[0].grad is not None
            ours[0].grad[0] = float("inf")
        scaler.step(a)
        scaler.update()
        if seed != 2:
            b.step()
    assert relative_error(ours, theirs) <= 1e-6


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 8),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 8),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=12),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_of_pytorch(name: str) -> None:
    """With momentum, which the last two of them cycle as well."""
    ours, theirs = make_parameters(), make_parameters()
    a = Momentum(ours, 0.1, form="heavy_ball")
    b = torch.optim.SGD(theirs, 0.1, momentum=0.9)
    schedulers = [SCHEDULERS[name](optimizer) for optimizer in (a, b)]
    rates = []
    for t in range(10):
        rates.append((a.param_groups[0]["lr"], b.param_groups[0]["lr"]))
        descend([a, b], ours, theirs, steps=1, start=t)
        for scheduler in schedulers:
            scheduler.step(*[1.0] * (name == "ReduceLROnPlateau"))
    assert all(mine == yours for mine, yours in rates)
    assert len(set(rates)) > 1
    assert relative_error(ours, theirs) <= 1e-6


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> Tensor:
    for seed in range(steps):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_go_on_alike(copied: Callable[[Any], Any]) -> None:
    model = nn.Linear(4, 2)
    optimizer = Adam(model.parameters(), 0.1)
    trained(model, optimizer)
    twin, twin_optimizer = copied((model, optimizer))
    assert torch.equal(trained(model, optimizer), trained(twin, twin_optimizer))
    assert not torch.equal(
        trained(model, optimizer), nn.utils.parameters_to_vector(twin.parameters())
    )


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lr": -0.1}, ValueError, r"lr=-0.1 is not accepted: it must be in \[0, inf\)"),
        ({"beta1": 1.0}, ValueError, r"beta1=1.0 is not accepted: it must be in \[0, 1\)"),
        ({"eps": "small"}, ValueError, "eps='small' is not accepted"),
        ({"clip_norm": 0.0}, ValueError, r"clip_norm=0.0 is not accepted: it must be None or in"),
        ({"weight_decay_on": "biases"}, ValueError, "weight_decay_on='biases' is not accepted"),
        ({"bias_correction": 1}, ValueError, "bias_correction=1 is not accepted"),
        ({"path": "fast"}, ValueError, "path='fast' is not accepted"),
        ({"betas": 0.9}, ValueError, "betas=0.9 is not accepted: it must be two numbers"),
        ({"betas": (0.9, 1.0)}, ValueError, "beta2=1.0 is not accepted"),
        (
            {"betas": (0.5, 0.9), "beta1": 0.4},
            ValueError,
            r"betas=.* contradicts beta1=0.4",
        ),
        ({"name": "all"}, TypeError, "Adam has no name"),
        (
            {"momentum": 0.9},
            TypeError,
            "Adam has no momentum: Momentum, Nesterov, RMSProp, Muon have it",
        ),
    ],
)
def test_mistakes_at_construction(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Adam([torch.zeros(3)], **settings)


def test_hyperparameters_by_position() -> None:
    with pytest.raises(TypeError, match=r"Adam takes all but params and lr by name, not \(0.9"):
        Adam([torch.zeros(3)], 0.1, (0.9, 0.95))  # type: ignore[misc]


@pytest.mark.parametrize("kind", [set, frozenset])
def test_parameters_without_an_order(kind: Any) -> None:
    with pytest.raises(TypeError, match="a set, whose order is random"):
        Adam(kind(make_parameters()))
    with pytest.raises(TypeError, match="set"):
        Adam([{"params": kind(make_parameters())}])


def test_mistakes_in_a_group() -> None:
    optimizer = Adam([torch.zeros(3)])
    with pytest.raises(ValueError, match="lr=-1 is not accepted"):
        optimizer.add_param_group({"params": [torch.zeros(2)], "lr": -1})
    assert len(optimizer.param_groups) == 1


def test_complex_and_sparse() -> None:
    with pytest.raises(TypeError, match="complex64: only real floats"):
        Adam([torch.zeros(3, dtype=torch.complex64)])
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = Adam(embedding.parameters())
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(TypeError, match="sparse: only dense gradients"):
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_help_names_everything(name: str) -> None:
    signature = inspect.signature(OPTIMIZERS[name])
    assert list(signature.parameters)[:2] == ["params", "lr"]
    declared = OPTIMIZERS[name].declared().keys()
    betas = {"betas"} if "beta1" in declared else set()
    assert signature.parameters.keys() == {"params", *declared, *betas, *FLAGS}
    assert OPTIMIZERS[name].__doc__ == OPTIMIZERS[name].rule.__doc__
