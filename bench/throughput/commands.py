"""Commands that are measured, each a process of its own: seconds and peak memory."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench import records
from bench.errors import BenchError
from bench.records import Record


@dataclass(frozen=True)
class Command:
    """A sweep from the shell: how long it took, the memory of its largest process, its records."""

    seconds: float
    peak_bytes: int
    records: list[Record]


def sweep(launcher: str, device: str, *overrides: str) -> Command:
    """Makes a sweep in a directory of its own.

    Raises:
        BenchError: it failed, or not all of its runs took all their steps.
    """
    with tempfile.TemporaryDirectory() as directory:
        seconds, peak_bytes = python(
            *("-m", "bench", "-m", f"hydra/launcher={launcher}", f"runs_dir={directory}"),
            *(f"trainer.accelerator={device}", *overrides),
        )
        made = [records.read(path) for path in Path(directory).glob(f"**/{records.FILE_NAME}")]
    if not made or any(record.status != "completed" for record in made):
        raise BenchError(f"{launcher} {' '.join(overrides)}: not every run was completed")
    return Command(seconds, peak_bytes, made)


def python(*arguments: str) -> tuple[float, int]:
    """Seconds a Python process takes, and the peak memory of the largest process it was or had.

    Raises:
        BenchError: it failed.
    """
    adopt_orphans()
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            peaks = [usage.ru_maxrss, *(usage.ru_maxrss for usage in left_behind(process.pid))]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise BenchError(f"python {' '.join(arguments)} failed:\n{output.read()[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, max(peaks) * unit


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave behind, on Linux: workers belong to
    a fork server, which ends after the command that has started it."""
    if sys.platform == "linux":
        PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def left_behind(group: int) -> Iterator["resource.struct_rusage"]:
    """What the orphans of a process group, and all that those had, have used; waits for them."""
    with suppress(ChildProcessError):
        while True:
            yield os.wait4(-group, 0)[2]
