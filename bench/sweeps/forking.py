"""The process that this machine's workers are forked from, on Linux.

It has imported what training needs: that takes seconds, and so it is done once, and while the sweep
is still being planned. The fork server itself does nothing else: neither threads nor CUDA survive a
fork.

Nothing heavy: it is begun before anything else is imported.
"""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

from bench import interruption

METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # Apple's libraries cannot be forked
LAUNCHER, THREADS = "hydra/launcher", "hydra.launcher.threads"
LAUNCHERS = ("parallel", "stacked", "auto")


def begin(threads: int) -> None:
    """Starts it, unless it is there; it imports in the background.

    Args:
        threads: of each process that will be forked from it.
    """
    if METHOD != "forkserver":
        return
    variables = {
        "OMP_NUM_THREADS": str(threads),  # read when OpenMP is loaded
        "OPENBLAS_NUM_THREADS": "1",  # numpy's starts its threads when it is loaded
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        "PYTHONSAFEPATH": "1",  # that path and nothing before it
    }
    multiprocessing.set_forkserver_preload(["bench.sweeps.fork_server", "bench.training"])
    with _blocked(), _no_words():
        resource_tracker.ensure_running()  # its start unblocks some
    with _environment(variables), _blocked():
        forkserver.ensure_running()


def foresee(words: Sequence[str], experiments: Path) -> None:
    """Starts it before anything else is imported, where the words of a command say that it makes a
    sweep in processes of this machine. One that is not needed in the end, since there is a mistake
    or all runs are made, ends with the command.

    Args:
        experiments: the directory of ours.
    """
    said = dict(word.split("=", 1) for word in words if "=" in word)
    flags = {word for word in words if word.startswith("-")}
    if flags - {"-m", "--multirun"} or said.get("hydra.mode") == "RUN":
        return
    if said.get(LAUNCHER, "auto") not in LAUNCHERS or THREADS in said:
        return
    if flags or _is_sweep(experiments / f"{said.get('experiment')}.yaml"):
        with suppress(OSError):  # whoever needs it will say why there is none
            begin(1)


def _is_sweep(experiment: Path) -> bool:
    try:
        return "mode: MULTIRUN" in experiment.read_text("utf-8")
    except OSError:
        return False


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _blocked() -> Iterator[None]:
    """For processes started herein, too: what a terminal or a scheduler sends to all of them is for
    this one to answer."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interruption.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _no_words() -> Iterator[None]:
    """For the resource tracker of `multiprocessing`: of one that was killed, the next one does not
    know what it has to forget, and says so in tracebacks."""
    warnings.filterwarnings("ignore", "resource_tracker: process died unexpectedly")
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)
