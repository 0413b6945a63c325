"""Sweeps that have their runs in common with others, or a place that cannot be written to."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import records
from bench.data import Dataset
from bench.holding import FILE_NAME

ROOT = Path(__file__).parents[1]
SWEEP = ["-m", "study=s", "workload=mnist_logistic", "optimizer.lr=1e-3,1e-2", "seed=0,1",
         "trainer.max_steps=20", "workload.val_size=1000"]  # fmt: skip


@pytest.fixture(autouse=True)
def mnist(real_data: Callable[[str], Dataset]) -> None:
    real_data("mnist")


def start(place: Path, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments], cwd=place, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


def made(place: Path, *arguments: str, **options: Any) -> tuple[int, str]:
    with start(place, *arguments, **options) as process:
        said, _ = process.communicate(timeout=120)
    return process.returncode, said


def directories(place: Path) -> list[Path]:
    return sorted(path.parent for path in place.glob("runs/s/*/*/*/record.json"))


@pytest.mark.parametrize("tries", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_two_equal_sweeps_at_once_make_every_run_once(tmp_path: Path, tries: int) -> None:
    for number in range(tries):
        place = tmp_path / str(number)
        place.mkdir()
        sweep = [*SWEEP, "seed=range(6)", "optimizer=momentum,adam"] if tries > 1 else SWEEP
        with start(place, *sweep) as one, start(place, *sweep) as other:
            said = [process.communicate(timeout=300)[0] for process in (one, other)]
        assert (one.returncode, other.returncode) == (0, 0), said
        assert len(directories(place)) == (24 if tries > 1 else 4)
        for directory in directories(place):
            assert records.read(directory / "record.json").status == "completed"
            assert len(list(directory.glob("events.out.tfevents.*"))) == 1
            log = (directory / "run.log").read_text()
            assert log.count("Trainer.fit") == 1, log  # as Lightning says when it has ended
            assert not (directory / FILE_NAME).exists()


@pytest.mark.slow
def test_a_run_that_another_process_makes_is_waited_for(tmp_path: Path) -> None:
    run = [word for word in SWEEP if word not in ("-m", "optimizer.lr=1e-3,1e-2", "seed=0,1")]
    run += ["trainer.max_steps=30000", "trainer.checkpoint_seconds=null"]
    with start(tmp_path, *run) as first:
        until = time.monotonic() + 60
        while not list(tmp_path.glob(f"runs/s/*/*/*/{FILE_NAME}")) and time.monotonic() < until:
            time.sleep(0.05)
        with start(tmp_path, *run) as second:
            said = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "another process makes this run; waiting for it" in said[1]
    assert [text.splitlines()[-2].partition(":")[0] for text in said] == ["completed"] * 2


def test_what_lies_in_a_runs_place_fails_that_run_alone(tmp_path: Path) -> None:
    assert made(tmp_path, *SWEEP, "seed=0", "hydra/launcher=basic")[0] == 0
    one, other = directories(tmp_path)
    in_the_way = other.with_name(other.name.replace("seed=0", "seed=1"))
    in_the_way.write_text("a file")
    before = (one / "record.json").read_bytes()
    status, said = made(tmp_path, *SWEEP)
    assert status == 1
    assert "Traceback" not in said
    assert said.count(f"{in_the_way.name}: cannot be written (File exists)") >= 1
    assert said.splitlines()[-1].startswith("error: 1 of 4 runs failed")
    assert len(directories(tmp_path)) == 3
    assert (one / "record.json").read_bytes() == before
    in_the_way.unlink()
    assert made(tmp_path, *SWEEP)[0] == 0
    assert len(directories(tmp_path)) == 4


@pytest.mark.slow
def test_without_room_a_sweep_ends_in_a_line_and_goes_on_once_there_is(tmp_path: Path) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    assert made(tmp_path, *SWEEP, "seed=0")[0] == 0
    before = [(path / "record.json").read_bytes() for path in directories(tmp_path)]
    status, said = made(tmp_path, *SWEEP, preexec_fn=little)
    assert status == 1
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("error: runs/s/")
    assert last.endswith(
        "cannot be written (File too large); the same command goes on once there is room"
    )
    assert [(path / "record.json").read_bytes() for path in directories(tmp_path)] == before
    assert not list(tmp_path.glob(f"runs/**/{FILE_NAME}"))
    assert not list(tmp_path.glob("runs/**/*.partial"))
    assert made(tmp_path, *SWEEP)[0] == 0
    assert len(directories(tmp_path)) == 4


def test_ended_while_it_starts_it_leaves_nothing_behind(tmp_path: Path) -> None:
    """Without a terminal, as cron starts it."""
    for seconds, number in ((0.2, signal.SIGTERM), (1.5, signal.SIGKILL), (2.5, signal.SIGHUP)):
        mark = f"{tmp_path.name}-{seconds}"
        with start(tmp_path, *SWEEP, f"study={mark}", start_new_session=True) as process:
            time.sleep(seconds)
            process.send_signal(number)
            said, _ = process.communicate(timeout=20)  # until all have closed it
        assert process.returncode in (-number, 128 + number)
        assert "Traceback" not in said
