"""Runs and sweeps from Python, by what would be typed after ``python -m bench``."""

import codecs
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGINT
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from bench import interruption, runs
from bench.command_line import CONF, PLUGINS, carry_out, own_places, read
from bench.errors import BenchError
from bench.records import Record
from bench.settings import jobs, schema
from bench.settings.messages import ConfigError, explain, first_line, is_hydras
from bench.sweeps.composition import parse


def run(*overrides: str) -> Record:
    """Makes one run in this process, unless it is made already:

        record = bench.run("workload=mnist_mlp", "optimizer.lr=1e-3", "trainer.max_epochs=1")

    Returns:
        Its record. Its directory is where the command would have put it.

    Raises:
        BenchError: it cannot be made as configured, or failed.
    """
    made: list[Record] = []

    def task(composed: Any) -> None:
        job = jobs.plan(composed, jobs.plain_hydra(HydraConfig.get()))
        made.extend([found] if (found := job.finished()) is not None else runs.run_when_free(job))

    with as_a_command():
        said = read(["--run", *overrides])
        said.typed = list(overrides)
        carry_out(said, task)
    if not made:
        raise BenchError(f"{' '.join(overrides)}: makes no run")
    if made[0].status == "failed":
        raise BenchError(f"failed: {made[0].reason}")
    return made[0]


def sweep(*overrides: str) -> Path:
    """Makes a sweep, as ``python -m bench -m`` does and in a process of its own, whose progress is
    shown here:

        study = bench.sweep("experiment=quickstart", "study=mine")
        runs = bench.read_study(study)

    Returns:
        The directory of its study.

    Raises:
        BenchError: it cannot be made as configured, or some runs failed.
    """
    with as_a_command():
        study = _study_of(overrides)
    command = [sys.executable, "-m", "bench", "-m", *overrides]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    said = ""
    streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=environment, **streams) as process:
        assert process.stdout is not None
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        try:
            with interruption.raising():
                while chunk := os.read(process.stdout.fileno(), 1 << 16):  # as it comes
                    text = decode(chunk)
                    sys.stderr.write(text)
                    sys.stderr.flush()
                    said = (said + text)[-10_000:]
        except interruption.Interrupted as error:
            if error.signal != SIGINT or not os.isatty(0):  # from there it has it, too
                process.send_signal(error.signal)
            raise  # when it has kept what it can
    if process.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        ended = f"the sweep ended with status {process.returncode}"
        raise BenchError(lines[-1].removeprefix("error: ") if lines else ended)
    return study


def _study_of(overrides: Sequence[str]) -> Path:
    """Where the runs go. An experiment may say it, too."""
    said = read(list(overrides))
    chosen = []
    for line in said.overrides:
        (override,) = parse(line)
        if override.key_or_group in ("study", "runs_dir", "experiment"):
            if override.is_sweep_override():
                raise BenchError(f"{line}: a sweep is of one study")
            chosen.append(line)
    own_places[:] = said.places
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", chosen)
    return Path(config.runs_dir, config.study)


@contextmanager
def as_a_command() -> Iterator[None]:
    """What ``python -m bench`` sets up, and takes back: where things are found, and Hydra's state,
    which a program may have for itself. Errors are ours."""
    path, variables = list(sys.path), dict(os.environ)
    hydra, settings = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.path.append(str(PLUGINS))
    with suppress(FileNotFoundError):  # the directory is gone
        sys.path.insert(0, os.getcwd())
    GlobalHydra.instance().clear()
    try:
        schema.register()
        yield
    except SystemExit as error:
        raise BenchError(str(error.code).removeprefix("error: ")) from error
    except Exception as error:
        if isinstance(error, ConfigError):
            raise BenchError(explain(error)) from error
        if is_hydras(error):
            raise BenchError(first_line(error)) from error
        raise
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = hydra, settings
        own_places.clear()
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(variables)
