"""The way that a run keeps, against loops that have nothing of ours; what an end makes of it."""

import signal
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from scipy.optimize import rosen_der

from bench import interruption, runs
from bench.command_line import CONF
from bench.errors import BenchError
from bench.interruption import Interrupted
from bench.landscape import trajectory
from bench.records import Record
from bench.settings.identity import run_directory
from bench.settings.jobs import Job
from bench.settings.schema import validate
from bench.training import Run
from bench.training.solo import SoloModule
from bench.training.stack import StackModule
from bench.workloads import Ravine
from bench.workloads.models import check_contract, drawn, forget, loaded
from bench.workloads.workload import Place
from tests.conftest import config_names

USUAL = ["trainer.enable_progress_bar=false", "workload=rosenbrock", "trainer.max_steps=120"]


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    forget()
    interruption.forget()


def config_of(*overrides: str) -> dict[str, Any]:
    return validate(compose("config", [*USUAL, *overrides]))


def train(place: Path, *runs: Sequence[str]) -> list[tuple[Record, np.ndarray[Any, Any] | None]]:
    """Alone, or several as a stack; each with its way."""
    configs = [config_of(*overrides) for overrides in runs]
    directories = [place / str(n) for n in range(len(runs))]
    for directory in directories:
        directory.mkdir(parents=True)
    records = Run(configs, directories).train()
    kept = [(d / trajectory.FILE_NAME).exists() for d in directories]
    return [
        (record, trajectory.read(directory) if there else None)
        for record, directory, there in zip(records, directories, kept, strict=True)
    ]


def descent(x: Any, steps: int, lr: float) -> Any:
    yield x
    for _ in range(steps):
        x = x - lr * rosen_der(x)
        yield x


def heavy_ball(x: Any, steps: int, lr: float) -> Any:
    v = 0 * x
    yield x
    for _ in range(steps):
        v = 0.9 * v - lr * rosen_der(x)
        x = x + v
        yield x


def adam(x: Any, steps: int, lr: float) -> Any:
    m, s = 0 * x, 0 * x
    yield x
    for t in range(1, steps + 1):
        g = rosen_der(x)
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        x = x - lr * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        yield x


@pytest.mark.parametrize(
    ("name", "loop", "lr"),
    [("sgd", descent, 1e-3), ("momentum", heavy_ball, 2e-4), ("adam", adam, 0.05)],
)
def test_it_is_the_way_of_a_plain_loop(
    tmp_path: Path, name: str, loop: Callable[..., Any], lr: float
) -> None:
    """Computed in float64, kept in float32: its rounding is all that may differ."""
    said = [f"optimizer={name}", f"optimizer.lr={lr}", "trainer.precision=64-true"]
    ((record, way),) = train(tmp_path, said)
    assert record.steps == 120
    expected = np.array([*loop(np.array([-1.2, 1.0]), 120, lr)])
    assert way is not None
    assert np.abs(expected - expected[0]).max() > 0.1  # it goes somewhere
    assert way.shape == (121, 2)
    assert np.allclose(way, expected, rtol=2e-7, atol=1e-7)


COMMON = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in COMMON else pytest.mark.slow)
        for name in config_names("optimizer")
    ],
)
def test_alone_as_in_a_stack(tmp_path: Path, name: str) -> None:
    usual = ["workload=ravine", f"optimizer={name}", "trainer.max_steps=60"]
    cases = [[*usual, f"optimizer.lr={lr}"] for lr in (1e-3, 1e-1)]
    together = train(tmp_path / "stack", *cases)
    for n, case in enumerate(cases):
        ((_, alone),) = train(tmp_path / f"alone{n}", case)
        way = together[n][1]
        assert alone is not None
        assert way is not None
        assert way.shape == (61, 2)
        assert np.allclose(way, alone, rtol=1e-5, atol=1e-5)
        assert len(np.unique(way, axis=0)) > 50


def test_what_diverged_keeps_the_steps_that_it_took(tmp_path: Path) -> None:
    """In a stack that shrinks, too, and which a seed fills up."""
    rates = [(lr, seed) for lr in (1e-4, 0.01, 0.1) for seed in (0, 1)][:-1]
    cases = [["optimizer=sgd", f"optimizer.lr={lr}", f"seed={seed}"] for lr, seed in rates]
    for (lr, _), (record, way) in zip(rates, train(tmp_path, *cases), strict=True):
        assert way is not None
        assert len(way) == record.steps + 1
        assert (record.status == "completed") is (lr == 1e-4)
        assert np.isfinite(way[-1]).all() == (record.status == "completed")
        assert np.isfinite(way[0]).all()


