"""Processes that make the runs of a sweep.

On Linux they are forked from a fork server, a process that has imported what training needs: that
takes seconds, and so it is done once, and while the sweep is still being planned. The fork server
itself does nothing else: neither threads nor CUDA survive a fork.

No torch at the top: this process plans and shows; its workers train.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, TypeVar

from bench.records import Record
from bench.settings import jobs as single_job
from bench.settings.jobs import Job
from bench.sweeps.display import Running

T = TypeVar("T")
_reports: "Reports"  # of this process, where it is a worker

METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # Apple's libraries cannot be forked
SHOWN = ("enable_progress_bar", "enable_model_summary")  # by one run alone
SHOWN_EVERY = 0.2  # seconds
LOST = "its process ended without a word (killed, or out of memory)"


def start_importing(threads: int) -> None:
    """Starts the fork server, which imports in the background; for workers of so many threads."""
    if METHOD != "forkserver":
        return
    variables = {
        "OMP_NUM_THREADS": str(threads),  # read when OpenMP is loaded
        "OPENBLAS_NUM_THREADS": "1",  # numpy's starts its threads when it is loaded
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        "PYTHONSAFEPATH": "1",  # that path and nothing before it
    }
    multiprocessing.set_forkserver_preload(["bench.training"])
    resource_tracker.ensure_running()  # its start unblocks interrupts
    with _environment(variables), _interrupts_blocked():
        forkserver.ensure_running()


def ask(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """What a function returns in another process: for what needs torch, which this one spares."""
    with ProcessPoolExecutor(1, multiprocessing.get_context(METHOD)) as pool:
        return pool.submit(function, *arguments, **options).result()


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
def _interrupts_blocked() -> Iterator[None]:
    """For processes started herein, too: ^C reaches all of a terminal, and one that is importing
    would answer it with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Pool:
    """Processes that make runs. One that dies takes only its own task with it: the tasks that are
    left are run each in a pool of its own, and one that dies there too has failed.

    Args:
        add: is told of each run that has ended.
        show: is told now and then of what is being made.
    """

    def __init__(
        self,
        *,
        workers: int,
        threads: int,
        gpus: int,
        add: Callable[[Job, Record], None],
        show: Callable[[Iterable[Running]], None],
    ) -> None:
        self.workers = workers
        self.threads = threads
        self.gpus = gpus
        self.add = add
        self.show = show
        self.done: set[Path] = set()

    def run(self, tasks: Sequence[list[Job]]) -> None:
        for task in self._attempt(tasks, self.workers):
            for lost in self._attempt([task], 1):
                self._add(lost, [single_job.fail(job, LOST) for job in lost])

    def _attempt(self, tasks: Sequence[list[Job]], workers: int) -> list[list[Job]]:
        """Runs tasks until all are done or a process dies; returns those that were not done."""
        context = multiprocessing.get_context(METHOD)
        reports = Reports(context, len(tasks))
        start = (self.threads, self.gpus, context.Value("i", 0), reports)
        pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=start)
        try:
            made = {pool.submit(_run_task, *numbered): numbered for numbered in enumerate(tasks)}
            while made:
                self._show(tasks, workers, reports)
                for future in wait(made, SHOWN_EVERY, return_when=FIRST_COMPLETED).done:
                    _, task = made.pop(future)
                    with suppress(BrokenProcessPool):
                        self._add(task, future.result())
            self._show(tasks, workers, reports)
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.kill()  # Lightning makes SIGTERM an exception, and a worker would go on
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return [task for task in tasks if task[0].directory not in self.done]

    def _show(self, tasks: Sequence[list[Job]], workers: int, reports: "Reports") -> None:
        """Tasks start in order, so those running are the first that are not done."""
        numbered = enumerate(tasks)
        open_tasks = [(n, task) for n, task in numbered if task[0].directory not in self.done]
        self.show(
            Running(task, reports.steps[n], reports.diverged[n]) for n, task in open_tasks[:workers]
        )

    def _add(self, task: Sequence[Job], made: Sequence[Record]) -> None:
        for job, record in zip(task, made, strict=True):
            self.done.add(job.directory)
            self.add(job, record)


class Reports:
    """What workers say of each task by its number, in shared memory: no lock, since only one writes
    to a place, and nothing that a worker could leave half done."""

    def __init__(self, context: BaseContext, tasks: int) -> None:
        self.steps = context.RawArray("q", tasks)
        self.diverged = context.RawArray("q", tasks)


def _start_worker(threads: int, gpus: int, started: Any, reports: Reports) -> None:
    """Ends this process with its parent, and prepares it to train, each on the next GPU in turn."""
    global _reports
    _reports = reports
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    signal.signal(signal.SIGINT, _leave_to_parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if gpus > 1:
        with started.get_lock():
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu_in_turn(started.value, gpus)
            started.value += 1
    import torch

    torch.set_num_threads(threads)


def gpu_in_turn(turn: int, gpus: int) -> str:
    """One of the GPUs that are visible here, by its own name."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
    return visible.split(",")[turn % gpus]


def _leave_to_parent(*_: object) -> None:
    """^C reaches every process of a terminal; Lightning would answer it with a long farewell."""


def _run_task(number: int, task: list[Job]) -> list[Record]:
    def tell(steps: int, diverged: int) -> None:
        _reports.steps[number] = steps
        _reports.diverged[number] = diverged

    if task[0].config["trainer"]["devices"] != 1:
        return [_run_on_several_devices(job) for job in task]
    quiet = [replace(job, config=silent(job.config)) for job in task]
    try:
        return single_job.run(quiet, tell=tell)
    except Exception as error:  # one task that cannot be made does not stop the others
        return [single_job.fail(job, single_job.reason(error)) for job in task]


def _run_on_several_devices(job: Job) -> Record:
    """In a command of its own: Lightning starts the other processes by repeating the command."""
    quiet = ["hydra.mode=RUN", *(f"trainer.{key}=false" for key in SHOWN)]
    command = [sys.executable, "-m", "bench", *job.overrides, *quiet]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    record = job.finished()
    if record is None:
        said = ended.stderr.strip().splitlines() or [LOST]
        return single_job.fail(job, said[-1].removeprefix("error: "))
    return record


def silent(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"trainer": config["trainer"] | dict.fromkeys(SHOWN, False)}
