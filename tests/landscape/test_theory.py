"""Theory against closed forms, and our optimizers against theory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import theory as command
from bench.landscape.theory import SETTINGS, Setting, measure, rate
from bench.workloads import Quadratic
from optimizers import OPTIMIZERS

KAPPAS = [10.0, 100.0, 1e3, 1e4]


def distances(setting: Setting, condition: float, steps: int, **more: float) -> list[float]:
    """Of our optimizer, after each step on a rotated quadratic."""
    hessian = torch.from_numpy(Quadratic(name="q", condition=condition).hessian())
    x = torch.ones(10, dtype=torch.float64)
    optimizer = OPTIMIZERS[setting.optimizer]([x], **{**setting.options(condition), **more})
    found = []
    for step in range(steps):
        x.grad = hessian @ x
        optimizer.step()
        if step % 50 == 49:
            found.append(float(x.norm()))
    return found


def spectrum(condition: float) -> Any:
    return np.geomspace(1 / condition, 1, 10)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_what_follows_from_the_rule_is_the_closed_form(setting: Setting) -> None:
    for k in KAPPAS:
        found = rate(setting.optimizer, setting.options(k), spectrum(k))
        assert 1 - found == pytest.approx(1 - setting.rate(k), rel=1e-5)
        at = {**setting.options(k), "lr": setting.limit(k)}  # where it neither falls nor grows
        assert rate(setting.optimizer, at, spectrum(k)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("form", ["velocity", "heavy_ball"])
def test_any_numbers_have_the_roots_of_the_textbook(form: str) -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        lr, momentum, values = draw.uniform(0, 4), draw.uniform(0, 1), draw.uniform(0, 1, 3)
        given = {"lr": lr, "momentum": momentum, "form": form}
        heavy = max(abs(np.roots([1, lr * v - 1 - momentum, momentum])).max() for v in values)
        assert rate("momentum", given, values) == pytest.approx(heavy)
        left = 1 - lr * values
        ahead = max(abs(np.roots([1, -(1 + momentum) * s, momentum * s])).max() for s in left)
        assert rate("nesterov", given, values) == pytest.approx(ahead)


@pytest.mark.parametrize("condition", KAPPAS)
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_optimizers_are_as_fast_as_theory_says(setting: Setting, condition: float) -> None:
    known = setting.rate(condition)
    folds = 8 if setting.optimizer == "sgd" else 230  # double roots: the rate is neared like 1 / t
    steps = max(int(folds / (1 - known)), 500)
    curve = distances(setting, condition, steps)
    measured = measure(50 * np.arange(1, len(curve) + 1), curve)
    assert measured is not None
    assert measured.rate == pytest.approx(known, rel=0.02)
    assert 1 - measured.rate == pytest.approx(1 - known, rel=0.02)


@pytest.mark.parametrize("condition", [10.0, 1e3])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_divergence_begins_within_a_hundredth_of_its_limit(
    setting: Setting, condition: float
) -> None:
    limit = setting.limit(condition)
    assert limit == 2 or setting.optimizer != "sgd"  # over the largest eigenvalue, 1
    below, above = (distances(setting, condition, 1500, lr=limit * x) for x in (0.99, 1.01))
    assert below[-1] < below[5]
    assert above[-1] > 100 * above[5]


def test_a_rate_is_measured_where_a_curve_falls_evenly() -> None:
    steps = np.arange(0, 4000, 10)
    falling = 0.97**steps + 3 * 0.5**steps
    measured = measure(steps, falling)  # which ends below the smallest number
    assert measured is not None
    assert measured.rate == pytest.approx(0.97)
    assert falling[measured.last // 10] > 1e-101 * falling[0]
    assert measure([1, 2], [1.0, 0.5]) is None
    assert measure(steps, np.full(len(steps), np.nan)) is None


@pytest.mark.slow
def test_runs_by_the_command_line(
    shell: Callable[..., tuple[int, str]], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few = ["workload.condition=10", "trainer.max_steps=400", "trainer.evaluations=60"]
    status, said = shell("experiment=theory", *few, "hydra/launcher=basic")
    assert status == 0, said
    study = tmp_path / "runs/theory"
    assert command.main([str(study), "--within", "0.02"]) == 0
    said, _ = capfd.readouterr()
    assert "0.818182" in said  # (κ - 1)/(κ + 1)
    assert command.main([str(study), "--within", "1e-9"]) == 1
    status, said = shell(
        "workload=quadratic", "workload.sigma=1", "study=noisy", "trainer.max_steps=1"
    )
    assert status == 0, said
    assert command.main(["runs/noisy"]) == 1
    _, said = capfd.readouterr()
    assert "workload.sigma=1.0: theory is of 0" in said
    assert "Traceback" not in said
    assert "holds no run that theory knows of" in said
