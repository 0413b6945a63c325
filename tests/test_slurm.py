"""Sweeps by jobs of a real Slurm, on this machine: the same records as by its own processes,
whoever is killed or requeued meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.data import Dataset
from bench.errors import BenchError
from bench.holding import Taken
from bench.settings.jobs import Job
from bench.sweeps.executors.batches import Batch, State, of_study
from bench.sweeps.executors.bundle import Told
from bench.sweeps.executors.slurm import SlurmExecutor, Wanted, seconds, size, submitter
from tests import slurm

ROOT = Path(__file__).parents[1]
USUAL: dict[str, Any] = {
    "partition": None, "time": "60", "cpus": None, "gpus": None, "memory": None, "setup": [],
    "extra": {},
}  # fmt: skip
Shell = Callable[..., tuple[int, str]]


def executor(**wanted: Any) -> SlurmExecutor:
    own = {key: wanted.pop(key, None) for key in ("n_jobs", "bundle", "threads", "gpu_memory")}
    return SlurmExecutor(Wanted(**{**USUAL, **wanted}), **own)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Mapping[str, str]]:
    if (why := slurm.missing()) is not None:
        pytest.skip(why)
    with slurm.cluster() as environment:
        yield environment


@pytest.fixture
def place(
    cluster: Mapping[str, str], real_data: Callable[[str], Dataset], tmp_path: Path
) -> Iterator[Path]:
    """Where to sweep, with nothing left of another test."""
    real_data("mnist")
    yield tmp_path
    slurm.empty(cluster)


def started(place: Path, cluster: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "-m", "study=s", *arguments],
        cwd=place, env={**os.environ, **cluster, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def swept(place: Path, cluster: Mapping[str, str], *arguments: str) -> str:
    """What a sweep says that makes all of its runs."""
    process = started(place, cluster, *arguments)
    try:
        _, said = process.communicate(timeout=300)
    finally:
        process.kill()  # unless it has ended
    assert process.returncode == 0, said
    return said


def left(place: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Records and curves by run, without what goes by the clock or says how they were asked for."""
    found = {}
    for path in sorted(place.glob("runs/s/**/record.json")):
        record = json.loads(path.read_text())
        record["timing"] = record["timing"].get("runs_together", 1)
        del record["target"]["seconds"], record["search"]["command"]
        curves = (path.parent / "metrics.csv").read_text()
        header, *rows = [line.split(",") for line in curves.splitlines()]
        kept = [n for n, name in enumerate(header) if "seconds" not in name]
        found[str(path.parent.relative_to(place))] = (
            record,
            "\n".join(",".join(row[n] for n in kept) for row in rows),
        )
    return found


def wait_until(condition: Callable[[], Any], *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def states(cluster: Mapping[str, str]) -> dict[str, str]:
    lines = slurm.say(cluster, "squeue", "--array", "--noheader", "--format=%i %T").splitlines()
    return dict(line.split() for line in lines)  # type: ignore[arg-type]


BY_SLURM = ("hydra/launcher=slurm", "hydra.launcher.n_jobs=2", "hydra.launcher.bundle=1")
HERE = ("hydra/launcher=auto", "hydra.launcher.n_jobs=2")
FEW = ("optimizer=adam,momentum", "optimizer.lr=1e-3,1e20", "trainer.max_steps=6000")


@pytest.mark.slow
def test_the_command_is_killed_and_finds_its_jobs_again(
    place: Path, cluster: Mapping[str, str]
) -> None:
    here, there = place / "here", place / "there"
    here.mkdir()
    there.mkdir()
    command = started(there, cluster, *FEW, *BY_SLURM)
    wait_until(lambda: states(cluster))
    command.kill()
    command.communicate()
    said = swept(there, cluster, *FEW, *BY_SLURM)
    assert "submitted" not in said
    assert not (there / "runs" / "s" / ".slurm").exists()
    swept(here, cluster, *FEW, *HERE)
    assert len(left(here)) == 4
    assert left(there) == left(here)


MANY = (  # stacks of two, and as many runs alone
    "optimizer=adam,momentum", "optimizer.lr=1e-3,3e-3,1e-2", "seed=0,1",
    "hydra.launcher.max_stack=2", "trainer.max_steps=1000", "trainer.evaluations=4",
)  # fmt: skip


@pytest.mark.slow
def test_a_job_is_requeued_another_cancelled_and_the_command_killed(
    place: Path, cluster: Mapping[str, str]
) -> None:
    here, there = place / "here", place / "there"
    here.mkdir()
    there.mkdir()
    command = started(there, cluster, *MANY, *BY_SLURM)
    wait_until(lambda: "RUNNING" in states(cluster).values())
    batch = of_study(there / "runs" / "s")[0]
    wait_until(lambda: batch.state(0).steps > 0)
    slurm.say(cluster, "scontrol", "requeue", next(iter(states(cluster))).split("_")[0] + "_0")
    wait_until(lambda: batch.state(1).steps > 0 or batch.state(1).over)
    command.kill()
    command.communicate()
    again = started(there, cluster, *MANY, *BY_SLURM)
    last, _ = batch.runs()[-1]
    (array,) = {name.split("_")[0] for name in states(cluster)}
    slurm.say(cluster, "scancel", f"{array}_{last}")
    _, said = again.communicate(timeout=400)
    assert again.returncode == 0, said
    assert "from before still to end" in said
    assert "1 Slurm job submitted" in said
    swept(here, cluster, *MANY, *HERE)
    made = left(there)
    assert len(made) == 12
    assert made == left(here)
    timings = [json.loads(path.read_text())["timing"] for path in there.glob("runs/**/record.json")]
    assert any("interruptions" in timing for timing in timings)


@pytest.mark.slow
def test_interrupted_it_says_that_the_jobs_go_on(place: Path, cluster: Mapping[str, str]) -> None:
    command = started(place, cluster, "seed=0,1", "trainer.max_steps=100", *BY_SLURM)
    wait_until(lambda: states(cluster))
    time.sleep(1)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=30)
    assert command.returncode == 130
    assert "the same command watches them again; scancel" in said
    assert "Traceback" not in said
    wait_until(lambda: len(left(place)) == 2)  # they do
    made = left(place)
    assert "nothing to run" in swept(place, cluster, "seed=0,1", "trainer.max_steps=100", *BY_SLURM)
    assert left(place) == made


