"""Rare features: how often they come, what labels follow from, and that it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from bench.workloads import RareFeatures
from bench.workloads.models import check_contract, drawn, forget, loaded
from bench.workloads.workload import Place

Shell = Callable[..., tuple[int, str]]
EXACT = Place(torch.device("cpu"), torch.float64)
FEW = {"features": 8, "tail": 0.5, "deviation": 1.0}  # few enough to be found from the examples


@pytest.mark.parametrize("tail", [0.0, 1.0, 2.0])
def test_the_kth_feature_comes_in_a_share_of_k_to_minus_the_tail(tail: float) -> None:
    """Binomial counts within six standard deviations, each; their scores have variance 1."""
    workload = RareFeatures(name="r", tail=tail, most_common=0.4)
    for split in workload.arrays().values():
        x = split["inputs"]
        assert set(np.unique(x)) == {0, 1}
        p = 0.4 / np.arange(1.0, 501) ** tail
        score = (x.sum(0) - len(x) * p) / np.sqrt(len(x) * p * (1 - p))
        assert np.abs(score[: 100 if tail == 2 else 500]).max() < 6
        assert np.square(score).mean() == pytest.approx(1, abs=0.3)
        together = np.corrcoef(x[:, 0], x[:, 1])[0, 1]
        assert abs(together) < 6 / np.sqrt(len(x))


def test_labels_follow_the_teacher() -> None:
    """Its weights are those of greatest likelihood, within what the information allows."""
    workload = RareFeatures(name="r", **FEW)
    split = workload.arrays()["train"]
    x, y = split["inputs"].astype(np.float64), split["label"].astype(np.float64)
    found = minimize(lambda w: -log_expit(y * (x @ w)).mean(), np.zeros(8)).x
    p = expit(x @ found)
    information = x.T @ (x * (p * (1 - p))[:, None])
    off = found - workload.teacher
    assert off @ information @ off < 30  # chi-squared of 8: exceeded by 2 in 10,000
    assert np.abs(workload.teacher).max() > 0.5


def test_the_least_error_is_that_of_the_teacher() -> None:
    """By all 2⁸ examples that there can be, with their probabilities."""
    workload = RareFeatures(name="r", **FEW)
    every = np.array(list(np.ndindex(*(2,) * 8)))
    p = 0.5 / np.sqrt(np.arange(1.0, 9))
    probability = np.where(every, p, 1 - p).prod(1)
    positive = expit(every @ workload.teacher)
    exact = probability @ np.minimum(positive, 1 - positive)
    for split in ("train", "test"):
        assert workload.least_error(split) == pytest.approx(exact, abs=0.01)
    test = workload.arrays()["test"]
    errs = (test["inputs"] @ workload.teacher > 0) != (test["label"] > 0)
    assert errs.mean() == pytest.approx(exact, abs=0.03)


def test_seeds_draw_their_own() -> None:
    first, again, other = (RareFeatures(name="r", data_seed=seed).arrays() for seed in (0, 0, 1))
    for name in ("inputs", "label"):
        assert np.array_equal(first["test"][name], again["test"][name])
        assert not np.array_equal(first["test"][name], other["test"][name])
        assert not np.array_equal(first["test"][name], first["train"][name][:5000])
    common = first["test"]["inputs"][:, 0], first["train"]["inputs"][:5000, 0]
    assert abs(np.corrcoef(*common)[0, 1]) < 6 / np.sqrt(5000)  # nor shifted copies


def test_keeps_the_contract() -> None:
    workload = RareFeatures(name="r")
    workload.check()
    assert [workload.size(split) for split in ("train", "val", "test")] == [10_000, 2000, 5000]
    loaded(workload, EXACT)
    model = drawn(workload, 0).double()
    check_contract(workload, model, 0)
    batch = workload.batch(slice(50))
    x, y = (batch[name].numpy() for name in ("inputs", "label"))
    w = np.linspace(-1, 1, 500)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(w), model.parameters())
    output = workload.call(model, batch)
    assert np.allclose(
        workload.losses(output, batch).detach().numpy(), -log_expit(y * (x @ w)), rtol=1e-12
    )
    assert workload.totals(output, batch)["error"] == ((x @ w) * y < 0).sum()
    forget()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("workload.most_common=1.5", "most_common"),
        ("workload.features=0", "features"),
        ("workload.val_size=12000", "must leave training samples"),
        ("workload.batch_size=10001", "at most the 10000"),
    ],
)
def test_wrong_values_are_a_line(shell: Shell, said: str, expected: str) -> None:
    status, output = shell("workload=rare_features", said)
    assert status != 0
    assert expected in output
    assert len(output.strip().splitlines()) == 1
    assert not Path("runs").exists()
