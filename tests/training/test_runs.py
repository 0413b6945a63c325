"""One run, on small made-up data: what it leaves, and that it can be repeated exactly."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench import records
from bench.records import Record

pytestmark = pytest.mark.usefixtures("fake_data")

Shell = Callable[..., tuple[int, str]]
SMALL = ["workload.val_size=1000", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]


@pytest.fixture
def train(shell: Shell, tmp_path: Path) -> Callable[..., tuple[Path, Record]]:
    """Makes one run in a study of its own; its directory and record."""
    studies = iter(range(100))

    def run(*arguments: str, status: int = 0) -> tuple[Path, Record]:
        study = f"s{next(studies)}"
        code, output = shell(f"study={study}", *SMALL, *arguments)
        assert code == status, output
        (path,) = tmp_path.glob(f"runs/{study}/*/*/*/record.json")
        return path.parent, records.read(path)

    return run


Train = Callable[..., tuple[Path, Record]]


def curves(directory: Path) -> list[dict[str, str]]:
    """metrics.csv without its times."""
    with open(directory / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_run_leaves_what_it_should(train: Train) -> None:
    directory, record = train("optimizer.lr=0.01", "diagnostics=true")
    assert {path.name for path in directory.iterdir()} - {
        path.name for path in directory.glob("events.out.tfevents.*")
    } == {".hydra", "checkpoints", "metrics.csv", "record.json", "run.log"}
    assert (directory / "checkpoints" / "last.ckpt").exists()
    assert "max_epochs=2" in (directory / "run.log").read_text()
    assert {path.name for path in (directory / ".hydra").iterdir()} == {
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    }
    assert record.status == "completed"
    assert (record.steps, record.epochs) == (80, 2.0)  # 5000 samples in batches of 128, twice
    assert record.hyperparameters["lr"] == 0.01
    assert record.config["optimizer"]["lr"] == 0.01
    assert 0.9 < record.metrics["val/accuracy"] <= 1  # type: ignore[operator]
    assert record.best["val/accuracy"] >= record.metrics["val/accuracy"]  # type: ignore[operator]
    assert record.target["step"] in (40, 80)
    rows = curves(directory)
    assert [row["step"] for row in rows if row["train/loss"]] == ["1", "50"]
    assert [row["step"] for row in rows if row["val/loss"]] == ["40", "80"]
    assert [row["step"] for row in rows if row["test/loss"]] == ["80"]
    assert float(rows[0]["train/loss"]) == pytest.approx(2.3, abs=0.3)  # ln 10, untrained
    assert float(rows[0]["train/grad_norm"]) > 0


def test_tensorboard_has_one_file_with_every_curve(train: Train) -> None:
    directory, record = train("diagnostics=true")
    (path,) = directory.glob("events.out.tfevents.*")
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    assert {
        "train/lr",
        "train/loss",
        "train/grad_norm",
        "train/update_norm",
        "val/loss",
        "val/accuracy",
        "test/accuracy",
        "end/best accuracy",
    } <= set(tags["scalars"])
    assert "lr" not in tags["scalars"]  # which HParams has already
    assert [event.step for event in events.Scalars("val/accuracy")] == [40, 80]
    assert events.Scalars("val/accuracy")[-1].value == pytest.approx(
        record.metrics["val/accuracy"], rel=1e-6
    )
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "hidden_sizes" in text


def test_the_same_command_gives_the_same_curves(train: Train) -> None:
    (one, _), (two, _), (other, _) = train("seed=3"), train("seed=3"), train("seed=4")
    assert curves(one) == curves(two)
    assert curves(one) != curves(other)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(["optimizer=adam", "schedule=cosine"], marks=pytest.mark.slow),
        ["optimizer=momentum", "schedule=one_cycle", "workload.drop_last=true"],
        pytest.param(
            ["workload=cifar10_cnn", "trainer.max_epochs=1", "workload.batch_size=500"],
            marks=pytest.mark.slow,
        ),
        ["workload.model.dropout=0.5"],
        ["trainer.precision=bf16-mixed"],
        pytest.param(["trainer.precision=bf16-mixed", "optimizer=muon"], marks=pytest.mark.slow),
        ["trainer.accumulate_grad_batches=3"],
        pytest.param(["trainer.val_check_interval=7"], marks=pytest.mark.slow),
        ["trainer.val_check_interval=14", "trainer.max_steps=75"],
    ],
    ids=" ".join,
)
def test_steps_in_one_execution_change_nothing(train: Train, extra: list[str]) -> None:
    (one, _), (many, _) = (train(*extra, f"trainer.steps_per_execution={n}") for n in (1, 7))
    assert curves(one) == curves(many)


def test_steps_are_exact(train: Train) -> None:
    directory, record = train("trainer.max_steps=53", "trainer.log_every_n_steps=10")
    assert record.steps == 53
    assert record.epochs == pytest.approx(53 / 40)
    rows = curves(directory)
    assert [int(row["step"]) for row in rows if row["train/loss"]] == [1, 10, 20, 30, 40, 50]
    assert [int(row["step"]) for row in rows if row["val/loss"]] == [40, 53]
    assert [int(row["step"]) for row in rows if row["test/loss"]] == [53]


def test_validation_within_an_epoch(train: Train) -> None:
    directory, _ = train("trainer.val_check_interval=15", "trainer.max_epochs=1")
    assert [int(row["step"]) for row in curves(directory) if row["val/loss"]] == [15, 30, 40]


@pytest.mark.parametrize("steps", ["auto", 1, 4])
def test_validation_is_counted_from_the_start_of_each_epoch(train: Train, steps: object) -> None:
    directory, _ = train("trainer.val_check_interval=12", f"trainer.steps_per_execution={steps}")
    validated = [int(row["step"]) for row in curves(directory) if row["val/loss"]]
    assert validated == [12, 24, 36, 52, 64, 76, 80]


@pytest.mark.parametrize(
    "extra",
    [
        ["optimizer=momentum"],
        pytest.param(
            ["optimizer=momentum", "trainer.steps_per_execution=1"], marks=pytest.mark.slow
        ),
        ["optimizer=adamw", "workload.l2=0.01", "schedule=cosine"],
        ["optimizer=sgd", "trainer.val_check_interval=4", "trainer.max_steps=11"],
        pytest.param(
            ["workload=cifar10_cnn", "workload.model.channels=[4]", "trainer.max_epochs=1"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["optimizer._target_=torch.optim.LBFGS", "optimizer.max_iter=2"], marks=pytest.mark.slow
        ),
    ],
    ids=" ".join,
)
def test_accumulated_batches_are_one_large_batch(train: Train, extra: list[str]) -> None:
    """5000 samples in batches of 200 are eight steps of three, and one."""
    exact = ["trainer.precision=64-true", "trainer.log_every_n_steps=1", *extra]
    whole, expected = train("workload.batch_size=600", *exact)
    parts, record = train("workload.batch_size=200", "trainer.accumulate_grad_batches=3", *exact)
    assert (record.steps, record.epochs) == (expected.steps, expected.epochs)
    for one, other in zip(curves(whole), curves(parts), strict=True):
        values = (
            {name: float(text or "nan") for name, text in row.items()} for row in (one, other)
        )
        assert next(values) == pytest.approx(next(values), rel=1e-9, nan_ok=True)


def test_the_schedule_reaches_the_optimizer(train: Train) -> None:
    directory, _ = train(
        "schedule=linear", "schedule.warmup_steps=10", "trainer.log_every_n_steps=1"
    )
    rates = [float(row["lr"]) for row in curves(directory) if row["lr"]]
    assert len(rates) == 80
    assert rates[:11] == pytest.approx([1e-3 * n / 10 for n in (*range(1, 11), 10)])
    assert rates[10:] == pytest.approx([1e-3 * (1 - n / 70) for n in range(70)])


def test_divergence_is_a_result(train: Train) -> None:
    directory, record = train("optimizer=sgd", "optimizer.lr=1e20")
    assert record.status == "diverged"
    assert record.reason is not None
    assert "not finite" in record.reason
    assert 1 <= record.steps < 80
    assert "test/loss" not in record.metrics
    text = (directory / "record.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in record.json"))


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("extra", "threads"),
    [
        ([], 1),  # light
        (["trainer.threads=2"], 2),
        (["workload.model.hidden_sizes=[1024]", "trainer.max_steps=1"], 2),
    ],
)
def test_threads_follow_from_the_workload(
    extra: list[str], threads: int, train: Train, two_threads: None
) -> None:
    assert train("workload=mnist_mlp", *extra)[1].environment["threads"] == threads
    assert torch.get_num_threads() == 2


def test_a_failure_is_recorded_with_its_reason(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the disk\nis on fire")

    monkeypatch.setattr("bench.training.solo.SoloStep.compute", fail)
    directory, record = train(status=1)
    assert record.status == "failed"
    assert record.reason == "RuntimeError: the disk is on fire"
    assert "Traceback" in (directory / "run.log").read_text()


def test_a_made_run_is_kept_and_a_failed_one_repeated(shell: Shell, tmp_path: Path) -> None:
    shell(*SMALL)
    (path,) = tmp_path.glob("runs/**/record.json")
    before = path.read_text()
    status, output = shell(*SMALL)
    assert status == 0
    assert "already made" in output
    assert path.read_text() == before
    path.write_text(before.replace('"completed"', '"failed"'))
    shell(*SMALL)
    assert records.read(path).status == "completed"


def test_a_run_of_another_configuration_is_not_overwritten(shell: Shell, tmp_path: Path) -> None:
    shell(*SMALL)
    (path,) = tmp_path.glob("runs/**/record.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"id": "0" * 16}))
    status, output = shell(*SMALL)
    assert status == 1
    assert "another configuration" in output
    assert json.loads(path.read_text())["id"] == "0" * 16


@pytest.mark.parametrize(
    "extra",
    [
        ["workload.val_size=0"],
        ["workload.batch_size=full", "optimizer=sgd"],
        ["workload.sampling=replacement"],
        ["workload.l2=1e-3", "workload.model.init=kaiming"],
        ["workload.feature_scaling=feature"],
        ["trainer.precision=64-true"],
        ["optimizer._target_=torch.optim.NAdam", "optimizer.lr=2e-3"],
        ["optimizer._target_=torch.optim.LBFGS", "optimizer.max_iter=2"],
    ],
    ids=" ".join,
)
def test_variations_train(train: Train, extra: list[str]) -> None:
    _, record = train(*extra)
    assert record.status == "completed"
    if "workload.val_size=0" in extra:
        assert record.best == {"val/accuracy": None, "epoch": None}
        assert "val/accuracy" not in record.metrics
    if "workload.batch_size=full" in extra:
        assert record.steps == 2


def test_without_a_learning_rate_the_directory_has_none(train: Train) -> None:
    directory, record = train("optimizer._target_=torch.optim.NAdam")
    assert directory.name == "max_epochs=2,val_size=1000,seed=0"
    assert record.optimizer == "torch.optim.NAdam"
    assert "lr" not in record.hyperparameters


def test_hparams_are_every_setting_once_with_the_length(train: Train) -> None:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    directory, record = train(
        *("optimizer._target_=torch.optim.Adam", "optimizer.betas=[0.8,0.99]"),
        *("optimizer.lr=0.001", "trainer.max_steps=3", "workload.model.init=kaiming", "seed=4"),
    )
    (path,) = directory.glob("events.out.tfevents.*")
    events = EventAccumulator(str(path)).Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    started = metadata.parse_session_start_info_plugin_data(content)
    assert isinstance(started, plugin_data_pb2.SessionStartInfo)
    shown = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in started.hparams.items()
    }
    expected = {
        "workload": "mnist_mlp",
        "optimizer": "torch.optim.Adam",
        "schedule": "constant",
        "seed": 4,
        "max_epochs": 2,
        "max_steps": 3,
        "lr": 0.001,
        "betas": "[0.8, 0.99]",
        "init": "kaiming",
        "hidden_sizes": "[128, 128]",
        "batch_size": 128,
        "val_size": 1000,
        "drop_last": "false",
    }
    assert expected.items() <= shown.items()
    assert not {"patience", "data_dir", "study", "_target_", "threads"} & shown.keys()
    assert "betas" not in record.hyperparameters  # which stay numbers
