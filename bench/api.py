"""Runs and sweeps from Python, by what would be typed after ``python -m bench``."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from bench.command_line import CONF, PLUGINS, carry_out, own_places, read
from bench.errors import BenchError
from bench.records import Record
from bench.settings import jobs, schema
from bench.settings.messages import ConfigError, explain


def run(*overrides: str) -> Record:
    """Makes one run in this process, unless it is made already::

        record = bench.run("workload=mnist_mlp", "optimizer.lr=1e-3", "trainer.max_epochs=1")

    Returns:
        Its record. Its directory is where the command would have put it.

    Raises:
        BenchError: it cannot be made as configured, or failed.
    """
    made: list[Record] = []

    def task(composed: Any) -> None:
        job = jobs.plan(composed, jobs.plain_hydra(HydraConfig.get()))
        made.extend([found] if (found := job.finished()) is not None else jobs.run([job]))

    with _as_a_command():
        carry_out(read(["--run", *overrides]), task)
    (record,) = made
    if record.status == "failed":
        raise BenchError(f"failed: {record.reason}")
    return record


def sweep(*overrides: str) -> Path:
    """Makes a sweep, as ``python -m bench -m`` does and in a process of its own, whose progress is
    shown here::

        study = bench.sweep("experiment=quickstart", "study=mine")
        runs = bench.read_study(study)

    Returns:
        The directory of its study.

    Raises:
        BenchError: it cannot be made as configured, or some runs failed.
    """
    command = [sys.executable, "-m", "bench", "-m", *overrides]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    last = ""
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            sys.stderr.write(line)
            last = line.strip() or last
    if process.returncode:
        raise BenchError(last.removeprefix("error: "))
    return _study_of(overrides)


def _study_of(overrides: tuple[str, ...]) -> Path:
    """Where runs go that are swept over other keys than these."""
    with _as_a_command():
        said = read(list(overrides))
        own_places[:] = said.places
        GlobalHydra.instance().clear()
        decisive = ("study=", "runs_dir=", "experiment=")
        chosen = [line for line in said.overrides if line.startswith(decisive)]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", chosen)
        return Path(config.runs_dir, config.study)


@contextmanager
def _as_a_command() -> Iterator[None]:
    """What ``python -m bench`` sets up, and takes back: where things are found, and Hydra's state.
    Errors are ours."""
    path, variables = list(sys.path), dict(os.environ)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.path.append(str(PLUGINS))
    with suppress(FileNotFoundError):  # the directory is gone
        sys.path.insert(0, os.getcwd())
    try:
        schema.register()
        yield
    except ConfigError as error:
        raise BenchError(explain(error)) from error
    except SystemExit as error:
        raise BenchError(str(error.code).removeprefix("error: ")) from error
    finally:
        GlobalHydra.instance().clear()
        own_places.clear()
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(variables)