class Ending:
    """Asks a training to end after so many steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.step: int | None = None
        for kind in (SoloModule, StackModule):
            monkeypatch.setattr(kind, "take_step", self.after(kind.take_step))

    def after(self, take: Callable[..., Any]) -> Callable[..., Any]:
        def taken(module: Any, indices: Any, step: int) -> Any:
            losses = take(module, indices, step)
            if step + 1 == self.step:
                interruption.ask(signal.SIGUSR1)
            return losses

        return taken


def planned(place: Path, *overrides: str) -> Job:
    config = deepcopy(config_of(*overrides)) | {"runs_dir": str(place)}
    directory = run_directory(config, config_of())
    return Job(config=config, hydra={}, overrides=overrides, directory=directory)


def test_what_goes_on_keeps_the_whole_way_bitwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone and in a stack of which one has diverged by then."""
    ending = Ending(monkeypatch)
    for rates in (["1e-4"], ["1e-4", "1e-3", "0.1"]):
        tasks = [
            [planned(tmp_path / f"{part}{len(rates)}", "optimizer=sgd", f"optimizer.lr={lr}",
                     "workload.sigma=0.1") for lr in rates]
            for part in ("whole", "parts")
        ]  # fmt: skip
        runs.run(tasks[0])
        for step in (30, 71):
            ending.step = step
            with pytest.raises(Interrupted):
                runs.run(tasks[1])
            interruption.forget()
        ending.step = None
        for record, one, other in zip(runs.run(tasks[1]), *tasks, strict=True):
            whole, parts = (job.directory / trajectory.FILE_NAME for job in (one, other))
            assert whole.read_bytes() == parts.read_bytes()
            assert len(trajectory.read(other.directory)) == record.steps + 1


def test_a_longer_run_keeps_the_way_of_the_shorter_one(tmp_path: Path) -> None:
    for part, lengths in (("whole", [90]), ("parts", [40, 90])):
        for steps in lengths:
            job = planned(tmp_path / part, f"trainer.max_steps={steps}", "trainer.resume=true")
            (record,) = runs.run([job])
    assert record.timing["resumed_at_step"] == 40
    one, other = sorted(tmp_path.glob("*/*/*/*/*max_steps=90*/trajectory.npy"))
    assert one.read_bytes() == other.read_bytes()


def test_what_would_be_too_long_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bench.training.ways.MOST", 241)
    caplog.set_level("INFO")
    ((_, way),) = train(tmp_path, [])
    assert way is None
    assert "no trajectory.npy is kept: its 242 numbers are more than 241" in caplog.text


@pytest.mark.usefixtures("fake_data")
def test_a_run_on_images_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SoloModule, "whereabouts", lambda _: pytest.fail("it costs something"))
    said = ["workload=mnist_logistic", "workload.val_size=1000", "trainer.max_steps=3"]
    ((record, way),) = train(tmp_path, said)
    assert (record.steps, way) == (3, None)


def test_a_way_of_no_parameter_is_refused() -> None:
    class Wrong(Ravine):
        way = "weight"

    workload = loaded(Wrong(name="wrong"), Place(torch.device("cpu"), torch.float32))
    with pytest.raises(BenchError, match=r"way names weight, which is none of .*at"):
        check_contract(workload, drawn(workload, 0), 0)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x10\x00{'a': 1}       \n"]
)
def test_what_is_no_way_is_said_in_a_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / trajectory.FILE_NAME).write_bytes(content)
    with pytest.raises(BenchError, match=r"not an array of numbers|not float32"):
        trajectory.read(tmp_path)
    np.save(tmp_path / trajectory.FILE_NAME, np.zeros((3, 2)))
    with pytest.raises(BenchError, match="not float32"):
        trajectory.read(tmp_path)
    np.save(tmp_path / trajectory.FILE_NAME, np.array([{}]), allow_pickle=True)
    with pytest.raises(BenchError, match="not an array of numbers"):
        trajectory.read(tmp_path)
