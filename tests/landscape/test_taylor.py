"""Taylor's circle against closed forms, and the powers that remainders fall with."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from bench import taylor as command
from bench.landscape.objective import Objective
from bench.landscape.taylor import BATCHES, Way, conjugate_gradients, moved, order, ways
from bench.workloads import Function, Himmelblau, Quadratic, Rosenbrock, Saddle
from bench.workloads.models import drawn, forget, loaded
from bench.workloads.workload import Place

EXACT = Place(torch.device("cpu"), torch.float64)


def along(function: Function) -> dict[str, Way]:
    model = drawn(loaded(function, EXACT), 0).double()
    found = {way.name: way for way in ways(Objective(function, model, None), 1)}
    forget()
    return found


def test_the_radius_of_a_quadratic_is_known() -> None:
    """First order is off by s dᵀQd / (2 |g·d|) of itself; second order never is."""
    quadratic = Quadratic(name="q", condition=50.0, dimension=6)
    hessian, g = quadratic.hessian(), quadratic.hessian() @ np.ones(6)
    found = along(quadratic)
    assert list(found) == ["gradient", "momentum", "adam", "newton"]
    directions = {
        "gradient": -g,
        "momentum": -g,
        "adam": -np.sign(g),  # of a gradient that stays
        "newton": -np.linalg.solve(hessian + 1e-3 * (g @ hessian @ g) / (g @ g) * np.eye(6), g),
    }
    for name, way in found.items():
        d = directions[name] / np.linalg.norm(directions[name])
        assert way.slope == pytest.approx(g @ d, rel=1e-5)
        assert way.curvature == pytest.approx(d @ hessian @ d, rel=1e-5)
        assert way.first_radius == pytest.approx(0.2 * -way.slope / way.curvature, rel=1e-3)
        assert way.second_radius is None
        assert way.first_order == pytest.approx(2, abs=1e-3)
        assert way.second_order is None  # it is rounding


@pytest.mark.parametrize("kind", [Rosenbrock, Himmelblau, Saddle])
def test_remainders_fall_with_their_orders(kind: type[Function]) -> None:
    start = {} if kind is Rosenbrock else {"start": [0.7, 0.4]}
    for way in along(kind(name="f", **start)).values():
        assert way.first_order == pytest.approx(2, abs=0.05)
        assert way.second_order == pytest.approx(3, abs=0.05)
        assert way.slope < 0


def test_newton_is_damped_until_it_meets_no_negative_curvature() -> None:
    matrix = torch.diag(torch.tensor([3.0, 1.0, -0.5], dtype=torch.float64))
    b = torch.ones(3, dtype=torch.float64)
    assert conjugate_gradients(lambda v: matrix @ v, b, 0.1)[0] is None
    x, products = conjugate_gradients(lambda v: matrix @ v, b, 1.0)
    assert x is not None
    torch.testing.assert_close(x, b / (matrix.diagonal() + 1), rtol=1e-5, atol=0)
    assert products == 3


def test_optimizers_move_by_what_they_have_seen() -> None:
    at = torch.zeros(3, dtype=torch.float64)
    seen = [torch.tensor([1.0, -2.0, x], dtype=torch.float64) for x in range(BATCHES)]
    velocity = sum(0.9 ** (BATCHES - 1 - n) * g for n, g in enumerate(seen))
    torch.testing.assert_close(moved(at, "momentum", seen), -1e-3 * velocity)
    assert not at.any()


def test_an_order_is_not_read_from_rounding() -> None:
    s = np.logspace(-4, 0, 20)
    assert order(s, 5 * s**3, 1e-15) == pytest.approx(3)
    assert order(s, 5 * s**3 + 1e-9, 1e-8) == pytest.approx(3, abs=0.01)
    assert order(s, np.full(20, 1e-9), 1e-8) is None


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    GlobalHydra.instance().clear()
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return command.main(arguments)


def test_the_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    fake_data: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["workload=mnist_logistic", "--examples", "20", "seed=1"]
    assert run(monkeypatch, *few) == 0
    said, _ = capsys.readouterr()
    assert "2.00, 3.0" in said  # a smooth loss
    place = tmp_path / "runs/taylor/mnist_logistic"
    with (place / "taylor.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["direction"] for row in rows} == {"gradient", "momentum", "adam", "newton"}
    smallest = rows[0]
    assert float(smallest["real"]) == pytest.approx(float(smallest["first_order"]), rel=1e-3)
    assert (place / "taylor.svg").stat().st_size > 5000
    for arguments, what in (
        (["workload=nothing"], "nothing"),
        (["workload.batchsize=3"], "workload.batchsize"),
        (["--run", "nowhere"], "nowhere: not the directory of a run"),
        (["workload=himmelblau", "workload.start=[3,2]"], "the gradient there is zero"),
    ):
        assert run(monkeypatch, *arguments) == 1
        _, said = capsys.readouterr()
        assert what in said
        assert said.count("\n") == 1
