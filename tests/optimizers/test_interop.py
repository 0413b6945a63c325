"""PyTorch's names, and state dicts that go to PyTorch's optimizers and come back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import optimizers
from optimizers import OPTIMIZERS, SGD, AdaGrad, Adam, AdamW, AMSGrad, Momentum, NAdam, Nesterov
from optimizers.interop import COUNTERPARTS, ELSEWHERE, HYPERPARAMETERS
from tests.cases import CASES, MATRIX_CASES, TOLERANCE, Case
from tests.optimizers.helpers import descend, equal, make_parameters, relative_error


@torch.no_grad()
def copied(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.clone().requires_grad_() for p in parameters]


def tolerance(case: Case) -> float:
    # PyTorch keeps NAdam's product of momenta in float32.
    return 1e-8 if case.name == "nadam" else TOLERANCE[torch.float64]


def same_values(ours: Any, theirs: Any) -> bool:
    """Up to rounding, and with `lr` a number in either type."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same_values(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same_values, ours, theirs))
    if isinstance(ours, Tensor):
        return ours.dtype == theirs.dtype and torch.allclose(ours, theirs, rtol=1e-6)
    return ours == (pytest.approx(theirs) if isinstance(theirs, float) else theirs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_pytorch_goes_on_from_our_state_dict(case: Case) -> None:
    ours, whole = make_parameters(dtype=torch.float64), make_parameters(dtype=torch.float64)
    first, alone = case.optimizer(ours), case.oracle(whole)
    descend([first, alone], ours, whole, steps=5)
    theirs = copied(ours)
    second = case.oracle(theirs)
    second.load_state_dict(first.torch_state_dict())
    descend([first, second, alone], ours, theirs, whole, steps=5, start=5)
    assert relative_error(theirs, whole) <= tolerance(case)
    assert relative_error(ours, whole) <= tolerance(case)  # not one tensor is shared


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("steps", [0, 3])
def test_it_is_the_state_dict_that_pytorch_has(case: Case, steps: int) -> None:
    ours, theirs = make_parameters(dtype=torch.float64), make_parameters(dtype=torch.float64)
    a, b = case.optimizer(ours), case.oracle(theirs)
    descend([a, b], ours, theirs, steps=steps)
    mine, yours = a.torch_state_dict(), b.state_dict()
    if not case.settings.get("momentum", 1):
        mine["state"] = yours["state"] = {}  # PyTorch keeps no buffer that stays unused
    for state in [*mine["state"].values(), *yours["state"].values()]:
        if case.name == "rmsprop":  # ours are zero where unused
            for name in ("grad_avg", "momentum_buffer"):
                state.setdefault(name, torch.zeros_like(state["square_avg"]))
            if not case.settings.get("momentum"):
                del state["momentum_buffer"]
            if not case.settings.get("centred"):
                del state["grad_avg"]
    assert same_values(mine, yours)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_there_and_back_goes_on_as_if_nothing_was(case: Case) -> None:
    ours, whole = make_parameters(dtype=torch.float64), make_parameters(dtype=torch.float64)
    first, alone = case.optimizer(ours), case.optimizer(whole)
    descend([first, alone], ours, whole, steps=5)
    back = OPTIMIZERS[case.name](ours)
    back.load_state_dict(first.torch_state_dict())
    assert same_values(back.torch_state_dict(), first.torch_state_dict())
    descend([back, alone], ours, whole, steps=5, start=5)
    assert relative_error(ours, whole) <= TOLERANCE[torch.float64]


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamax", "radam", "nadam", "momentum"])
def test_there_and_back_is_the_identity(name: str) -> None:
    parameters = make_parameters()
    settings = {"form": "heavy_ball"} if name == "momentum" else {}
    optimizer = OPTIMIZERS[name](parameters, 0.1, **settings)
    descend([optimizer], parameters, steps=3)
    before = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(optimizer.torch_state_dict())
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for index, entries in before["state"].items():
        for slot in entries.keys() - {"step"}:
            assert torch.equal(after["state"][index][slot], entries[slot])
        assert name == "momentum" or after["state"][index]["step"] == entries["step"]


def test_a_group_that_changed_since_its_last_step() -> None:
    """PyTorch's RMSprop would have made the buffer that its next step needs."""
    ours, theirs = make_parameters(), make_parameters()
    a, b = optimizers.RMSProp(ours, 0.1), torch.optim.RMSprop(theirs, 0.1, momentum=0.5)
    descend([a], ours, steps=1)
    a.param_groups[0]["momentum"] = 0.5
    b.load_state_dict(a.torch_state_dict())
    with torch.no_grad():
        for p, q in zip(ours, theirs, strict=True):
            q.copy_(p)
    descend([a, b], ours, theirs, steps=3, start=1)
    assert relative_error(ours, theirs) <= 1e-6


@pytest.mark.parametrize("form", ["velocity", "heavy_ball", "average"])
@pytest.mark.parametrize("method", [Momentum, Nesterov])
def test_past_learning_rates_are_in_the_buffer(method: Any, form: str) -> None:
    """Whatever the schedule was, from the state dict on both take the same steps; in each form but
    `velocity` under any schedule."""
    ours = make_parameters(dtype=torch.float64)
    a = method(ours, 0.1, form=form, momentum=0.8)
    for t in range(4):
        a.param_groups[0]["lr"] = 0.1 / (t + 1)
        descend([a], ours, steps=1, start=t)
    theirs = copied(ours)
    b = torch.optim.SGD(theirs, 1.0)
    b.load_state_dict(a.torch_state_dict())
    for t in range(4, 8):
        descend([a, b], ours, theirs, steps=1, start=t)
        if form != "velocity":
            for optimizer in (a, b):
                optimizer.param_groups[0]["lr"] *= 0.7
    assert relative_error(ours, theirs) <= TOLERANCE[torch.float64]


def test_a_form_that_pytorch_lacks_is_refused() -> None:
    ours = Nesterov(make_parameters(), 0.1, form="average_ahead")
    with pytest.raises(
        ValueError, match=r"form='average_ahead' has no counterpart in torch\.optim"
    ):
        ours.torch_state_dict()


def test_a_schedule_goes_on_in_pytorch() -> None:
    """`initial_lr` goes along, in PyTorch's scale."""
    ours = make_parameters(dtype=torch.float64)
    a = Momentum(ours, 0.1, form="average", momentum=0.75)
    schedule = torch.optim.lr_scheduler.LambdaLR(a, lambda t: 0.9**t)
    descend([a], ours, steps=3, schedulers=[schedule])
    theirs = copied(ours)
    b = torch.optim.SGD(theirs, 1.0)
    b.load_state_dict(a.torch_state_dict())
    assert b.param_groups[0]["initial_lr"] == pytest.approx(0.025)
    second = torch.optim.lr_scheduler.LambdaLR(b, lambda t: 0.9**t, last_epoch=2)
    for t in range(3, 6):
        descend([a, b], ours, theirs, steps=1, start=t)
        schedule.step()
        second.step()
    assert relative_error(ours, theirs) <= TOLERANCE[torch.float64]


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda p: Adam(p, bias_correction=False), "bias_correction=False has no counterpart in"),
        (lambda p: Adam(p, clip_norm=1.0), "clip_norm=1.0 has no counterpart in torch.optim.Adam"),
        (
            lambda p: AdamW(p, weight_decay_on="weights"),
            "weight_decay_on='weights' has no counterp",
        ),
        (lambda p: SGD(p, gradient="numeric"), "gradient='numeric' has no counterpart in"),
        (optimizers.Lion, "torch.optim has no Lion"),
        (optimizers.Normalised, "torch.optim has no Normalised"),
    ],
)
def test_what_pytorch_cannot_do(optimizer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimizer(make_parameters()).torch_state_dict()


def test_a_velocity_at_no_learning_rate() -> None:
    parameters = make_parameters()
    optimizer = Momentum(parameters, 0.1)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.torch_state_dict()  # nothing has moved yet
    descend([optimizer], parameters, steps=1)
    with pytest.raises(ValueError, match="form='velocity' at lr=0 has no counterpart"):
        optimizer.torch_state_dict()


def test_decay_on_weights_without_decay() -> None:
    assert Adam(make_parameters(), weight_decay_on="weights").torch_state_dict()["param_groups"]


def test_what_schedulers_and_people_write_into_groups_goes_along() -> None:
    theirs = torch.optim.Adam([{"params": make_parameters(), "name": "all"}])
    torch.optim.lr_scheduler.OneCycleLR(theirs, 0.1, total_steps=9)
    ours = Adam(make_parameters())
    ours.load_state_dict(theirs.state_dict())
    for name in ("initial_lr", "max_lr", "min_lr", "name", "lr"):
        assert ours.param_groups[0][name] == theirs.param_groups[0][name]
        assert ours.torch_state_dict()["param_groups"][0][name] == theirs.param_groups[0][name]


def test_a_name_elsewhere_is_none_of_ours() -> None:
    ours = {name for method in OPTIMIZERS.values() for name in method.declared()}
    assert {*HYPERPARAMETERS.values(), *ELSEWHERE.values()} <= ours
    assert not {*HYPERPARAMETERS, *ELSEWHERE} & ours
    assert not HYPERPARAMETERS.keys() & ELSEWHERE.keys()


def test_every_rule_that_pytorch_has_is_in_the_table() -> None:
    cases = {OPTIMIZERS[case.name].rule: case.reference for case in [*CASES, *MATRIX_CASES]}
    assert {rule: other.name for rule, other in COUNTERPARTS.items()} == cases


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (SGD, {"momentum": 0, "dampening": 0, "nesterov": False}),
        (Momentum, {"dampening": 0.0, "nesterov": False}),
        (Nesterov, {"nesterov": True}),
        (AdaGrad, {"lr_decay": 0}),
        (Adam, {"amsgrad": False, "decoupled_weight_decay": False}),
        (AdamW, {"amsgrad": False}),
        (AMSGrad, {"amsgrad": True}),
        (NAdam, {"momentum_decay": 4e-3}),
    ],
)
def test_what_a_method_does_anyway_may_be_said(method: Any, settings: dict[str, Any]) -> None:
    group = method(make_parameters(), **settings).param_groups[0]
    betas = {"betas"} if "beta1" in method.declared() else set()
    assert group.keys() == {"params", *method.declared(), *betas}


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (SGD, {"momentum": 0.9}, "SGD has no momentum=0.9: use Momentum"),
        (SGD, {"nesterov": True}, "SGD has no nesterov=True: use Nesterov"),
        (SGD, {"momentum": 0.9, "nesterov": True}, "no momentum=0.9, nesterov=True: use Nesterov"),
        (Momentum, {"nesterov": True}, "Momentum has no nesterov=True: use Nesterov"),
        (Momentum, {"dampening": 0.5}, "Momentum has no dampening=0.5: it is always 0"),
        (Nesterov, {"nesterov": False}, "Nesterov has no nesterov=False: use Momentum"),
        (
            Adam,
            {"nesterov": True},
            "Adam has no nesterov: Nesterov, Muon have it; it takes lr, wei",
        ),
        (Adam, {"amsgrad": True}, "Adam has no amsgrad=True: use AMSGrad"),
        (Adam, {"decoupled_weight_decay": True}, "decoupled_weight_decay=True: use AdamW"),
        (AMSGrad, {"decoupled_weight_decay": True}, "it is always False"),
        (NAdam, {"momentum_decay": 0.1}, "NAdam has no momentum_decay=0.1: it is always 0.004"),
        (AdaGrad, {"lr_decay": 0.1}, "AdaGrad has no lr_decay=0.1: it is always 0"),
        (AdaGrad, {"initial_accumulator_value": 1.0}, "use initial_accumulator"),
        (optimizers.RMSProp, {"alpha": 0.9}, "RMSProp has no alpha: use decay"),
        (optimizers.RMSProp, {"rho": 0.9}, "RMSProp has no rho: use decay"),
        (optimizers.RMSProp, {"centered": True}, "RMSProp has no centered: use centred"),
        (Adam, {"alpha": 0.9}, "Adam has no alpha: RMSProp has it"),
        (Adam, {"learning_rate": 0.1}, "Adam has no learning_rate: use lr"),
        (Adam, {"beta_1": 0.9, "b2": 0.9}, "Adam has no beta_1: use beta1; no b2: use beta2"),
        (Adam, {"epsilon": 1e-8, "eta": 0.1}, "Adam has no epsilon: use eps; no eta: use lr"),
        (Adam, {"weightdecay": 0.1}, r"weightdecay: did you mean weight_decay\? It takes lr"),
        (Adam, {"zz": 1, "yy": 2}, "Adam has no zz, yy: it takes lr, weight_decay, beta1"),
    ],
)
def test_advice(method: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        method(make_parameters(), **settings)


def test_a_hand_over_leaves_the_optimizer_alone() -> None:
    parameters = make_parameters()
    optimizer = AdaGrad(parameters, initial_accumulator=0.5)
    descend([optimizer], parameters, steps=1)
    held = [optimizer.state[p]["s"].clone() for p in parameters]
    for entries in optimizer.torch_state_dict()["state"].values():
        entries["sum"].zero_()
    assert equal([optimizer.state[p]["s"] for p in parameters], held)
