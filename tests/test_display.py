"""What the display of a sweep counts, and what it is told."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.text import Text

from bench.command_line import CONF
from bench.settings.jobs import Job, run
from bench.settings.schema import total_steps, validate
from bench.sweeps.display import Display, Running

COMMON = ["workload=mnist_logistic", "workload.val_size=1000", "trainer.enable_progress_bar=false"]


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def job(place: Path, *overrides: str) -> Job:
    config = validate(compose("config", [*COMMON, *overrides]))
    return Job(config, {}, overrides, place / ",".join(overrides))


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["trainer.max_epochs=2"], 2 * 461),  # 59,000 / 128, rounded up
        (["trainer.max_epochs=2", "workload.drop_last=true"], 2 * 460),
        (["trainer.max_epochs=2", "workload.batch_size=full"], 2),
        (["trainer.max_steps=7"], 7),
        (["trainer.max_steps=7000", "trainer.max_epochs=1"], 461),
    ],
)
def test_steps_of_a_run(tmp_path: Path, overrides: list[str], steps: int) -> None:
    assert total_steps(job(tmp_path, *overrides).config) == steps


def record(status: str) -> Any:
    return SimpleNamespace(status=status)


def test_the_bar_goes_by_steps_and_is_full_in_the_end(tmp_path: Path) -> None:
    short = [job(tmp_path, "trainer.max_steps=100", f"seed={seed}") for seed in range(4)]
    long = job(tmp_path, "trainer.max_steps=600")
    display = Display(Console(file=StringIO()), [*short, long])
    (bar,) = display.progress.tasks

    def shown(*running: Running) -> tuple[float, str]:
        display.show(running)
        return bar.completed, Text.from_markup(bar.description).plain

    assert bar.total == 1000
    at_first = shown(Running(short, steps=0, diverged=0), Running([long], steps=0, diverged=0))
    assert at_first == (0, "0/5 done, 5 running")
    later = shown(Running(short, steps=40, diverged=1), Running([long], steps=60, diverged=0))
    assert later == (100 + 3 * 40 + 60, "0/5 done, 4 running, 1 diverged")
    for status, one in zip(("completed", "diverged", "completed", "failed"), short, strict=True):
        display.add(one, record(status))
    assert shown(Running([long], steps=60, diverged=0)) == (
        460,
        "4/5 done, 1 running, 1 diverged, 1 failed",
    )
    display.add(long, record("diverged"))
    assert shown() == (1000, "5/5 done, 2 diverged, 1 failed")


@pytest.mark.parametrize("rates", [[0.01], [0.01, 1e38, 1e38]])
def test_training_tells_its_steps_and_divergences(
    tmp_path: Path, fake_data: None, rates: list[float]
) -> None:
    jobs = [
        job(tmp_path, "optimizer=sgd", "trainer.max_steps=30", f"optimizer.lr={lr}",
            "trainer.steps_per_execution=10", f"seed={seed}")
        for seed, lr in enumerate(rates)
    ]  # fmt: skip
    told: list[tuple[int, int]] = []
    made = run(jobs, tell=lambda steps, diverged: told.append((steps, diverged)))
    diverged = sum(one.status == "diverged" for one in made)
    assert diverged == len(rates) - 1
    assert [steps for steps, _ in told] == sorted(steps for steps, _ in told)
    assert {steps for steps, _ in told} == {10, 20, 30}
    assert told[0] == (10, diverged)
    assert told[-1] == (30, diverged)
