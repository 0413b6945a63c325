"""A run is one process, whatever a scheduler or a shell says of others, unless it is asked to be
several."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import processes, records
from bench.records import Record

ROOT = Path(__file__).parents[2]
Shell = Callable[..., tuple[int, str]]
SMALL = ["workload._target_=houses.Houses", "trainer.max_epochs=2", "trainer.accelerator=cpu"]
# A third task of four in a job of Slurm, that of another launcher, and what a shell was left with.
SCHEDULER = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "sweep", "SLURM_NTASKS": "4", "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "n[1-2]", "PMI_RANK": "2", "PMI_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2",
    "LSB_JOBID": "7", "LSB_DJOB_RANKFILE": "/nowhere", "JSM_NAMESPACE_RANK": "2",
}  # fmt: skip
LEFT = {
    "RANK": "1", "LOCAL_RANK": "1", "NODE_RANK": "1", "WORLD_SIZE": "2",
    "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "1",
}  # fmt: skip


@pytest.fixture
def srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has Slurm."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/own"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/srun").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin/srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "docs/own")]))


def started(place: Path, *arguments: str, **variables: str) -> tuple[Record, str]:
    """A run by a process of its own."""
    place.mkdir()
    made = subprocess.run(
        [sys.executable, "-m", "bench", *SMALL, *arguments],
        cwd=place, env=os.environ | variables, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    record, log = left_in(place)
    return record, made.stdout + made.stderr + log


def left_in(place: Path) -> tuple[Record, str]:
    (directory,) = place.glob("runs/*/*/*/*")
    assert len(list(directory.glob("events.out.tfevents.*"))) == 1
    return records.read(directory / "record.json"), (directory / "run.log").read_text()


@pytest.mark.usefixtures("srun")
def test_a_run_in_a_batch_job_is_one_run(tmp_path: Path, shell: Shell) -> None:
    status, said = shell(*SMALL)
    assert status == 0, said
    plain, log = left_in(tmp_path)
    inside, said_inside = started(tmp_path / "inside", **SCHEDULER, **LEFT)
    assert "srun" not in said + log + said_inside
    assert inside.metrics == plain.metrics
    assert inside.steps == plain.steps


@pytest.mark.slow
@pytest.mark.usefixtures("srun")
def test_several_processes_are_those_that_lightning_starts(tmp_path: Path) -> None:
    several = ["trainer.devices=2", "trainer.strategy=ddp"]
    plain, _ = started(tmp_path / "plain", *several)
    inside, said = started(tmp_path / "inside", *several, **SCHEDULER, **LEFT)
    assert "srun" not in said
    assert inside.metrics == plain.metrics


@pytest.mark.parametrize(
    ("variables", "several", "first"),
    [
        ({}, False, True),
        ({"RANK": "1", "LOCAL_RANK": "1", "SLURM_PROCID": "1"}, False, True),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0"}, True, True),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "0"}, True, False),
        ({processes.STARTED_BY: str(os.getppid()), "LOCAL_RANK": "1"}, True, False),
        ({processes.STARTED_BY: str(os.getppid()), "LOCAL_RANK": "0"}, False, True),
        ({processes.STARTED_BY: "1", "LOCAL_RANK": "1"}, False, True),
    ],
)
def test_who_is_one_of_several(
    variables: dict[str, str], several: bool, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.is_one_of_several() is several
    assert processes.is_first({"devices": 2}) is first
    assert processes.is_first({"devices": 1})
