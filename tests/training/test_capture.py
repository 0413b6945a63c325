"""Captured steps on a CPU, by a stand-in that has a CUDA graph's semantics.

Operators are recorded with the memory and the numbers that they had, undone, and carried out again
on the same memory: a number that Python should have changed in between, or a tensor that has moved,
gives another result than steps taken one by one.
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from bench.command_line import CONF
from bench.records import Record
from bench.settings.identity import digest
from bench.settings.schema import validate
from bench.training import Run
from bench.training.capture import WARM_UP, CapturedStep
from bench.training.module import TrainingModule
from bench.training.step import Step
from bench.training.tracing import Tracer
from optimizers.paths import choose
from optimizers.paths.eager import Eager
from tests.conftest import classifier

pytestmark = pytest.mark.usefixtures("fake_data")

SMALL = ["workload.val_size=1000", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]
STEPS_AN_EPOCH, OF_FULL_SIZE = 40, 39


class RecordedOperators(TorchDispatchMode):
    """In the place of `CudaGraph`."""

    replays = 0

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def warm_up(self) -> Any:
        return nullcontext()

    @contextmanager
    def record(self) -> Iterator[None]:
        self.originals: list[tuple[Tensor, Tensor]] = []
        with self:
            yield
        with torch.no_grad():
            for tensor, value in reversed(self.originals):
                tensor.copy_(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert func is not torch.ops.aten._local_scalar_dense.default, "waits for the device"
        if func._schema.is_mutable:
            self.originals.append((args[0], args[0].clone()))
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        type(self).replays += 1
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            if any(result.alias_info for result in func._schema.returns):
                continue  # written in place, or a view
            for old, new in zip(pytree.tree_leaves(out), pytree.tree_leaves(again), strict=True):
                if isinstance(old, Tensor):
                    old.copy_(new)


@pytest.fixture(autouse=True)
def as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Data and coefficients lie in device memory, and PyTorch's operators do all the rest."""

    def eager(path: str, *arguments: Any) -> Eager:
        made = choose("eager", *arguments)
        assert isinstance(made, Eager)
        made.on_host = False
        return made

    monkeypatch.setattr("optimizers.grouping.choose", eager)
    monkeypatch.setattr("bench.kernels.gather.kernel", lambda: None)
    monkeypatch.setattr("bench.kernels.dense.kernel", lambda: None)
    monkeypatch.setattr("bench.kernels.stacked.kernel", lambda: None)
    monkeypatch.setattr(Tracer, "kept", WeakKeyDictionary())  # may hold what the kernel makes
    monkeypatch.setattr("bench.training.capture.CudaGraph", RecordedOperators)
    monkeypatch.setattr(RecordedOperators, "replays", 0)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


