"""`python -m bench.gradcheck` agrees with a right gradient and not with a wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hydra import initialize_config_dir
from torch import Tensor

from bench import gradcheck
from bench.command_line import CONF

pytestmark = pytest.mark.usefixtures("fake_data")


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.parametrize("workload", ["mnist_logistic", "mnist_mlp"])
def test_right(workload: str) -> None:
    check = gradcheck.check(workload)
    assert check.passed
    assert check.error < 1e-7


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 1.01 * gradient


def test_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gradcheck.penalised
    monkeypatch.setattr(gradcheck, "penalised", lambda *a: Wrong.apply(right(*a)))
    check = gradcheck.check("mnist_logistic")
    assert not check.agrees
    assert not check.passed
    assert check.error > 1e-3
