"""A run in a stack gives what the run alone gives."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from bench.command_line import CONF
from bench.records import Record
from bench.settings.identity import digest
from bench.settings.jobs import Job
from bench.settings.schema import validate
from bench.sweeps.stacking import own_refusal, refusal, stack_key, tasks
from bench.training import Run
from bench.training.module import Member
from bench.training.stack import bytes_per_run, grid

pytestmark = pytest.mark.usefixtures("fake_data")

SMALL = ["workload.val_size=1000", "trainer.max_epochs=1", "trainer.enable_progress_bar=false"]


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> dict[str, Any]:
    return validate(compose("config", [*SMALL, *overrides]))


def train(place: Path, configs: list[dict[str, Any]]) -> list[Record]:
    directories = [place / digest(config) for config in configs]
    for directory in directories:
        directory.mkdir(parents=True)
    return Run(configs, directories).train()


def alone_and_together(place: Path, configs: list[dict[str, Any]]) -> list[tuple[Record, Record]]:
    alone = [train(place / "alone", [config])[0] for config in configs]
    together = train(place / "together", configs)
    assert [record.id for record in together] == [record.id for record in alone]
    assert all(record.timing["runs_together"] == len(configs) for record in together)
    return list(zip(alone, together, strict=True))


def assert_same(alone: Record, together: Record) -> None:
    assert (together.status, together.reason) == (alone.status, alone.reason)
    assert (together.steps, together.epochs) == (alone.steps, alone.epochs)
    assert together.target["step"] == alone.target["step"]
    assert together.metrics.keys() == alone.metrics.keys()
    for name, value in alone.metrics.items():
        # an accuracy counts: one sample near a tie moves it
        # and a loss of 1e-7 is a difference of logarithms, whose last bit is that much
        tolerance = {"abs": 0.01} if name.endswith("accuracy") else {"rel": 1e-4, "abs": 1e-6}
        assert together.metrics[name] == pytest.approx(value, **tolerance), name


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd",
        pytest.param("momentum", marks=pytest.mark.slow),
        pytest.param("nesterov", marks=pytest.mark.slow),
        "adagrad",
        pytest.param("rmsprop", marks=pytest.mark.slow),
        "adam",
        pytest.param("adamw", marks=pytest.mark.slow),
    ],
)
def test_learning_rates_and_seeds(tmp_path: Path, optimizer: str) -> None:
    configs = [
        composed(f"optimizer={optimizer}", f"optimizer.lr={lr}", f"seed={seed}")
        for lr in (1e-4, 1e-3)
        for seed in (0, 7)
    ]
    for alone, together in alone_and_together(tmp_path, configs):
        assert alone.status == "completed"
        assert_same(alone, together)


def test_every_number_may_differ(tmp_path: Path) -> None:
    variants = [
        ["optimizer.weight_decay=0.1", "schedule.warmup_steps=10"],
        ["optimizer.beta1=0.5", "optimizer.eps=1e-4", "schedule.final=0.5"],
        ["optimizer.beta2=0.9", "workload.l2=0.01"],
        ["workload.model.init=kaiming"],
        ["workload.model.init=normal", "workload.model.init_std=0.02", "seed=3"],
    ]
    configs = [composed("optimizer=adamw", "schedule=cosine", *variant) for variant in variants]
    assert len({stack_key(config) for config in configs}) == 1
    for alone, together in alone_and_together(tmp_path, configs):
        assert_same(alone, together)


@pytest.mark.parametrize(
    ("workload", "exclude"),
    [
        ("mnist_mlp", ""),
        ("mnist_mlp", "5.*"),
        pytest.param("cifar10_cnn", "0.weight", marks=pytest.mark.slow),
    ],
)
def test_rules_on_matrices(tmp_path: Path, workload: str, exclude: str) -> None:
    """Also where numbers of iterations differ; and what is excluded is so in the stack, too."""
    common = [f"workload={workload}", "optimizer=muon", f"optimizer.exclude={exclude}"]
    numbers = [("0.003", 5, 0.1, 0), ("0.02", 3, 1.0, 0), ("0.02", 6, 0.0, 1)]
    configs = [
        composed(
            *common,
            "trainer.max_steps=6",
            f"optimizer.lr={lr}",
            f"optimizer.ns_steps={iterations}",
            f"optimizer.adamw_lr_ratio={ratio}",
            f"seed={seed}",
        )
        for lr, iterations, ratio, seed in numbers
    ]
    assert len({stack_key(config) for config in configs}) == 1
    assert refusal(configs[0]) is None
    for alone, together in alone_and_together(tmp_path, configs):
        assert_same(alone, together)


@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_smoothed_labels(tmp_path: Path, l2: float) -> None:
    configs = [
        composed("workload.label_smoothing=0.1", f"workload.l2={l2}", f"optimizer.lr={lr}")
        for lr in (1e-4, 1e-3)
    ]
    for alone, together in alone_and_together(tmp_path, configs):
        assert_same(alone, together)


def test_accumulated_batches(tmp_path: Path) -> None:
    configs = [
        composed("trainer.accumulate_grad_batches=3", f"optimizer.lr={lr}", f"seed={seed}")
        for lr, seed in ((1e-3, 0), (1e-2, 0), (1e-3, 1))
    ]
    for alone, together in alone_and_together(tmp_path, configs):
        assert alone.steps == 14
        assert_same(alone, together)


@pytest.mark.slow
def test_convolutions(tmp_path: Path) -> None:
    configs = [
        composed(
            "workload=cifar10_cnn", "optimizer=momentum", "trainer.max_steps=5", f"seed={seed}"
        )
        for seed in (0, 1)
    ]
    for alone, together in alone_and_together(tmp_path, configs):
        assert_same(alone, together)


def test_runs_that_diverge_leave_without_touching_the_others(tmp_path: Path) -> None:
    rates = {0: (1e-3, 1e20), 1: (1e-3, 1e-2), 2: (1e20, 1e19)}
    configs = [
        composed("optimizer=sgd", f"optimizer.lr={lr}", f"seed={seed}", "trainer.max_epochs=2")
        for seed, values in rates.items()
        for lr in values
    ]
    pairs = alone_and_together(tmp_path, configs)
    assert [together.status for _, together in pairs].count("diverged") == 3
    for alone, together in pairs:
        assert_same(alone, together)


def test_runs_that_stop_early_are_tested_as_they_were_then(tmp_path: Path) -> None:
    rates = {0: (1e-3, 0.0, 1e20), 1: (3e-4, 1e-4, 0.0)}
    configs = [
        composed(f"optimizer.lr={lr}", f"seed={seed}", "trainer.max_epochs=7", "trainer.patience=2")
        for seed, values in rates.items()
        for lr in values
    ]
    pairs = alone_and_together(tmp_path, configs)
    for alone, together in pairs:
        assert_same(alone, together)
    idle = [record for record, _ in pairs if record.hyperparameters["lr"] == 0]
    assert [(record.status, record.epochs) for record in idle] == [("completed", 3.0)] * 2
    assert len({record.steps for record, _ in pairs}) > 2
    stopped = tmp_path / "together" / idle[0].id / "checkpoints" / "last.ckpt"
    alone = tmp_path / "alone" / idle[0].id / "checkpoints" / "last.ckpt"
    weights, expected = (torch.load(path)["state_dict"] for path in (stopped, alone))
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value)


def test_stopping_within_an_epoch_leaves_the_weights_of_that_step(tmp_path: Path) -> None:
    often = ["optimizer=sgd", "trainer.val_check_interval=10", "trainer.patience=2"]
    configs = [composed(*often, "trainer.max_epochs=6", f"optimizer.lr={lr}") for lr in (0.3, 1e-9)]
    for alone, together in alone_and_together(tmp_path, configs):
        assert_same(alone, together)
        name = f"{alone.id}/checkpoints/last.ckpt"
        saved = torch.load(tmp_path / "alone" / name)
        assert saved["global_step"] == alone.steps < 6 * 40
        weights = torch.load(tmp_path / "together" / name)["state_dict"]
        for key, value in saved["state_dict"].items():
            torch.testing.assert_close(weights[key], value)


def test_all_stop_early(tmp_path: Path) -> None:
    configs = [
        composed("optimizer.lr=0", f"seed={s}", "trainer.max_epochs=9", "trainer.patience=1")
        for s in (0, 1)
    ]
    for alone, together in alone_and_together(tmp_path, configs):
        assert_same(alone, together)
        assert together.epochs == 2


def test_all_diverge(tmp_path: Path) -> None:
    configs = [composed("optimizer=sgd", "optimizer.lr=1e20", f"seed={s}") for s in (0, 1)]
    assert [r.status for r in train(tmp_path, configs)] == ["diverged"] * 2


def test_steps_within_an_epoch(tmp_path: Path) -> None:
    configs = [composed("trainer.max_steps=13", f"optimizer.lr={lr}") for lr in (1e-3, 1e-2)]
    for alone, together in alone_and_together(tmp_path, configs):
        assert together.steps == 13
        assert_same(alone, together)


def members(*runs: tuple[int, bool]) -> list[Member]:
    return [Member({"seed": seed}, None, [], diverged=diverged) for seed, diverged in runs]


@pytest.mark.parametrize(
    ("runs", "rows"),
    [
        ([(1, False), (0, False)], [1, 0]),
        ([(0, False), (0, False), (1, False)], [0, 1, 2, 2]),
        ([(0, False), (0, True), (1, False), (1, False)], [0, 1, 2, 3]),
        ([(0, False), (0, True), (1, True), (1, False)], [0, 3]),
        ([(0, True), (0, True), (1, True), (1, False)], [3]),
    ],
)
def test_grid(runs: list[tuple[int, bool]], rows: list[int]) -> None:
    assert grid(members(*runs)) == rows


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ([], None),
        (["workload.model.dropout=0.1"], "dropout"),
        (["optimizer=custom", "optimizer._target_=torch.optim.Adam"], "no rule"),
        (["optimizer.gradient=numeric"], "numeric"),
        (["workload.batch_size=full"], "full batch"),
        (["trainer.devices=2"], "several devices"),
        (["trainer.precision=bf16-mixed"], "bf16-mixed"),
        (["diagnostics=true"], "diagnostics"),
        (["trainer.steps_per_execution=1"], "plain"),
        (["workload.label_smoothing=0.1"], None),
        (["trainer.ema_decay=0.9"], "averaged"),
        (["trainer.callbacks=[a.B]"], "callbacks"),
        (["trainer.loggers=[a.B]"], "loggers"),
    ],
)
def test_what_cannot_be_stacked_says_why(overrides: list[str], reason: str | None) -> None:
    config = composed(*overrides)
    said = refusal(config) or own_refusal(config)
    assert said is None if reason is None else reason in str(said)


@pytest.mark.parametrize(
    "change",
    [
        "optimizer=adamw",
        "optimizer.bias_correction=false",
        "workload.batch_size=64",
        "workload.model.hidden_sizes=[64]",
        "workload.feature_scaling=unit",
        "workload.label_smoothing=0.1",
        "trainer.max_epochs=2",
        "schedule=cosine",
    ],
)
def test_what_keeps_runs_apart(change: str) -> None:
    assert stack_key(composed(change)) != stack_key(composed())


@functools.cache
def job(*overrides: str) -> Job:
    config = composed(*overrides)
    return Job(config=config, hydra={}, overrides=(), directory=Path(digest(config)))


def sizes(jobs: list[Job], **options: Any) -> list[int]:
    """How many jobs each task has; every job is in one."""
    chosen: dict[str, Any] = {"strategy": "stacked", "workers": 2, "max_stack": None}
    chosen |= {"device": "cpu", "capacity": lambda *_, **__: 1000, "say": lambda text: None}
    chosen |= options
    made = tasks(jobs, **chosen)
    found = sorted(job.directory for task in made for job in task)
    assert found == sorted(job.directory for job in jobs)
    return [len(task) for task in made]


def grid_of_jobs(*, seeds: int, rates: int, more: Sequence[str] = ()) -> list[Job]:
    return [
        job(f"seed={s}", f"optimizer.lr={10.0**-n:g}", *more)
        for n in range(rates)
        for s in range(seeds)
    ]


@pytest.mark.parametrize(
    ("seeds", "rates", "options", "expected"),
    [
        (4, 3, {}, [3, 3, 3, 3]),  # a stack for each seed
        (4, 3, {"max_stack": 2}, [1, 2] * 4),
        (4, 3, {"capacity": lambda *_, **__: 1}, [1] * 12),
        (4, 3, {"strategy": "parallel"}, [1] * 12),
        (4, 3, {"strategy": "auto"}, [3, 3, 3, 3]),
        (3, 4, {"strategy": "auto"}, [4, 4, 2, 2]),  # the third is for both processes
        (1, 8, {"strategy": "auto"}, [4, 4]),
        (9, 2, {"strategy": "auto"}, [2] * 8 + [1, 1]),
        (2, 12, {"strategy": "auto", "workers": 6}, [4] * 6),
        (5, 8, {"strategy": "auto", "workers": 4}, [8] * 4 + [2] * 4),
        (8, 1, {"strategy": "auto"}, [1] * 8),  # nothing is shared
        (8, 1, {}, [4, 4]),
        (4, 3, {"device": "cuda"}, [6, 6]),
        (8, 1, {"device": "cuda", "strategy": "auto", "workers": 1}, [8]),
    ],
)
def test_tasks(seeds: int, rates: int, options: dict[str, Any], expected: list[int]) -> None:
    assert sizes(grid_of_jobs(seeds=seeds, rates=rates), **options) == expected


def test_tasks_of_one_stack_share_a_seed_on_a_cpu() -> None:
    jobs = grid_of_jobs(seeds=3, rates=4)
    for task in tasks(jobs, strategy="auto", device="cpu", workers=2, max_stack=None):
        assert len({job.config["seed"] for job in task}) == 1


def test_what_is_not_stacked_says_why() -> None:
    said: list[str] = []
    jobs = [*grid_of_jobs(seeds=2, rates=2), job("workload.model.dropout=0.5")]
    assert sizes(jobs, say=said.append) == [2, 2, 1]
    assert said == [
        "mnist_mlp, adam: 1 run(s) not stacked: it stands alone",
    ]
    convolutions = grid_of_jobs(seeds=1, rates=2, more=["workload=cifar10_cnn"])
    assert sizes(convolutions, strategy="auto") == [1, 1]


def test_memory_estimate_is_of_the_right_size() -> None:
    """Parameters of 784-128-128-10: 118,282; eight copies of each, and activations on top."""
    estimate = bytes_per_run(composed())
    assert 8 * 4 * 118_282 < estimate < 20 * 4 * 118_282
    assert bytes_per_run(composed("workload=cifar10_cnn")) > 10 * estimate


def test_checkpoints_hold_each_runs_weights(tmp_path: Path) -> None:
    configs = [composed(f"optimizer.lr={lr}") for lr in (1e-3, 1e-2)]
    for config in configs:
        train(tmp_path / "alone", [config])
    train(tmp_path / "together", configs)
    for config in configs:
        name = f"{digest(config)}/checkpoints/last.ckpt"
        alone, together = (
            torch.load(tmp_path / way / name, weights_only=True)["state_dict"]
            for way in ("alone", "together")
        )
        assert alone.keys() == together.keys()
        for key, value in alone.items():
            torch.testing.assert_close(together[key], value, rtol=1e-3, atol=1e-5)
