"""Eigenvalues, trace and diagonal from products alone, against dense linear algebra."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import hessian

from bench.landscape.objective import Objective, Products, drawn_examples
from bench.landscape.spectrum import (
    dense,
    diagonal,
    ends_of,
    lanczos,
    largest,
    spearman,
    trace,
)
from bench.workloads import LinearRegression
from bench.workloads.functions import Quadratic
from bench.workloads.models import drawn, loaded
from bench.workloads.workload import Arrays, Batch, Place, Workload
from tests.data.fake_data import fake_cache

# PyTorch's forward mode, which only the oracle takes, is written with it
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
EXACTLY = Place(torch.device("cpu"), torch.float64)


class Small(Arrays):
    """Two layers, an activation of which has no second derivative at 0."""

    activation: str = "tanh"
    l2: float = 0.0  # type: ignore[misc]

    inputs = ("x",)

    def arrays(self) -> dict[str, dict[str, NDArray[np.float32]]]:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(90, 6)).astype(np.float32)
        named = {"x": x, "y": (x[:, :3] + rng.normal(size=(90, 3))).argmax(1)}
        return {"train": named, "test": named}

    def build(self, seed: int) -> nn.Module:
        between = {"tanh": nn.Tanh, "relu": nn.ReLU}[self.activation]()
        return nn.Sequential(nn.Linear(6, 8), between, nn.Dropout(0.5), nn.Linear(8, 3))

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(output, batch["y"], reduction="none")


def objective_of(workload: Workload, examples: Tensor | None = None) -> Objective:
    return Objective(loaded(workload, EXACTLY), drawn(workload, 3).double(), examples)


def true_hessian(objective: Objective) -> NDArray[np.float64]:
    """By forward over reverse mode, on all examples at once."""
    batch = objective.batch(objective.examples)
    found: Tensor = hessian(lambda weights: objective.of_batch(weights, batch))(objective.at)
    return found.detach().numpy()


@pytest.mark.parametrize("at_once", [1000, 37])
@pytest.mark.parametrize("options", [{}, {"activation": "relu"}, {"l2": 0.3}])
def test_lanczos_has_the_ends_of_a_network_s_spectrum(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], at_once: int
) -> None:
    monkeypatch.setattr("bench.landscape.objective.MOST_AT_ONCE", at_once)
    objective = objective_of(Small(name="small", **options), torch.arange(80))
    assert len(objective.batches) == -(-80 // at_once)
    values, vectors = np.linalg.eigh(true_hessian(objective))
    found = lanczos(Products(objective), objective.size, 3, seed=0)
    assert found.top == pytest.approx(values[::-1][:3], rel=1e-6)
    assert found.bottom == pytest.approx(values[:3], rel=1e-6)
    assert found.vector is not None
    assert abs(found.vector @ vectors[:, -1]) == pytest.approx(1, abs=1e-6)
    again = lanczos(Products(objective), objective.size, 3, seed=0)
    assert (again.top == found.top).all()


def test_products_are_the_hessian_s() -> None:
    objective = objective_of(Small(name="small"))
    expected, products = true_hessian(objective), Products(objective)
    matrix = dense(products, objective.size)
    assert products.count == objective.size
    assert matrix == pytest.approx(expected, abs=1e-12)
    places = np.array([0, 5, 40])
    assert diagonal(products, objective.size, places) == pytest.approx(
        expected.diagonal()[places], abs=1e-12
    )
    assert objective.gradient(objective.at).numpy() == pytest.approx(
        sum(g.numpy() for g in objective.gradients(objective.examples.split(1))) / 90, abs=1e-12
    )


def test_known_spectra_of_quadratic_and_linear_regression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quadratic = Quadratic(name="quadratic", dimension=300, condition=100.0, sigma=2.0)
    objective = objective_of(quadratic)
    found = lanczos(Products(objective), 300, 2, seed=1)
    expected = np.linalg.eigvalsh(quadratic.hessian())
    assert found.top == pytest.approx(expected[::-1][:2], rel=1e-6)
    assert found.bottom == pytest.approx(expected[:2], rel=1e-6)
    assert (found.bottom[0], found.top[0]) == pytest.approx(quadratic.curvature(), rel=1e-6)

    fake_cache("diabetes", tmp_path, monkeypatch)
    regression = LinearRegression(name="linear_regression")
    regression.data_dir = tmp_path  # type: ignore[misc]
    objective = objective_of(regression)
    found = lanczos(Products(objective), objective.size, 1, seed=1)
    assert (found.bottom[0], found.top[0]) == pytest.approx(regression.curvature(), rel=1e-6)
    assert ends_of(dense(Products(objective), 11), 1).top == pytest.approx(found.top, rel=1e-9)


def test_a_matrix_that_is_zero_is_told() -> None:
    top, vector = largest(lambda v: 0 * v, 20, 1, seed=0)
    assert vector is None or top == pytest.approx([0])


def test_the_trace_is_within_its_stated_error() -> None:
    """Over 400 seeds the interval of two standard errors covers as Student's t with 29 degrees of
    freedom has it, 94.5 %, within what 400 draws of that may miss."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    matrix = (basis * np.geomspace(1e-3, 50, 60)) @ basis.T
    covered, errors = 0, []
    for seed in range(400):
        value, error = trace(lambda v: matrix @ v, 60, 30, seed=seed)
        covered += abs(value - matrix.trace()) <= 2 * error
        errors.append(error)
    assert 0.91 <= covered / 400 <= 0.975
    away = matrix - np.diag(matrix.diagonal())
    assert np.mean(np.square(errors)) == pytest.approx(2 * np.square(away).sum() / 30, rel=0.05)


def test_ranks_of_a_constant_have_no_correlation() -> None:
    x = np.arange(5.0)
    assert spearman(x, np.exp(x)) == pytest.approx(1)
    assert np.isnan(spearman(x, np.ones(5)))


def test_examples_are_decided_by_the_seed() -> None:
    workload = Small(name="small")
    one, again, other = (drawn_examples(workload, 20, seed) for seed in (0, 0, 1))
    assert one is not None
    assert again is not None
    assert other is not None
    assert one.tolist() == again.tolist() != other.tolist()
    assert len(set(one.tolist())) == 20
    assert drawn_examples(workload, 90, 0) is None
