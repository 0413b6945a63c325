"""What people and schedulers write into param_groups is what the next step does, or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook

from optimizers import OPTIMIZERS, Adam, AdamW, Momentum, Nesterov, RMSProp
from optimizers.interop import FLAGS
from optimizers.optimizer import Optimizer
from tests.optimizers.helpers import descend, equal, make_parameters, relative_error

WITH_BETAS = [name for name, made in OPTIMIZERS.items() if "beta1" in made.declared()]


@pytest.mark.parametrize("name", WITH_BETAS)
def test_betas_stand_for_beta1_and_beta2(name: str) -> None:
    ours, theirs = make_parameters(), make_parameters()
    make = OPTIMIZERS[name]
    descend([make(ours, betas=(0.5, 0.75)), make(theirs, beta1=0.5, beta2=0.75)], ours, theirs)
    assert equal(ours, theirs)


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g.update(betas=(0.5, 0.75)),
        lambda g: g.update(betas=[0.5, 0.75]),
        lambda g: g.update(beta1=0.5, beta2=0.75),
        lambda g: g.update(betas=(torch.tensor(0.5), torch.tensor(0.75))),
    ],
)
def test_betas_of_a_group_change_midway(change: Callable[[dict[str, Any]], None]) -> None:
    ours, theirs = make_parameters(), make_parameters()
    a, b = Adam(ours, 0.1), torch.optim.Adam(theirs, 0.1)
    descend([a, b], ours, theirs, steps=3)
    change(a.param_groups[0])
    b.param_groups[0]["betas"] = (0.5, 0.75)
    descend([a, b], ours, theirs, start=3, steps=3)
    assert relative_error(ours, theirs) <= 1e-6
    group = a.param_groups[0]
    assert (group["beta1"], group["beta2"]) == tuple(group["betas"]) == (0.5, 0.75)


def test_betas_of_one_group() -> None:
    ours, theirs = make_parameters(), make_parameters()
    a = Adam([{"params": ours[:2], "betas": (0.5, 0.9)}, {"params": ours[2:], "beta2": 0.9}], 0.1)
    b = torch.optim.Adam(
        [{"params": theirs[:2], "betas": (0.5, 0.9)}, {"params": theirs[2:], "betas": (0.9, 0.9)}],
        0.1,
    )
    descend([a, b], ours, theirs, steps=5)
    assert relative_error(ours, theirs) <= 1e-6


@pytest.mark.parametrize("flag", sorted(FLAGS))
@pytest.mark.parametrize("value", [None, True, False])
def test_flags_have_no_effect(flag: str, value: bool | None) -> None:
    ours, theirs = make_parameters(), make_parameters()
    group = {"params": ours, flag: value}
    descend([AdamW([group], **{flag: value}), AdamW(theirs)], ours, theirs, steps=5)
    assert equal(ours, theirs)


@pytest.mark.parametrize(
    ("make", "reference"),
    [
        (lambda ps: Adam(ps, 0.1), lambda ps: torch.optim.Adam(ps, 0.1)),
        (
            lambda ps: Momentum(ps, 0.1, form="heavy_ball"),
            lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.9),
        ),
        (
            lambda ps: Nesterov(ps, 0.1, form="heavy_ball"),
            lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.9, nesterov=True),
        ),
        (
            lambda ps: RMSProp(ps, 0.01, momentum=0.5),
            lambda ps: torch.optim.RMSprop(ps, 0.01, momentum=0.5),
        ),
    ],
)
@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=12),
        lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3),
    ],
)
def test_schedulers_cycle_momentum(make: Any, reference: Any, schedule: Any) -> None:
    ours, theirs = make_parameters(), make_parameters()
    a, b = make(ours), reference(theirs)
    schedulers = [schedule(a), schedule(b)]
    momenta = []
    for t in range(10):
        descend([a, b], ours, theirs, steps=1, start=t)
        group = a.param_groups[0]
        momenta.append(group.get("beta1", group.get("momentum")))
        for scheduler in schedulers:
            scheduler.step()
    assert len(set(momenta)) > 3
    assert relative_error(ours, theirs) <= 1e-5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"beta1": 1.0}, ValueError, r"beta1=1.0 is not accepted: it must be in \[0, 1\)"),
        ({"betas": (0.9, 1.0)}, ValueError, "beta2=1.0 is not accepted"),
        ({"betas": 0.9}, ValueError, "betas=0.9 is not accepted: it must be two numbers"),
        ({"betas": (0.5, 0.5), "beta1": 0.4}, ValueError, "give one of them"),
        ({"lr": -1.0}, ValueError, "lr=-1.0 is not accepted"),
        ({"lr": float("nan")}, ValueError, "lr=nan is not accepted"),
        ({"lr": torch.tensor(-1.0)}, ValueError, "lr=-1.0 is not accepted"),
        ({"lr": torch.ones(2)}, ValueError, "lr=tensor.* is not accepted"),
        ({"lr": "0.1"}, ValueError, "lr='0.1' is not accepted"),
        ({"lr": None}, ValueError, "lr=None is not accepted"),
        ({"bias_correction": "no"}, ValueError, "bias_correction='no' is not accepted"),
        ({"path": "quick"}, ValueError, "path='quick' is not accepted"),
        (
            {"nesterov": True},
            TypeError,
            r"param_groups\[0\]: Adam has no nesterov: Nest",
        ),
        ({"learning_rate": 0.1}, TypeError, "Adam has no learning_rate: use lr"),
    ],
)
def test_mistakes_between_steps(change: Any, error: type[Exception], message: str) -> None:
    ours = make_parameters()
    optimizer = Adam(ours)
    descend([optimizer], ours, steps=3)
    before = [p.detach().clone() for p in ours]
    optimizer.param_groups[0].update(change)
    with pytest.raises(error, match=message):
        optimizer.step()
    assert equal(ours, before)
    assert optimizer.state[ours[0]]["step"] == 3


def test_a_key_that_is_missing() -> None:
    ours = make_parameters()
    optimizer = Adam(ours)
    optimizer.param_groups = [{"params": ours, "lr": 0.1}]
    with pytest.raises(KeyError, match=r"param_groups\[0\] has no beta1, beta2"):
        descend([optimizer], ours, steps=1)


def test_notes_of_others_stay() -> None:
    ours = make_parameters()
    optimizer = Adam([{"params": ours, "name": "all", "lr_scale": 0.5}])
    lr_scheduler.StepLR(optimizer, 1)
    descend([optimizer], ours, steps=1)
    assert optimizer.param_groups[0]["name"] == "all"


def test_a_tensor_as_learning_rate_changes_in_place() -> None:
    ours, theirs = make_parameters(), make_parameters()
    rate = torch.tensor(0.1)
    a, b = Adam(ours, rate), Adam(theirs, 0.1)  # type: ignore[arg-type]
    for t in range(4):
        rate.fill_(0.1 / (t + 1))
        b.param_groups[0]["lr"] = rate.item()
        descend([a, b], ours, theirs, steps=1, start=t)
    assert equal(ours, theirs)
    rate.fill_(-1.0)
    with pytest.raises(ValueError, match=r"lr=-1\.0 is not accepted"):
        a.step()


def test_state_dicts_made_before_betas() -> None:
    ours = make_parameters()
    optimizer = Adam(ours, betas=(0.5, 0.75))
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        del group["betas"]
    loaded = Adam(ours)
    loaded.load_state_dict(saved)
    assert loaded.param_groups[0]["betas"] == (0.5, 0.75)


def test_hooks_and_profilers_see_steps() -> None:
    """PyTorch's wrapper is left out only where nobody would notice."""
    seen: list[str] = []
    ours, theirs = make_parameters(), make_parameters()
    optimizer: Optimizer = Adam(ours)
    twin = Adam(theirs)
    before = optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    after = optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    everywhere = register_optimizer_step_post_hook(lambda *_: seen.append("everywhere"))
    descend([optimizer], ours, steps=1)
    for handle in (before, after, everywhere):
        handle.remove()
    descend([optimizer], ours, steps=1, start=1)
    assert seen == ["before", "after", "everywhere"]
    with torch.profiler.profile(acc_events=True) as profile:
        descend([optimizer], ours, steps=1, start=2)
    assert "Optimizer.step#Adam.step" in {event.key for event in profile.key_averages()}
    descend([twin], theirs, steps=3)
    assert equal(ours, theirs)
