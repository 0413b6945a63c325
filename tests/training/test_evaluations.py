"""When a run is validated and its training loss logged, and what is logged then."""

import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from bench import records
from bench.command_line import CONF
from bench.records import Record
from bench.settings.identity import digest, run_directory
from bench.settings.schema import evaluation_steps, validate
from bench.training import Run

pytestmark = pytest.mark.usefixtures("fake_data")

Shell = Callable[..., tuple[int, str]]
SMALL = ["workload.val_size=1000", "trainer.enable_progress_bar=false"]  # 40 steps an epoch


def steps_of(total: int, evaluations: int | None) -> list[int] | None:
    trainer = {"max_steps": total, "max_epochs": None, "evaluations": evaluations}
    return evaluation_steps({"trainer": trainer})


@given(total=st.integers(1, 10**8), count=st.integers(1, 300))
def test_as_many_as_asked_denser_at_the_start_and_the_last_step(total: int, count: int) -> None:
    steps = steps_of(total, count)
    assert steps is not None
    assert len(steps) == min(count, total)
    assert steps[0] >= 1
    assert steps[-1] == total
    gaps = [after - before for before, after in pairwise([0, *steps])]
    assert min(gaps) >= 1
    assert all(after >= before - 1 for before, after in pairwise(gaps[1:]))  # rounded up each


def test_where_they_lie() -> None:
    assert steps_of(1290, 16) == [
        *(1, 3, 9, 21, 40, 69, 109, 162, 230, 315, 420, 545, 692, 865, 1063, 1290)
    ]  # fmt: skip
    assert steps_of(5, 5) == steps_of(5, 99) == [1, 2, 3, 4, 5]
    assert steps_of(1000, 1) == [1000]
    assert steps_of(1000, None) is None


def test_lines_between_them_err_little_from_a_curve_that_falls_like_a_logarithm() -> None:
    """Less, in the mean over all steps, than between as many even, square or geometric ones."""
    total, count = 20_000, 16
    every = np.arange(1, total + 1)

    def error(points: Any) -> float:
        at = np.union1d(1, np.round(points))
        return float(np.abs(np.interp(every, at, -np.log(at)) + np.log(every)).mean())

    share = np.arange(1, count + 1) / count
    others = (total * share, total * share**2, total**share)
    assert error(steps_of(total, count)) < min(map(error, others))


@pytest.fixture
def train(shell: Shell, tmp_path: Path) -> Callable[..., tuple[Path, Record]]:
    studies = iter(range(100))

    def run(*arguments: str) -> tuple[Path, Record]:
        study = f"s{next(studies)}"
        status, output = shell(f"study={study}", *SMALL, *arguments)
        assert status == 0, output
        (path,) = tmp_path.glob(f"runs/{study}/*/*/*/record.json")
        return path.parent, records.read(path)

    return run


Train = Callable[..., tuple[Path, Record]]


