"""Schedules against PyTorch's schedulers, against formulas, and as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from optimizers import SGD
from optimizers.lr_scheduler import ScheduledLR
from optimizers.schedules import SCHEDULES, Schedule

STEPS = 50


def make(name: str, **settings: Any) -> Schedule:
    horizon = {"total_steps": STEPS} if "total_steps" in SCHEDULES[name].declarations() else {}
    return SCHEDULES[name](**{**horizon, **settings})


def rates(scheduler: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]) -> list[float]:
    optimizer = SGD([torch.zeros(1)], 1.0)
    schedule = scheduler(optimizer)
    values = []
    for _ in range(STEPS):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (make("step", every=7, factor=0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
        (make("exponential", rate=-np.log(0.9)), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
        (make("linear"), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, STEPS)),
        (make("linear", final=0.2), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, STEPS)),
        (make("cosine", final=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, 0.1)),
        (
            make("one_cycle"),
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, STEPS, cycle_momentum=False),
        ),
        (
            make("one_cycle", rise=0.5, initial=0.2, final=0.01),
            lambda o: lr_scheduler.OneCycleLR(
                o,
                1.0,
                STEPS,
                pct_start=0.5,
                div_factor=5,
                final_div_factor=20,
                cycle_momentum=False,
            ),
        ),
    ],
)
def test_same_as_pytorch(schedule: Schedule, theirs: Any) -> None:
    ours = list(schedule(np.arange(STEPS)))
    assert ours == pytest.approx(rates(theirs), rel=1e-12, abs=1e-15)
    assert ours == pytest.approx(rates(lambda o: ScheduledLR(o, schedule)), rel=1e-15)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (make("constant"), lambda t: 1.0),
        (make("exponential", rate=0.1), lambda t: np.exp(-0.1 * t)),
        (make("inverse_sqrt"), lambda t: 1 / (t + 1) ** 0.5),
        (make("inverse_time", rate=0.1), lambda t: 1 / (1 + 0.1 * t)),
    ],
)
def test_formula(schedule: Schedule, formula: Callable[[int], float]) -> None:
    assert [schedule(t) for t in range(STEPS)] == pytest.approx([formula(t) for t in range(STEPS)])


@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_one_by_one_or_all_at_once(name: str) -> None:
    schedule = make(name, warmup_steps=5)
    one_by_one = [schedule(t) for t in range(STEPS + 10)]
    assert all(type(multiplier) is float for multiplier in one_by_one)
    assert one_by_one == list(schedule(np.arange(STEPS + 10)))
    assert all(0 <= multiplier <= 1 for multiplier in one_by_one)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_to_where_the_schedule_starts(name: str) -> None:
    warm = make(name, warmup_steps=5)
    assert [warm(t) for t in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    shorter = {"total_steps": STEPS - 5} if "total_steps" in warm.declarations() else {}
    plain = make(name, **shorter)
    assert [warm(t + 5) for t in range(STEPS)] == [plain(t) for t in range(STEPS)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_hyperparameter_may_differ_by_run(name: str) -> None:
    warmups = np.array([0, 3, 7])
    together = make(name, warmup_steps=warmups)
    alone = [make(name, warmup_steps=int(w)) for w in warmups]
    for t in range(0, STEPS, 5):
        assert list(together(t)) == [schedule(t) for schedule in alone]


@pytest.mark.parametrize("name", ["linear", "cosine", "one_cycle"])
def test_after_its_end_a_schedule_stays(name: str) -> None:
    schedule = make(name, final=0.25)
    assert [schedule(STEPS + t) for t in (0, 1, 1000)] == [0.25] * 3
    with pytest.raises(ValueError, match="needs total_steps"):
        SCHEDULES[name]()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("step", {"every": 0}),
        ("step", {"every": 2.5}),
        ("exponential", {"rate": -1.0}),
        ("constant", {"warmup_steps": -1}),
        ("one_cycle", {"rise": 1.0}),
        ("cosine", {"total_steps": np.array([10, 0])}),
    ],
)
def test_what_is_not_accepted(name: str, settings: dict[str, Any]) -> None:
    (key,) = settings
    with pytest.raises(ValueError, match=f"^{key}=.* is not accepted: it must be "):
        make(name, **settings)
