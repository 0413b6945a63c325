"""Maps against the single runs that they stand for, and basins against a flow followed by SciPy."""

import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from scipy.integrate import solve_ivp

from bench import maps as command
from bench.command_line import CONF
from bench.landscape import maps
from bench.landscape.axes import DIVERGED, NOT_REACHED, Axis, around
from bench.settings.schema import validate
from bench.training import Run
from bench.workloads import Himmelblau
from bench.workloads.models import forget


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget()


def config_of(*overrides: str) -> dict[str, Any]:
    usual = ["trainer.enable_progress_bar=false", "trainer.max_epochs=null"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return validate(compose("config", [*usual, *overrides]))


def value_alone(place: Path, *overrides: str) -> tuple[str, float | None]:
    place.mkdir()
    (record,) = Run([config_of(*overrides)], [place]).train()
    return record.status, record.metrics.get("test/value")


NOISY = ["workload.sigma=0.3", "schedule=cosine", "workload.steps=30", "seed=3"]


@pytest.mark.parametrize("more", [["optimizer=adam"], ["optimizer=nesterov", *NOISY]])
def test_a_map_over_starts_has_the_values_of_single_runs(tmp_path: Path, more: list[str]) -> None:
    said = ["workload=himmelblau", "optimizer.lr=0.01", "trainer.max_steps=70", *more]
    axes = Axis.of("x", -3, 2, 2), Axis.of("y", -1, 4, 2)
    made = maps.make(config_of(*said), axes)
    assert (made.steps, made.value.shape) == (70, (2, 2))
    for row, column in ((0, 0), (0, 1), (1, 0)):
        start = f"workload.start=[{axes[0].values[column]},{axes[1].values[row]}]"
        status, value = value_alone(tmp_path / f"{row}{column}", *said, start)
        assert status == "completed"
        assert made.value[row, column] == pytest.approx(value, rel=2e-4)
    assert len(np.unique(made.value)) == 4


def test_a_map_over_hyperparameters_too_and_what_diverges(tmp_path: Path) -> None:
    said = ["workload=rosenbrock", "optimizer=momentum", "trainer.max_steps=50"]
    axes = Axis.of("lr", 1e-4, 1e-1, 2), Axis.of("momentum", 0, 0.9, 2)
    made = maps.make(config_of(*said), axes)
    for row, momentum in enumerate((0, 0.9)):
        for column, lr in enumerate((1e-4, 1e-1)):
            here = [f"optimizer.lr={lr}", f"optimizer.momentum={momentum}"]
            status, value = value_alone(tmp_path / f"{row}{column}", *said, *here)
            if status == "diverged":
                assert np.isnan(made.value[row, column])
            else:
                assert made.value[row, column] == pytest.approx(value, rel=1e-4)
    assert made.minimum is not None
    assert made.minimum.tolist() == [[NOT_REACHED, DIVERGED]] * 2


def test_who_starts_near_a_minimum_ends_in_it() -> None:
    said = ["workload=himmelblau", "optimizer=adam", "optimizer.lr=0.02", "trainer.max_steps=300"]
    for number, (x, y) in enumerate(Himmelblau(name="f").minima()):
        axes = Axis.of("x", x - 0.3, x + 0.3, 5), Axis.of("y", y - 0.3, y + 0.3, 5)
        made = maps.make(config_of(*said), axes)
        assert made.minimum is not None
        assert (made.minimum == number).all()
        assert np.allclose(made.points, (x, y), atol=1e-2)


def test_basins_of_small_steps_are_those_of_the_gradients_flow() -> None:
    """Followed by SciPy from the same starts."""

    def away(_: float, p: Any) -> list[float]:
        (x, y) = p
        a, b = x * x + y - 11, x + y * y - 7
        return [-(4 * a * x + 2 * b), -(2 * a + 4 * b * y)]

    said = ["workload=himmelblau", "optimizer=sgd", "optimizer.lr=1e-3", "trainer.max_steps=2000"]
    axes = Axis.of("x", -5, 5, 8), Axis.of("y", -5, 5, 8)
    made = maps.make(config_of(*said), axes)
    expected = [
        [solve_ivp(away, (0, 5), (x, y), rtol=1e-8).y[:, -1] for x in axes[0].values]
        for y in axes[1].values
    ]
    assert made.minimum is not None
    assert {*made.minimum.ravel()} == {0, 1, 2, 3}
    assert np.allclose(made.points, expected, atol=0.02)
    assert np.allclose(made.minima[made.minimum], made.points, atol=0.02)


# --- the command ----------------------------------------------------------------------------


def test_it_leaves_figures_and_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ["workload=himmelblau", "--grid", "6", "optimizer.lr=0.1", "--x", "-4", "4"]
    assert command.main([*said, "--steps", "200"]) == 0
    output = capsys.readouterr().out
    assert "36 runs of 200 steps: 7,200 in" in output
    place = Path(output.rpartition("map      ")[2].strip())
    assert place.parts[:4] == ("runs", "maps", "himmelblau", "adam")
    for name in ("value", "minimum"):
        assert (place / f"{name}.png").stat().st_size > 5000
        assert "</svg>" in (place / f"{name}.svg").read_text()
    kept = np.load(place / "map.npz")
    assert kept["x"].tolist() == pytest.approx(np.linspace(-4, 4, 6))
    assert kept["value"].shape == kept["minimum"].shape == (6, 6)
    counts = dict(re.findall(r"reached \((\S+), \S+\): (\d+)", output))
    assert sum(map(int, counts.values())) == (kept["minimum"] >= 0).sum() > 30
    assert not list(tmp_path.rglob("record.json"))


def test_over_two_hyperparameters_where_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = ["--over", "beta1", "0", "0.99", "--over", "beta2", "0.9", "0.999"]
    where = ["--output", str(tmp_path / "betas"), "--grid", "3", "--steps", "5"]
    said = ["workload=quadratic", "workload.dimension=4", "optimizer=adam", *over, *where]
    assert command.main(said) == 0
    assert f"map      {tmp_path / 'betas'}" in capsys.readouterr().out
    kept = np.load(tmp_path / "betas" / "map.npz")
    assert kept["beta1"].tolist() == pytest.approx([0, 0.9, 0.99])
    assert kept["beta2"].tolist() == pytest.approx([0.9, 0.99, 0.999])
    assert kept["points"].shape == (3, 3, 4)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (["workload=mnist_mlp"], "workload=mnist_mlp: is no function of a point"),
        (["workload=himmelblu"], "workload=himmelblu: no such choice"),
        (["workload=quadratic"], "workload=quadratic: has 10 dimensions"),
        (["workload=ravine", "optimizer.lr=-1"], "lr=-1.* is not accepted"),
        (["workload=ravine", "optimizer.momentum=0.9"], "optimizer.momentum"),
        (["workload=ravine", "trainer.max_steps=9"], "trainer.max_steps=9: not of a map"),
        (["workload=ravine", "--grid", "1"], "--grid 1: must be from 2"),
        (["workload=ravine", "--steps", "0"], "--steps 0: must be at least 1"),
        (["workload=ravine", "--x", "3", "1"], "x from 3 to 1: must be finite"),
        (["workload=ravine", "--over", "lr", "1e-3", "1"], "--over: given 1 times"),
        (["workload=ravine", *["--over", "lr", "1e-3", "1"] * 2], "--over lr: given twice"),
        (
            ["workload=ravine", "--over", "lr", "1e-3", "a", "--over", "beta1", "0", "0.9"],
            "--over: could not convert string to float",
        ),
        (
            ["workload=ravine", "--over", "lr", "1e-3", "1", "--over", "momentum", "0", "0.9"],
            "--over momentum: no number of optimizer=adam; it has lr, ",
        ),
        (
            ["workload=ravine", "--over", "lr", "1e-3", "1", "--over", "beta1", "0", "1"],
            "beta1 up to 1: must be below 1",
        ),
        (
            ["workload=ravine", "--over", "lr", "-1", "1", "--over", "beta1", "0", "0.9"],
            "lr=-1.0 is not accepted",
        ),
        (
            ["workload=ravine", "optimizer=custom", "optimizer._target_=torch.optim.NAdam"],
            "has no rule of ours to stack",
        ),
    ],
    ids=lambda said: said if isinstance(said, str) else None,
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main([*said]) == 1
    output = capsys.readouterr()
    assert re.search(line, output.err)
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert list(tmp_path.iterdir()) == []


