"""Wilson et al.'s construction: what descent and adaptive methods make of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.workloads import Wilson
from bench.workloads.models import check_contract, drawn, forget, loaded
from bench.workloads.workload import Place

Shell = Callable[..., tuple[int, str]]
EXACT = Place(torch.device("cpu"), torch.float64)


def test_features_are_the_papers() -> None:
    workload = Wilson(name="w", examples=5, positive=3)
    arrays = workload.arrays()
    x, label = arrays["train"]["inputs"], arrays["train"]["label"]
    assert label.tolist() == [1, 1, 1, -1, -1]
    assert (x[:, 0] == label).all()
    assert (x[:, 1:3] == 1).all()
    assert x[:, 3:].sum(1).tolist() == [1, 1, 1, 5, 5]
    every = np.concatenate([split["inputs"] for split in arrays.values()])
    assert every[:, 3:].sum(0).max() == 1  # nobody's is another's


def test_keeps_the_contract() -> None:
    workload = loaded(Wilson(name="w"), EXACT)
    workload.check()
    check_contract(workload, drawn(workload, 0).double(), 0)
    forget()
    with pytest.raises(BenchError, match=r"workload\.positive=40: must be less than the 40"):
        Wilson(name="w", positive=40).check()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["optimizer=sgd", "optimizer.lr=0.1"], 0.0),
        (["optimizer=adagrad", "optimizer.lr=0.1", "optimizer.eps=0"], 0.3),
        (["optimizer=rmsprop", "optimizer.lr=1e-3", "optimizer.eps=0"], 0.3),
        (["optimizer=adam", "optimizer.lr=1e-3", "optimizer.eps=0"], 0.3),
    ],
    ids=lambda given: str(given[0]) if isinstance(given, list) else "",
)
def test_adaptive_methods_are_wrong_of_every_negative_example(
    shell: Shell, options: list[str], error: float
) -> None:
    """12 of 40."""
    usual = ["workload=wilson", "trainer.precision=64-true", "trainer.max_steps=1000"]
    often = ["trainer.evaluations=5"]
    status, said = shell(*usual, *often, *options)
    assert status == 0, said
    (path,) = Path("runs").glob("*/*/*/*/record.json")
    metrics = json.loads(path.read_text())["metrics"]
    assert metrics["train/loss"] < 1e-3  # both have learned what they were shown
    assert metrics["test/error"] == pytest.approx(error)