@pytest.mark.slow
def test_a_search_and_jobs_of_several_runs(place: Path, cluster: Mapping[str, str]) -> None:
    said = swept(
        place, cluster, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_parallel=2", "optimizer=adam", "trainer.max_steps=40",
        "optimizer.lr=tag(log,interval(1e-4,1e-2))", "hydra/launcher=slurm",
        "hydra.launcher.strategy=parallel",
    )  # fmt: skip
    assert said.count("1 Slurm job of about") == 2  # two trials each
    assert len(left(place)) == 4


@pytest.mark.slow
def test_what_slurm_refuses_is_a_line(place: Path, cluster: Mapping[str, str]) -> None:
    command = started(place, cluster, "seed=0,1", *BY_SLURM, "hydra.launcher.partition=none")
    _, said = command.communicate(timeout=100)
    assert command.returncode == 1
    assert "invalid partition specified: none" in said
    assert "Traceback" not in said
    assert not (place / "runs" / "s" / ".slurm").exists()


def test_without_slurm_it_is_a_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    status, said = shell("-m", "seed=0,1", "hydra/launcher=slurm")
    assert status == 1
    assert "error: hydra/launcher=slurm: there is no sbatch here" in said.splitlines()[-1]
    monkeypatch.setattr("bench.sweeps.executors.slurm.find_spec", lambda name: None)
    status, said = shell("-m", "seed=0,1", "hydra/launcher=slurm")
    assert (status, said.splitlines()[-1].partition("needs submitit: ")[2]) == (
        1,
        "pip install 'optimizer-bench[slurm]'",
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("time", "0"), ("time", "1:2"), ("memory", "4"), ("extra", {"job_name": "x"})],
)
def test_what_cannot_be_is_a_line(key: str, value: Any) -> None:
    with pytest.raises(BenchError, match=rf"^hydra\.launcher\.{key}"):
        executor(**{key: value})


def test_times_and_sizes() -> None:
    assert [seconds(said) for said in ("1", "90", "01:30:00", "2-00:00:30")] == [
        60, 5400, 5400, 172830,
    ]  # fmt: skip
    assert size("memory", "4GB") == size("memory", "4G") == 4 * 2**30


def test_the_script_of_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made by parts of submitit that are its own: that they change is noticed here."""
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/bin/{name}")
    own = executor(
        partition="long", time="00:04:00", cpus=3, gpus=1, memory="2GB", n_jobs=5, threads=2,
        setup=["module load cuda"], extra={"account": "us"},
    )  # fmt: skip
    batch = Batch(tmp_path / "s-0")
    made = submitter(batch, 7, own)
    assert callable(made._submit_command)
    lines = made._make_submission_file_text("exec true", "").splitlines()
    said = dict(line[10:].partition("=")[::2] for line in lines if line.startswith("#SBATCH --"))
    assert said["array"] == "0-6%5"
    assert (said["job-name"], said["partition"], said["time"]) == ("s-0", "long", "00:04:00")
    assert (said["cpus-per-task"], said["gpus-per-node"], said["mem"]) == ("3", "1", "2GB")
    assert (said["signal"], said["requeue"], said["account"]) == ("B:USR1@120", "", "us")
    assert lines.index("module load cuda") < lines.index("export OMP_NUM_THREADS=2")
    assert lines[-1] == "exec true"


def job(directory: Path) -> Job:
    return Job({"x": 1.5}, {"mode": "MULTIRUN"}, ("x=1.5",), directory, {"sampler": "grid"})


def test_what_a_batch_says_comes_back(tmp_path: Path) -> None:
    jobs = [job(tmp_path / "runs" / str(n)) for n in range(3)]
    batch = Batch(tmp_path / ".slurm" / "s-0")
    batch.write([[jobs[:2]], [jobs[2:]]])
    assert of_study(tmp_path) == [batch]
    assert batch.tasks(0) == [jobs[:2]]
    assert batch.runs()[1] == (1, [[str(jobs[2].directory)]])
    assert batch.state(1) == State()
    state = State()
    state.end_task({jobs[0].directory: "why"})
    state.end_task(Taken(jobs[1].directory))
    state.end_task({})
    batch.tell(1, state)
    read = batch.state(1)
    assert read == state
    assert read.outcome(0) == {jobs[0].directory: "why"}
    taken = read.outcome(1)
    assert isinstance(taken, Taken)
    assert taken.directory == jobs[1].directory
    assert read.outcome(2) == {}
    batch.remove(0)
    assert batch.directory.exists()
    batch.remove(1)
    assert not (tmp_path / ".slurm").exists()


def test_what_comes_no_further_is_counted(tmp_path: Path) -> None:
    state = State()

    def attempt(*steps: int) -> int:
        told = Told(Batch(tmp_path), 0, state)
        for at in steps:
            told(at, 0)
        told.count_if_fruitless()
        return state.fruitless

    assert [attempt(50, 900), attempt(950, 1800), attempt(950, 1700), attempt()] == [0, 0, 1, 2]
    assert attempt(1000) == 0