def test_help_comes_without_torch() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from bench import maps\n"
        "try: maps.main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--over NAME LOW HIGH" in said.stdout


def test_scales_are_even_where_they_are_drawn() -> None:
    for axis in (Axis.of("lr", 1e-3, 1, 7), Axis.of("beta2", 0, 0.999, 7), Axis.of("x", -2, 3, 7)):
        gaps = np.diff(axis.place(axis.values))
        assert gaps == pytest.approx(np.full(6, gaps[0]))


def test_a_square_has_room_around_what_is_in_it() -> None:
    (left, right), (bottom, top) = around(np.array([[0.0, 0.0], [10.0, 2.0]]))
    assert right - left == pytest.approx(top - bottom)
    assert left < 0 < 10 < right
    assert bottom < 0 < 2 < top


@pytest.mark.slow
def test_two_million_steps_in_time(tmp_path: Path) -> None:
    """4,096 starts and 500 steps of Adam: a million steps a second, and all in 20 s; of processor
    time, since other tests may have the cores meanwhile."""
    said = ["workload=himmelblau", "optimizer=adam", "optimizer.lr=0.1"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "bench.maps", *said, "--output", str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "4,096 runs of 500 steps: 2,048,000 in" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20
    config = config_of(*said, "trainer.max_steps=500")
    axes = Axis.of("x", -6, 6, 64), Axis.of("y", -6, 6, 64)
    seconds = []
    for _ in range(3):
        began = time.process_time()
        maps.make(config, axes)
        seconds.append(time.process_time() - began)
    assert 4096 * 500 / min(seconds) >= 1e6
