"""`python -m bench.gradcheck` agrees with a right gradient and not with a wrong one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor

from bench import gradcheck
from bench.command_line import CONF
from bench.training import step

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
    right = step.penalised
    monkeypatch.setattr(step, "penalised", lambda *a: Wrong.apply(right(*a)))
    check = gradcheck.check("mnist_logistic")
    assert not check.agrees
    assert not check.passed
    assert check.error > 1e-3


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    GlobalHydra.instance().clear()
    monkeypatch.setattr("sys.argv", ["gradcheck", *arguments])
    monkeypatch.setattr("sys.path", list(sys.path))
    return gradcheck.main()


def test_only_what_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "--workload", "mnist_logistic") == 0
    said, _ = capsys.readouterr()
    assert "mnist_logistic" in said
    assert "agrees" in said
    assert "mnist_mlp" not in said


def test_the_figure_and_the_sentence_are_of_the_table(tmp_path: Path) -> None:
    checks = [
        gradcheck.Check("small", 10, True, 1e-9, 1e-3, 1e-3),
        gradcheck.Check("large", 100_000, True, 1e-7, 1e-2, 1e-2),
    ]
    assert gradcheck.conclusion(checks) == (
        "A numeric gradient would take 10 to 1e+05 times as long as an analytic one, 16.7 minutes "
        "at 100,000 parameters (large), for entries, 100 drawn of each, that differ by at most "
        "1.0e-07 of the largest: numeric to check, analytic to train."
    )
    gradcheck.save_figure(checks, tmp_path / "new/gradients.svg")
    values = (tmp_path / "new/gradients.csv").read_text().splitlines()
    assert values[0].startswith("workload,parameters,agrees,error")
    assert values[2] == "large,100000,True,1e-07,0.01,0.01"
    assert (tmp_path / "new/gradients.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("argument", "status", "said"),
    [("--help", 0, "--workload NAME"), ("--workload=mnist", 2, "invalid choice: 'mnist'")],
)
def test_what_is_computed_waits_until_it_is_asked_for(
    argument: str, status: int, said: str
) -> None:
    code = (
        "import sys, bench.gradcheck\n"
        "try: bench.gradcheck.main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, argument], capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
