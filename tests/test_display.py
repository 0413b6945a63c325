"""What the display of a sweep counts, and what it is told."""

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.text import Text

from bench.command_line import CONF
from bench.metrics import Metric
from bench.runs import run
from bench.settings.jobs import Job
from bench.settings.schema import total_steps, validate
from bench.sweeps import display as displays
from bench.sweeps.display import Display, Results, Running, Setting, listed, what

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


ACCURACY = Metric("accuracy", "fraction", higher_is_better=True, chance=0.1)
BITS = Metric("bits", "bits")


def record(status: str, value: float | None = None, metric: Metric = ACCURACY) -> Any:
    metrics = {f"val/{metric.name}": value}
    return SimpleNamespace(status=status, metric=metric.description, metrics=metrics)


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


def test_the_best_is_that_of_all_scores_whenever_it_is_asked_for() -> None:
    rng = random.Random(0)
    for _ in range(200):
        results, scores = Results(), defaultdict[Setting, list[float]](list)
        for _ in range(30):
            setting = (("lr", str(rng.randrange(5))),)
            lost, value = rng.random() < 0.1, round(rng.random(), 2)
            results.add(setting, record("diverged" if lost else "completed", value))
            scores[setting].append(ACCURACY.chance or 0.0 if lost else value)
            most = max(map(len, scores.values()))
            means = [fmean(own) for own in scores.values() if len(own) > most / 2]
            best = results.best()
            assert best is not None
            assert best[0] == max(means) == fmean(scores[best[1]])


def lines_of(display: Display) -> list[str]:
    with display.console.capture() as printed:
        display.console.print(display.table(most=3))
    return [line.rstrip() for line in printed.get().splitlines()]


def terminal(width: int = 80) -> Console:
    return Console(file=StringIO(), width=width, height=10, force_terminal=True, color_system=None)


def test_a_line_for_each_optimizer_with_the_best_so_far(tmp_path: Path) -> None:
    """Of the settings with most seeds, the best mean; by whichever way is better."""
    jobs = {
        (name, lr, seed): job(tmp_path, f"optimizer={name}", f"optimizer.lr={lr}", f"seed={seed}")
        for name in ("sgd", "adam")
        for lr in ("1e-2", "0.1")
        for seed in (0, 1, 2)
    }
    display = Display(terminal(), list(jobs.values()))
    assert [line.split() for line in lines_of(display)[1:]] == [
        ["sgd", "0/6", "\N{EN DASH}"],
        ["adam", "0/6", "\N{EN DASH}"],
    ]
    for (name, lr, seed), value in {
        ("sgd", "1e-2", 0): 0.8,
        ("sgd", "1e-2", 1): 0.9,
        ("sgd", "0.1", 0): 0.99,  # one seed of three is no result
        ("adam", "1e-2", 0): 0.5,
        ("adam", "1e-2", 1): None,
        ("adam", "0.1", 0): 0.4,
        ("adam", "0.1", 1): 0.4,
    }.items():
        ended = record("diverged" if value is None else "completed", value)
        display.add(jobs[name, lr, seed], ended)
    display.add(jobs["sgd", "1e-2", 2], record("failed"))
    heading, sgd, adam = lines_of(display)
    assert heading.split() == ["optimizer", "done", "best", "so", "far", "at"]
    assert sgd.split() == [
        *("sgd", "4/6", "85.00", "%", "lr", "1e-2", "1", "failed"),
    ]
    assert adam.split() == ["adam", "4/6", "40.00", "%", "lr", "0.1", "1", "diverged"]


def test_where_less_is_better_less_is_best() -> None:
    results = Results()
    for setting, value in (("a", 2.5), ("b", 1.5), ("c", None)):
        status = "completed" if value is not None else "diverged"
        results.add((("optimizer.lr", setting),), record(status, value, BITS))
    best = results.best()
    assert best is not None
    assert results.value(best[0]) == "1.500 bits"
    assert best[1] == (("optimizer.lr", "b"),)
    lost = Results()
    lost.add((), record("diverged", metric=BITS))
    assert lost.best() is None


@pytest.mark.parametrize("width", [40, 80])
def test_many_optimizers_fit_any_terminal(tmp_path: Path, width: int) -> None:
    names = ["adam", "adamw", "sgd", "momentum", "nesterov", "rmsprop", "adagrad"]
    rates = ["optimizer.lr=1e-3", "optimizer.lr=1e-2"]
    jobs = [job(tmp_path, f"optimizer={name}", lr) for name in names for lr in rates]
    display = Display(terminal(width), jobs)
    for one in jobs[:10]:
        display.add(one, record("completed", 0.5))
    display.show([Running(jobs[10:11], steps=3, diverged=0)])
    heading, *rows, left = lines_of(display)
    assert left == "and 4 more"
    assert len(rows) == 3
    assert rows[-1].startswith("rmsprop")  # which is at work
    display.console.print(display._whole())
    printed = display.console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, [heading, *rows, *printed])) <= width
    assert len(printed) < display.console.height


def test_without_a_terminal_there_are_plain_lines_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(displays.time, "monotonic", lambda: now)
    jobs = [job(tmp_path, f"optimizer.lr={lr}") for lr in range(20)]
    jobs[0] = replace(jobs[0], overrides=("optimizer.lr=[bold]",))
    out = StringIO()
    display = Display(Console(file=out), jobs)
    display.start()
    for now, one in enumerate(jobs, 1):  # noqa: B007
        display.add(one, record("completed", 0.5))
        display.show([])
    display.stop()
    said = out.getvalue()
    assert said.isascii()
    assert "\x1b" not in said
    first, *_ = lines = said.splitlines()
    assert re.fullmatch(r"5/20 done; \d+ s left; best so far adam 50.00 % at lr \[bold\]", first)
    assert len(lines) == 3


def test_what_a_sweep_is(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, f"optimizer={name}", f"optimizer.lr={lr}", "trainer.max_steps=9", f"seed={n}")
        for name in ("sgd", "adam")
        for lr in ("1e-3", "1e-2", "0.1", "1", "10")
        for n in (0, 1)
    ]
    said = "mnist_logistic; sgd, adam; lr 1e-3 to 10 (5 values); 9 steps; seeds 0, 1"
    assert what(jobs) == said
    assert listed(["relu", "tanh", "a", "b", "c"]) == "5 values"
