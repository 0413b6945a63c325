"""A process that plans beside the one that makes the run: a person at the shell sees one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench import beside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are not forked here")

RUN = ["workload=rosenbrock", "trainer.max_steps=3", "trainer.accelerator=cpu"]


def command(place: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "bench", f"runs_dir={place}/runs", *words],
        cwd=place, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def answer(place: Path, *words: str) -> tuple[int, list[str]]:
    process = command(place, *words)
    said, _ = process.communicate(timeout=120)
    wait_for_none(process.pid)
    return process.returncode, [line.rstrip() for line in said.splitlines() if line.strip()]


def members(group: int) -> Iterator[int]:
    """The processes of a group that have not ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, own = stat.read_text().rpartition(") ")[2].split()[:3]
            if int(own) == group and state != "Z":
                yield int(stat.parent.name)


def wait_for_none(group: int) -> None:
    """The kernel ends them a moment after the one they follow."""
    for _ in range(500):
        if not list(members(group)):
            return
        time.sleep(0.01)
    raise AssertionError(f"{list(members(group))} go on")


def planner(process: "subprocess.Popen[str]") -> int:
    """Once there is one."""
    while True:
        for other in members(process.pid):
            if other != process.pid:
                return other
        assert process.poll() is None
        time.sleep(0.005)


def test_one_run(tmp_path: Path) -> None:
    """Made by the first command, found by the second, and said once by each."""
    status, first = answer(tmp_path, *RUN)
    assert status == 0
    again, second = answer(tmp_path, *RUN)
    assert again == 0
    (announced,) = (line for line in first if line.startswith("rosenbrock, adam"))
    assert second[0] == f"already made: {announced}"
    assert first[-2:] == second[-2:]
    assert second[-2].startswith("completed: ")
    assert len(second) == 3


@pytest.mark.parametrize("words", [["optimiser.lr=1"], ["optimizer.lr=-1"], ["optimizer.lr=1,2"]])
def test_a_mistake(tmp_path: Path, words: list[str]) -> None:
    status, said = answer(tmp_path, *RUN, *words)
    assert status == 1
    (line,) = said
    assert line.startswith("error: ")
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from bench.workloads import Function\n"
        "class Own(Function):\n"
        "    def build(self, seed):\n"
        "        raise RuntimeError('no')\n"
    )
    status, said = answer(tmp_path, *RUN[1:], "workload._target_=own.Own")
    assert status == 1
    assert said[-1].startswith("error: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.0, 0.4])
@pytest.mark.parametrize("to_group", [True, False])
def test_interrupted(tmp_path: Path, number: int, after: float, to_group: bool) -> None:
    """By a terminal, which tells both, or by somebody who knows the first."""
    process = command(tmp_path, *RUN)
    planner(process)
    time.sleep(after)
    (os.killpg if to_group else os.kill)(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.count("interrupted") == 1
    assert "Traceback" not in said
    wait_for_none(process.pid)


def test_the_planner_is_killed(tmp_path: Path) -> None:
    process = command(tmp_path, *RUN)
    os.kill(planner(process), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("words", "one_run"),
    [
        ([], True),
        (["optimizer=sgd", "optimizer.lr=0.1"], True),
        (["-m", "seed=0,1"], False),
        (["experiment=quickstart"], False),
        (["hydra.mode=MULTIRUN"], False),
        (["hydra/launcher=slurm"], False),
        (["--cfg", "job"], False),
        (["--version"], False),
        (["-cd", "conf", "optimizer=sgd"], False),
        (["~optimizer"], False),
        (["+optimizer.x=1"], False),
    ],
)
def test_what_words_tell(words: list[str], one_run: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_early", lambda: True)
    assert beside.foreseen(words) is one_run


def test_where_there_cannot_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    assert beside.plan() is None
    assert not beside.plans()


def test_not_where_something_has_begun() -> None:
    assert not beside.foreseen([])  # PyTorch is imported here
