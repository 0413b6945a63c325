"""Optimizers that evaluate the loss themselves, in runs: second order, L-BFGS, random search."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Shell = Callable[..., tuple[int, str]]


def made(shell: Shell, *options: str) -> dict[str, Any]:
    """The record of a run."""
    status, said = shell("study=s", "trainer.precision=64-true", *options)
    assert status == 0, said
    assert "Traceback" not in said
    (path,) = Path("runs/s").glob("*/*/*/record.json")
    record: dict[str, Any] = json.loads(path.read_text())
    path.unlink()
    return record


STEP = "trainer.max_steps=1"
QUADRATICS = [
    ["workload=quadratic", "workload.condition=1e4", "workload.dimension=20"],
    ["workload=ravine"],
    ["workload=quadratic_deep", "workload.batch_size=full"],
]


@pytest.mark.parametrize("optimizer", ["newton", "gauss_newton"])
@pytest.mark.parametrize("workload", QUADRATICS, ids=lambda w: w[0])
def test_one_step_solves_a_quadratic(shell: Shell, workload: list[str], optimizer: str) -> None:
    record = made(shell, *workload, f"optimizer={optimizer}", STEP)
    assert record["metrics"]["test/distance"] < 1e-10


@pytest.mark.parametrize("lightning", [[], ["trainer.steps_per_execution=1"]])
@pytest.mark.parametrize("optimizer", ["newton", "gauss_newton"])
def test_one_step_solves_least_squares(shell: Shell, optimizer: str, lightning: list[str]) -> None:
    full = ["workload=linear_regression", "workload.batch_size=full"]
    record = made(shell, *full, f"optimizer={optimizer}", STEP, *lightning)
    assert abs(record["metrics"]["train/excess"]) < 1e-12


def test_newton_refuses_a_large_model_in_one_line(shell: Shell, fake_data: None) -> None:
    status, said = shell("workload=mnist_mlp", "optimizer=newton")
    assert status == 1
    assert "optimizer=newton: Newton takes one param_group of at most 5000 numbers" in said
    assert "Traceback" not in said


def test_newton_beside_nothing_else_on_images(shell: Shell, fake_data: None) -> None:
    small = ["workload=mnist_mlp", "workload.model.hidden_sizes=[2]", "workload.batch_size=32"]
    for optimizer in ("newton", "gauss_newton"):
        options = [f"optimizer={optimizer}", "optimizer.damping=1", "trainer.max_steps=3"]
        record = made(shell, *small, *options, "diagnostics=true")
        assert record["status"] == "completed"
        assert record["metrics"]["train/grad_norm"] > 0


def test_lbfgs_by_its_path(shell: Shell) -> None:
    options = ["optimizer._target_=torch.optim.LBFGS", "optimizer.line_search_fn=strong_wolfe"]
    record = made(shell, "workload=rosenbrock", *options, "trainer.max_steps=10")
    assert record["metrics"]["test/value"] < 1e-8  # from 24.2


def test_random_search_goes_by_the_seed_of_the_run(shell: Shell) -> None:
    search = ["workload=himmelblau", "optimizer=random_search", "trainer.max_steps=300"]
    ends = [made(shell, *search, f"seed={seed}")["metrics"]["test/value"] for seed in (0, 0, 1)]
    assert ends[0] == ends[1] != ends[2]
    assert max(ends) < 1  # from 170


def test_random_search_goes_on_as_if_it_had_not_been_ended(shell: Shell) -> None:
    search = ["workload=himmelblau", "optimizer=random_search", "workload.steps=50"]
    whole = made(shell, *search, "trainer.max_epochs=2")["metrics"]
    status, said = shell("study=r", "trainer.precision=64-true", *search, "trainer.max_epochs=1")
    assert status == 0, said
    again = ["trainer.max_epochs=2", "trainer.resume=true", "study=r"]
    status, said = shell("trainer.precision=64-true", *search, *again)
    assert status == 0, said
    assert "goes on" in said
    (path,) = Path("runs/r").glob("*/*/*max_epochs=2*/record.json")
    assert json.loads(path.read_text())["metrics"] == whole
