"""What a step costs, and the laws that are fitted to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import second_order
from bench.errors import BenchError
from bench.landscape import costs
from bench.landscape.costs import Cost, Law


def test_a_law_is_the_least_squares_fit_with_its_error() -> None:
    x = np.array([100, 200, 500, 1000, 3000])
    y = 3e-9 * x**2.5 * np.exp(np.random.default_rng(0).normal(0, 0.1, 5))
    law = Law.of(x.tolist(), y)
    (slope, level), covariance = np.polyfit(np.log(x), np.log(y), 1, cov="unscaled")
    left = np.log(y) - slope * np.log(x) - level
    assert law.exponent == pytest.approx(slope)
    assert law.error == pytest.approx(np.sqrt(covariance[0, 0] * (left @ left) / 3))
    assert law.at(1e6) == pytest.approx(np.exp(level) * 1e6**slope)
    assert (law.first, law.last) == (100, 3000)


@pytest.mark.slow
def test_a_matrix_of_newtons_is_in_its_memory() -> None:
    """From a process in which nothing was freed before."""
    code = "from bench.landscape.costs import cost\nc = cost('newton', 2000)\n"
    code += "print(c.memory, c.seconds)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    memory, seconds = map(float, done.stdout.split())
    assert memory > 2000**2 * 8
    assert 0 < seconds < 60


def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_measure", lambda *_: None)
    with pytest.raises(BenchError, match="newton on 10 parameters ended with status 0"):
        costs.cost("newton", 10)


def test_what_is_extrapolated_is_called_so(tmp_path: Path) -> None:
    made = [Cost("newton", p, 1e-9 * p**3, 16 * p**2) for p in (1000, 2000, 5000)]
    made += [Cost("adam", p, 1e-8 * p, 32 * p) for p in (100_000, 500_000, 1_000_000)]
    newton, adam = second_order.write(made, tmp_path)
    assert "power 3.00 ± 0.00" in newton
    assert newton.endswith(
        "Extrapolated to 1,000,000, 200 times as many as were measured, a step would take "
        "31.7 years and 16 TB."
    )
    assert adam == "adam: at 1,000,000 parameters a step takes 10 ms and 32 MB (measured)."
    assert "Extrapolated" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "second_order.csv").read_text().count("\n") == 7
    assert (tmp_path / "second_order.svg").stat().st_size > 5000
