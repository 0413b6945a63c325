"""Functions against closed forms, and descent on them against theory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from scipy.optimize import rosen, rosen_der

from bench.command_line import CONF
from bench.errors import BenchError
from bench.records import Record
from bench.settings.schema import validate
from bench.training import Run
from bench.workloads import (
    AbsSum,
    Beale,
    Function,
    Himmelblau,
    Plateau,
    Quadratic,
    QuadraticDeep,
    Rastrigin,
    Ravine,
    Rosenbrock,
    Saddle,
)
from bench.workloads.models import check_contract, drawn, forget, loaded
from bench.workloads.workload import Place

EXACT = Place(torch.device("cpu"), torch.float64)
FUNCTIONS = [AbsSum, Beale, Himmelblau, Plateau, Quadratic, Rastrigin, Ravine, Rosenbrock, Saddle]


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    forget()


def at(function: Function, *x: float) -> tuple[float, list[float]]:
    """The value and the gradient."""
    place = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = loaded(function, EXACT).value(place)  # type: ignore[attr-defined]
    value.backward()
    assert place.grad is not None
    return float(value.detach()), place.grad.tolist()


def train(place: Path, *runs: list[str]) -> list[Record]:
    usual = ["trainer.enable_progress_bar=false"]
    configs = [validate(compose("config", [*usual, *overrides])) for overrides in runs]
    directories = [place / str(n) for n in range(len(runs))]
    for directory in directories:
        directory.mkdir(parents=True)
    return Run(configs, directories).train()


# --- values, gradients, minima --------------------------------------------------------------


def test_rosenbrock_is_scipys() -> None:
    x = np.random.default_rng(0).normal(size=7)
    value, gradient = at(Rosenbrock(name="f", dimension=7), *x)
    assert value == pytest.approx(rosen(x), rel=1e-12)
    assert gradient == pytest.approx(rosen_der(x), rel=1e-10)


@pytest.mark.parametrize(
    ("kind", "x", "value", "gradient"),
    [
        (AbsSum, (-3.0, 0.5), 3.5, (-1, 1)),
        (Beale, (0.0, 0.0), 14.203125, (-12.75, 0)),
        (Himmelblau, (0.0, 0.0), 170, (-14, -22)),
        (Plateau, (3.0, 4.0), 25 / 26, (6 / 26**2, 8 / 26**2)),
        (Rastrigin, (0.25, 1.5), 0.0625 + 10 + 2.25 + 20, (0.5 + 20 * np.pi, 3)),
        (Ravine, (-7.0, 2.0), 2.45 + 4, (-0.7, 4)),
        (Saddle, (1.0, 0.5), 1 - 0.25 + (0.0625 + 1) / 2, (2, -0.75)),
    ],
)
def test_closed_forms(kind: Any, x: Any, value: float, gradient: Any) -> None:
    found = at(kind(name="f"), *x)
    assert found == (pytest.approx(value), pytest.approx(gradient, abs=1e-12))


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_minima_are_stationary_and_lowest(kind: Any) -> None:
    function = loaded(kind(name="f"), EXACT)
    for minimum in function.minima():
        value, gradient = at(function, *minimum)
        assert value == pytest.approx(0, abs=1e-20)
        assert gradient == pytest.approx([0.0] * len(minimum), abs=1e-10)
        for near in torch.tensor(minimum) + 0.01 * torch.randn(20, len(minimum)):
            assert at(function, *near.tolist())[0] > 0
            distance = function.totals(near.double(), {})["distance"]
            assert distance == pytest.approx(float((near - torch.tensor(minimum)).norm()), rel=1e-4)


@pytest.mark.parametrize("kind", [*FUNCTIONS, QuadraticDeep])
def test_keeps_the_contract(kind: Any) -> None:
    cases = [{}] if kind is QuadraticDeep else [{}, {"sigma": 0.5, "spread": 1.0}]
    for fields in cases:
        function = loaded(kind(name="f", **fields), Place(torch.device("cpu"), torch.float32))
        function.check()
        check_contract(function, drawn(function, 3), 3)


@pytest.mark.parametrize("rotation", [None, 0, 1])
def test_quadratic_has_the_eigenvalues_that_it_says(rotation: int | None) -> None:
    hessian = Quadratic(name="f", dimension=6, condition=1e4, rotation=rotation).hessian()
    assert np.linalg.eigvalsh(hessian) == pytest.approx(np.geomspace(1e-4, 1, 6), rel=1e-8)
    assert np.allclose(hessian, np.diag(np.diag(hessian))) is (rotation is None)


@pytest.mark.parametrize("start", [[1.0, 2.0, 3.0], [float("nan")], [float("inf"), 1.0]])
def test_a_start_that_is_no_point_is_refused(start: list[float]) -> None:
    with pytest.raises(BenchError, match=r"workload\.start=.*one finite number, or 2"):
        Beale(name="f", start=start).check()


def test_noise_has_its_deviation_and_no_mean() -> None:
    function = loaded(Ravine(name="f", sigma=0.5, steps=20_000), EXACT)
    noise = function.batch(slice(None))["noise"]
    assert noise.mean(0).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert noise.std(0).tolist() == pytest.approx([0.5, 0.5], rel=0.03)
    assert function.batch(slice(None), "val") == {}


# --- theory ---------------------------------------------------------------------------------


def distance(place: Path, steps: int, *more: str) -> float:
    options = ["workload=quadratic", "trainer.precision=64-true", f"workload.steps={steps}"]
    (record,) = train(place, [*options, "trainer.max_epochs=1", *more])
    found = record.metrics["test/distance"]
    assert found is not None
    return found


@pytest.mark.parametrize("method", ["descent", "heavy ball"])
def test_rate_at_the_best_setting(tmp_path: Path, method: str) -> None:
    condition = 100.0
    low, high, root = 1 / condition, 1.0, condition**0.5
    if method == "descent":
        rate, steps = (condition - 1) / (condition + 1), (300, 600)
        options = ["optimizer=sgd", f"optimizer.lr={2 / (low + high)!r}"]
    else:
        rate, steps = (root - 1) / (root + 1), (60, 120)
        lr = (2 / (high**0.5 + low**0.5)) ** 2
        options = ["optimizer=momentum", f"optimizer.lr={lr!r}"]
        options += [f"optimizer.momentum={rate**2!r}"]
    options += [f"workload.condition={condition}"]
    early, late = (distance(tmp_path / str(n), n, *options) for n in steps)
    measured = (late / early) ** (1 / (steps[1] - steps[0]))
    assert measured == pytest.approx(rate, rel=0.02)


def test_divergence_begins_at_two_over_the_largest_eigenvalue(tmp_path: Path) -> None:
    start = 10**0.5
    for lr, grows in ((1.99, False), (2.01, True)):
        options = ["optimizer=sgd", f"optimizer.lr={lr}"]
        assert (distance(tmp_path / str(lr), 1000, *options) > start) is grows


# --- in stacks ------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_alone_as_in_a_stack(tmp_path: Path, sigma: float) -> None:
    usual = ["workload=rosenbrock", "optimizer=adam", "trainer.max_epochs=1", "workload.steps=50"]
    usual += [f"workload.sigma={sigma}", "workload.spread=0.1"]
    cases = [("[-1,1]", 0), ("[0,0.5]", 0), ("[-1,1]", 1)]
    runs = [[*usual, f"workload.start={start}", f"seed={seed}"] for start, seed in cases]
    together = train(tmp_path / "stack", *runs)
    values = set()
    for n, run in enumerate(runs):
        (alone,) = train(tmp_path / f"alone{n}", run)
        for name in ("test/value", "test/distance"):
            assert together[n].metrics[name] == pytest.approx(alone.metrics[name], rel=1e-4)
        values.add(alone.metrics["test/value"])
    assert len(values) == len(runs)


# --- DeepOBS --------------------------------------------------------------------------------


def test_quadratic_deep_starts_where_deepobs_says() -> None:
    workload = loaded(QuadraticDeep(name="f"), EXACT)
    batch = workload.batch(slice(0, 896), "test")
    losses = workload.losses(torch.ones(100, dtype=torch.float64), batch)
    assert float(losses.mean()) == pytest.approx(353.4468, abs=1e-3)


@pytest.mark.parametrize(
    ("epochs", "optimizer", "published", "tolerance"),
    [
        (1, ["sgd", "lr=1.5848931925e-2"], 105.46, 0.4),
        (10, ["sgd", "lr=1.5848931925e-2"], 93.11, 0.4),
        (100, ["sgd", "lr=1.5848931925e-2"], 87.53, 0.4),
        (1, ["momentum", "lr=2.5118864315e-3", "momentum=0.99"], 268.4, 4),
        (10, ["momentum", "lr=2.5118864315e-3", "momentum=0.99"], 134.4, 4),
        (100, ["momentum", "lr=2.5118864315e-3", "momentum=0.99"], 87.07, 0.4),
        (1, ["adam", "lr=3.9810717055e-2"], 142.08, 0.4),
        (10, ["adam", "lr=3.9810717055e-2"], 94.89, 0.4),
        (100, ["adam", "lr=3.9810717055e-2"], 87.121, 0.4),
    ],
)
def test_quadratic_deep_loses_what_deepobs_published(
    tmp_path: Path, epochs: int, optimizer: list[str], published: float, tolerance: float
) -> None:
    name, *options = optimizer
    run = [f"optimizer={name}", *(f"optimizer.{option}" for option in options)]
    run += ["workload=quadratic_deep", f"trainer.max_epochs={epochs}"]
    run += ["workload.sampling=sequential", "workload.drop_last=true"]
    (record,) = train(tmp_path, run)
    assert record.metrics["test/loss"] == pytest.approx(published, abs=tolerance)
