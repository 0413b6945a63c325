"""A task where it is done: what every executor calls, in a process that trains."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from tempfile import TemporaryFile
from typing import Any

from bench import interruption, records, runs
from bench.holding import Taken
from bench.interruption import Interrupted
from bench.records import Record
from bench.runs import Unwritable
from bench.settings.jobs import Job
from bench.sweeps.executors import Outcome, Task
from bench.sweeps.orphans import die_with_parent

SHOWN = ("enable_progress_bar", "enable_model_summary")  # by one run alone
WAIT = 0.2  # seconds
LOST = "its process ended without a word (killed, or out of memory)"


def make(task: Task, tell: Callable[[int, int], None]) -> Outcome:
    """Makes the runs of a task that are not made yet. One that cannot be made has failed, and does
    not stop the others.

    Args:
        tell: is told of the optimizer steps done, and how many runs have diverged.

    Raises:
        Unwritable: there is no room where the runs lie.
        Interrupted: this process was asked to end; what it made up to then is kept.
    """
    try:
        if task[0].config["trainer"]["devices"] != 1:
            for job in task:
                _make_on_several_devices(job)
            return {}
        _allow_files()
        made = runs.run([replace(job, config=silent(job.config)) for job in task], tell=tell)
        return unwritten(task, made)
    except Taken as taken:
        return taken
    except Unwritable:
        raise
    except Exception as error:
        return fail(task, runs.reason(error))


def fail(task: Task, why: str = LOST) -> Outcome:
    """That the runs of a task that have no record could not be made."""
    try:
        return unwritten(task, [runs.fail(job, why) for job in task])
    except Taken as taken:
        return taken


def unwritten(task: Task, made: Sequence[Record]) -> Outcome:
    """Why runs failed whose record is not in their directory."""
    return {
        job.directory: record.reason or LOST
        for job, record in zip(task, made, strict=True)
        if record.status == "failed" and not (job.directory / records.FILE_NAME).is_file()
    }


def _make_on_several_devices(job: Job) -> None:
    """In a command of its own: Lightning starts the other processes by repeating the command."""
    quiet = ["hydra.mode=RUN", *(f"trainer.{key}=false" for key in SHOWN)]
    command = [sys.executable, "-m", "bench", *job.overrides, *quiet]
    with TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )  # fmt: skip
        while process.poll() is None:
            if (asked := interruption.asked()) is not None:
                process.terminate()
                process.wait()
                raise Interrupted(asked)
            time.sleep(WAIT)
        if job.finished() is None:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or [LOST]
            runs.fail(job, lines[-1].removeprefix("error: "))


def _allow_files() -> None:
    """As many open files as this process may have: a stack has several for each run."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # where there is no limit, or it cannot be said so
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def silent(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"trainer": config["trainer"] | dict.fromkeys(SHOWN, False)}