Train = Callable[..., list[tuple[Record, list[dict[str, str]]]]]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """The records and curves of runs made together, captured or not."""

    def made(*runs: list[str], captured: bool) -> list[tuple[Record, list[dict[str, str]]]]:
        monkeypatch.setattr(
            TrainingModule,
            "can_capture",
            lambda module, step: captured and step.capturable and not module.diagnostics,
        )
        configs = [validate(compose("config", [*SMALL, *overrides])) for overrides in runs]
        directories = [tmp_path / str(captured) / digest(config) for config in configs]
        for directory in directories:
            directory.mkdir(parents=True)
        records = Run(configs, directories).train()
        curves = []
        for directory in directories:
            with open(directory / "metrics.csv", newline="") as file:
                rows = csv.DictReader(file)
                curves.append([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
        return list(zip(records, curves, strict=True))

    return made


def assert_same(train: Train, *runs: list[str]) -> None:
    for (one, curve), (other, captured) in zip(
        train(*runs, captured=False), train(*runs, captured=True), strict=True
    ):
        assert (one.status, one.steps, one.metrics) == (other.status, other.steps, other.metrics)
        assert curve == captured


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=adam", "schedule=cosine", "schedule.warmup_steps=10"],
        ["optimizer=momentum", "optimizer.clip_norm=0.1", "optimizer.weight_decay=0.01"],
        ["optimizer=nesterov", "workload.l2=0.001", "workload.label_smoothing=0.1"],
        ["optimizer=radam", "trainer.precision=64-true", "trainer.ema_decay=0.9"],
        ["optimizer=muon", "optimizer.clip_norm=0.1", "schedule=cosine"],
        pytest.param(
            ["optimizer=adamw", "workload=cifar10_cnn", "trainer.max_epochs=1"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=" ".join,
)
def test_a_run_alone(train: Train, overrides: list[str]) -> None:
    assert_same(train, overrides)
    epochs = 1 if "trainer.max_epochs=1" in overrides else 2
    assert RecordedOperators.replays == epochs * OF_FULL_SIZE - WARM_UP


def test_a_full_batch(train: Train) -> None:
    assert_same(train, ["workload.batch_size=full", "trainer.max_epochs=8"])
    assert RecordedOperators.replays == 8 - WARM_UP


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("muon", marks=pytest.mark.slow)])
def test_a_stack(train: Train, optimizer: str) -> None:
    runs = [
        [f"optimizer={optimizer}", f"optimizer.lr={lr}", f"seed={seed}", "schedule=linear"]
        for lr in (1e-3, 1e-2)
        for seed in (0, 1)
    ]
    assert_same(train, *runs)
    assert RecordedOperators.replays == 2 * OF_FULL_SIZE - WARM_UP


def test_a_stack_that_loses_a_run_is_captured_again(train: Train) -> None:
    runs = [["optimizer=sgd", f"optimizer.lr={lr}"] for lr in ("1e-3", "1e20", "1e-2")]
    assert_same(train, *runs)
    assert RecordedOperators.replays == 2 * OF_FULL_SIZE - 2 * WARM_UP


def test_a_foreign_optimizer_is_not_captured(train: Train) -> None:
    overrides = ["optimizer=custom", "optimizer._target_=torch.optim.SGD", "optimizer.lr=0.1"]
    assert_same(train, [*overrides, "optimizer.name=torch.optim.SGD"])
    assert RecordedOperators.replays == 0


def test_a_capture_that_fails_leaves_the_usual_way(
    train: Train, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def refuse(self: RecordedOperators) -> Iterator[None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")
        yield

    monkeypatch.setattr(RecordedOperators, "record", refuse)
    assert_same(train, ["optimizer=adam"])
    assert RecordedOperators.replays == 0
    (line,) = {message for message in caplog.messages if "CUDA graph" in message}
    assert line.endswith("operation not permitted when stream is capturing")


@pytest.mark.parametrize(
    ("changes", "captured"),
    [
        ({}, True),
        ({"device": torch.device("cpu")}, False),
        ({"options": {"cuda_graph": "never"}}, False),
        ({"plan": SimpleNamespace(by_lightning=True)}, False),
        ({"trainer": SimpleNamespace(precision="bf16-mixed")}, False),
        ({"workload": classifier({"family": "mlp", "dropout": 0.1})}, False),
        ({"diagnostics": True}, False),
    ],
)
def test_what_is_captured(
    changes: dict[str, Any], captured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = SimpleNamespace(
        device=torch.device("cuda"),
        options={"cuda_graph": "auto"},
        plan=SimpleNamespace(by_lightning=False),
        trainer=SimpleNamespace(precision="32-true"),
        workload=classifier({"family": "mlp"}),
        diagnostics=False,
    )
    vars(module).update(changes)
    monkeypatch.undo()
    assert TrainingModule.can_capture(module, Step()) is captured


def test_a_frozen_number_would_be_noticed() -> None:
    """That the stand-in can fail: a step that reads a Python number repeats the first one."""
    p, scale = torch.zeros(1), 0.0

    def compute(indices: Tensor) -> Tensor:
        p.add_(scale)
        return p.clone()

    def prepare() -> None:
        nonlocal scale
        scale += 1.0

    captured = CapturedStep(compute, lambda: None)
    losses = [float(captured.step(torch.zeros(1, 1), prepare)) for _ in range(6)]
    assert losses == [0, 1, 3, 6, 9, 12]  # not 10, 15