def curves(directory: Path) -> list[dict[str, str]]:
    """metrics.csv without its times."""
    with open(directory / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def points(directory: Path, name: str) -> dict[int, float]:
    return {int(row["step"]): float(row[name]) for row in curves(directory) if row.get(name)}


@pytest.mark.parametrize(
    ("extra", "steps"),
    [
        (["trainer.max_epochs=3", "trainer.evaluations=6"], [1, 5, 15, 36, 70, 120]),
        (["trainer.max_epochs=1", "trainer.evaluations=3"], [2, 12, 40]),
        (["trainer.max_steps=53", "trainer.evaluations=4"], [1, 7, 23, 53]),
        (["trainer.max_steps=3", "trainer.evaluations=9"], [1, 2, 3]),
        (
            ["trainer.max_epochs=2", "trainer.accumulate_grad_batches=3", "trainer.evaluations=4"],
            [1, 4, 12, 28],
        ),
        (
            ["workload.batch_size=full", "trainer.max_epochs=9", "trainer.evaluations=3"],
            [1, 3, 9],
        ),
        (
            [
                "optimizer._target_=torch.optim.NAdam",
                "trainer.max_steps=50",
                "trainer.evaluations=2",
            ],
            [7, 50],
        ),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_a_run_is_validated_then(train: Train, extra: list[str], steps: list[int]) -> None:
    """Whichever steps are executed together, with the same curves to the last bit."""
    directories = [train(*extra, f"trainer.steps_per_execution={n}")[0] for n in ("auto", 1, 7)]
    for directory in directories:
        assert list(points(directory, "val/accuracy")) == steps
        assert set(steps) <= set(points(directory, "train/loss"))
        assert curves(directory) == curves(directories[0])


def test_evaluating_changes_nothing_but_what_is_known(train: Train) -> None:
    often, record = train("trainer.max_epochs=2", "trainer.evaluations=30")
    seldom, usual = train("trainer.max_epochs=2")
    assert points(often, "val/loss")[80] == points(seldom, "val/loss")[80]
    assert record.metrics["test/loss"] == usual.metrics["test/loss"]
    assert record.target["step"] < usual.target["step"]  # found earlier
    assert record.id != usual.id


def test_patience_counts_evaluations(train: Train) -> None:
    tiny = ["optimizer=sgd", "optimizer.lr=1e-30"]  # nothing is ever better than the first
    directory, record = train(*tiny, "trainer.evaluations=8", "trainer.patience=3")
    steps = list(points(directory, "val/loss"))
    assert steps == (steps_of(200, 8) or [])[:4]
    assert record.steps == steps[-1]


def test_without_validation_data_the_loss_is_logged_then(train: Train) -> None:
    directory, _ = train("workload.val_size=0", "trainer.max_steps=40", "trainer.evaluations=3")
    assert list(points(directory, "train/loss")) == [1, 2, 12, 40]
    assert points(directory, "val/loss") == {}


def test_its_time_is_none_of_training(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(self: Any, *given: Any) -> Any:
        import time

        time.sleep(0.05)
        return real(self, *given)

    from bench.training.solo import SoloModule

    real = SoloModule.sums
    monkeypatch.setattr(SoloModule, "sums", slowly)
    _, record = train("trainer.max_steps=20", "trainer.evaluations=20")
    assert record.timing["eval_seconds"] > 20 * 0.05
    assert record.timing["train_seconds"] < 20 * 0.05


@pytest.mark.parametrize("key", ["val_check_interval=20", "check_val_every_n_epoch=2"])
def test_one_thing_says_when(shell: Shell, tmp_path: Path, key: str) -> None:
    status, output = shell(*SMALL, "trainer.evaluations=5", f"trainer.{key}")
    assert status != 0
    assert output.startswith(f"error: trainer.evaluations=5, trainer.{key}: both say when")
    assert output.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_it_a_run_is_what_it_was() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config, other = (
            validate(compose("config", [*SMALL, *e])) for e in ([], ["trainer.evaluations=3"])
        )
    before = config | {
        "trainer": {k: v for k, v in config["trainer"].items() if k != "evaluations"}
    }
    assert digest(config) == digest(before) != digest(other)
    assert run_directory(config, config) == run_directory(before, before)
    assert "evaluations=3" in run_directory(other, config).name


# The mean over the steps since the last point -----------------------------------------------------


@pytest.mark.parametrize(
    "extra",
    [
        ["trainer.log_every_n_steps=7"],
        ["trainer.log_every_n_steps=50", "trainer.evaluations=5"],
        [
            "trainer.log_every_n_steps=1000",
            "trainer.accumulate_grad_batches=3",
            "trainer.evaluations=4",
        ],
        ["trainer.log_every_n_steps=9", "trainer.precision=64-true", "schedule=cosine"],
    ],
    ids=" ".join,
)
def test_a_point_is_the_mean_over_all_steps_since_the_last(train: Train, extra: list[str]) -> None:
    often = [e for e in extra if not e.startswith(("trainer.log_every", "trainer.evaluations"))]
    every, _ = train(*often, "trainer.max_epochs=2", "trainer.log_every_n_steps=1")
    losses = points(every, "train/loss")
    assert list(losses) == list(range(1, len(losses) + 1))
    directory, record = train(*extra, "trainer.max_epochs=2")
    found = points(directory, "train/loss")
    for before, after in pairwise([0, *found]):
        expected = fmean(losses[step] for step in range(before + 1, after + 1))
        assert found[after] == pytest.approx(expected, rel=1e-12)
    assert record.metrics["train/loss"] == list(found.values())[-1]


def test_divergence_is_still_the_first_step(train: Train) -> None:
    reasons = {
        train("optimizer=sgd", "optimizer.lr=300", *extra)[1].reason
        for extra in (
            ["trainer.log_every_n_steps=1", "trainer.steps_per_execution=1"],
            ["trainer.evaluations=3"],
            ["trainer.log_every_n_steps=1000"],
        )
    }
    (reason,) = reasons
    assert reason is not None
    assert reason.startswith("training loss is not finite at step ")


def test_a_stack_has_the_curves_of_its_runs(tmp_path: Path) -> None:
    common = [
        *SMALL,
        "trainer.max_epochs=3",
        "trainer.evaluations=7",
        "trainer.log_every_n_steps=9",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        configs = [
            validate(compose("config", [*common, f"optimizer.lr={lr}", f"seed={seed}"]))
            for lr in ("1e-5", "1e-4", "1e-3")
            for seed in (0, 7)
        ]
    places = {name: [tmp_path / name / digest(c) for c in configs] for name in ("alone", "stack")}
    for directory in (*places["alone"], *places["stack"]):
        directory.mkdir(parents=True)
    for config, directory in zip(configs, places["alone"], strict=True):
        Run([config], [directory]).train()
    Run(configs, places["stack"]).train()
    for alone, together in zip(places["alone"], places["stack"], strict=True):
        assert list(points(together, "val/loss")) == steps_of(120, 7)
        for name, tolerance in (
            ("train/loss", {"rel": 1e-3, "abs": 1e-6}),
            ("val/accuracy", {"abs": 0.005}),
        ):
            expected, found = points(alone, name), points(together, name)
            assert found.keys() == expected.keys()
            assert list(found.values()) == pytest.approx(list(expected.values()), **tolerance)
