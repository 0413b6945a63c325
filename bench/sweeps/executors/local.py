"""Processes of this machine.

No torch at the top: this process plans and shows; its workers train.
"""

import functools
import multiprocessing
import os
import signal
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from bench import interruption
from bench.errors import BenchError
from bench.interruption import Interrupted
from bench.report import text
from bench.runs import Unwritable
from bench.settings.jobs import Job
from bench.sweeps import forking, making
from bench.sweeps.display import Running
from bench.sweeps.executors import Outcome, Place, Task
from bench.sweeps.forking import METHOD
from bench.sweeps.orphans import die_with_parent, follow_parent

T = TypeVar("T")
_told: Any  # of this process, where it is a worker: the steps done, and how many runs diverged

SHOWN_EVERY = 0.2  # seconds
ASKED_BY = (signal.SIGTERM, signal.SIGUSR1)  # a worker alone
TRIES = 10  # to start a process, or to have it say something, where others are killed meanwhile
MOST_STUCK = 2  # deaths of a process at one task that went no further in between
GRACE = 8.0  # seconds, for a checkpoint, once a worker is asked to end


class LocalExecutor:
    """
    Args:
        workers: processes; None for one on each GPU, without GPUs for as many as the cores allow.
        threads: threads of each process; None for one, so that a run that is made later, when few
            are missing, equals to the last bit what it would have been.
    """

    def __init__(self, *, workers: int | None, threads: int | None) -> None:
        self.workers = workers
        self.threads = threads or 1
        self.gpus = 0
        self.asked: ProcessPoolExecutor | None = None

    def begin(self) -> None:
        """Starts the fork server, which imports in the background."""
        forking.begin(self.threads)

    def ask(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """In one process for all questions, until `dismiss`."""
        for _ in range(TRIES):
            try:
                if self.asked is None:
                    self.asked, answer = self.submit(
                        _start_process, (), function, *arguments, **options
                    )
                else:
                    answer = self.asked.submit(function, *arguments, **options)
                return answer.result()
            except BrokenProcessPool:
                self.dismiss()
            except BaseException:
                self.dismiss()
                raise
        raise BenchError(
            "processes that were to prepare the runs were killed, or are out of memory; "
            "the same command goes on"
        )

    def dismiss(self) -> None:
        """Ends the process that was asked, with what it holds in memory."""
        if self.asked is not None:
            kill(self.asked)
            self.asked = None

    def submit(
        self, start: Callable[..., None], told: Sequence[Any], function: Callable[..., T],
        *arguments: Any, **options: Any,
    ) -> tuple[ProcessPoolExecutor, Future[T]]:  # fmt: skip
        """Has a function called in a new process, which begins with ``start(*told)``."""
        for _ in range(TRIES):
            self.begin()  # unless the fork server is there
            context = multiprocessing.get_context(METHOD)
            pool = ProcessPoolExecutor(1, context, initializer=start, initargs=tuple(told))
            try:
                return pool, pool.submit(function, *arguments, **options)
            except (OSError, EOFError):  # the fork server has died since
                kill(pool)
        raise BenchError("processes cannot be started: the fork server dies again and again")

    def place(self, job: Job) -> Place:
        wanted = job.config["trainer"]["accelerator"]
        self.gpus = self._visible_gpus if wanted in ("auto", "gpu", "cuda") else 0
        workers = self.workers or self.gpus or max(1, cores() // self.threads)
        threads = text.count(self.threads, "thread")
        what = (f"process of {threads}", f"processes of {threads}")
        return Place("cuda" if self.gpus else "cpu", workers, what)

    @functools.cached_property
    def _visible_gpus(self) -> int:
        return self.ask(_count_gpus)

    def run(
        self,
        tasks: Sequence[Task],
        *,
        workers: int,
        ended: Callable[[Task, Outcome], None],
        show: Callable[[Iterable[Running]], None],
    ) -> None:
        self.dismiss()
        waiting = deque(tasks)
        deaths: dict[int, Deaths] = defaultdict(Deaths)  # by the ids of tasks
        slots = [Slot(n, self) for n in range(workers)]
        idle, busy = list(slots), dict[Future[Any], Slot]()
        try:
            while waiting or busy:
                while waiting and idle:
                    slot = idle.pop(0)
                    busy[slot.start(waiting.popleft())] = slot
                show(slot.running for slot in busy.values())
                for future in wait(busy, SHOWN_EVERY, return_when=FIRST_COMPLETED).done:
                    slot = busy.pop(future)
                    idle.append(slot)
                    try:
                        came = future.result()
                    except BrokenProcessPool:
                        slot.kill()
                        if deaths[id(slot.task)].another(slot.told[0]) > MOST_STUCK:
                            ended(slot.task, making.fail(slot.task))
                        else:
                            waiting.appendleft(slot.task)
                        continue
                    if isinstance(came, Unwritable):
                        raise came
                    if isinstance(came, Interrupted):  # somebody asked this process alone to end
                        slot.kill()
                        waiting.appendleft(slot.task)
                    else:
                        ended(slot.task, came)
            show([])
        except BaseException:
            for slot in slots:
                slot.end()
            try:
                wait(busy, GRACE)
            finally:
                for slot in slots:
                    slot.kill()
            raise
        for slot in slots:
            slot.close()


class Deaths:
    """Of processes at one task, which goes on from its checkpoint each time."""

    def __init__(self) -> None:
        self.furthest, self.stuck = 0, 0

    def another(self, steps: int) -> int:
        """After so many steps; returns how many there were since it last went further."""
        self.stuck = 1 if steps > self.furthest else self.stuck + 1
        self.furthest = max(self.furthest, steps)
        return self.stuck


class Slot:
    """A process that does one task at a time, or the one that has taken its place."""

    def __init__(self, number: int, executor: LocalExecutor) -> None:
        self.executor = executor
        gpus = executor.gpus
        gpu = gpu_in_turn(number, gpus) if gpus > 1 else None
        # No lock, since one process writes: nothing that it could leave half done.
        self.told = multiprocessing.get_context(METHOD).RawArray("q", 2)
        self.options = (executor.threads, gpu, self.told)
        self.task: Task = []
        self.pool: ProcessPoolExecutor | None = None

    def start(self, task: Task) -> Future[Any]:
        self.task = task
        self.told[:] = 0, 0
        if self.pool is not None:
            try:
                return self.pool.submit(_make, task)
            except BrokenProcessPool:  # it died while it had nothing to do
                self.kill()
        self.pool, made = self.executor.submit(_start_worker, self.options, _make, task)
        return made

    @property
    def running(self) -> Running:
        return Running(self.task, *self.told)

    def end(self) -> None:
        """Asks for it."""
        if self.pool is not None:
            for process in processes(self.pool):
                process.terminate()

    def kill(self) -> None:
        """Another process takes its place, if there is anything left to do."""
        if self.pool is not None:
            kill(self.pool)
        self.pool = None

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()


def processes(pool: ProcessPoolExecutor) -> list[Any]:
    return list((pool._processes or {}).values())


def kill(pool: ProcessPoolExecutor) -> None:
    """Ends it without waiting for what it is at."""
    for process in processes(pool):
        process.kill()
    pool.shutdown(cancel_futures=True)


def _start_process() -> None:
    """Ends it with its parent, and with the fork server, which is its parent in the system's eyes:
    to the process that plans, one without the other is lost."""
    follow_parent()
    if METHOD == "forkserver":
        die_with_parent()


def _start_worker(threads: int, gpu: str | None, told: Any) -> None:
    """Prepares a process to train."""
    global _told
    _told = told
    _start_process()
    for number in interruption.SIGNALS:
        signal.signal(number, _note if number in ASKED_BY else _leave_to_parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, interruption.SIGNALS)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    import torch

    torch.set_num_threads(threads)


def _note(number: int, _: object) -> None:
    """However often: the parent ends who does not."""
    interruption.ask(number)


def _leave_to_parent(*_: object) -> None:
    """^C reaches every process of a terminal."""


def gpu_in_turn(turn: int, gpus: int) -> str:
    """One of the GPUs that are visible here, by its own name."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
    return visible.split(",")[turn % gpus]


def _make(task: Task) -> Outcome | Unwritable | Interrupted:
    """What ends a task early is told, not raised: with a traceback it would not be small."""

    def tell(steps: int, diverged: int) -> None:
        _told[:] = steps, diverged

    try:
        return making.make(task, tell)
    except (Unwritable, Interrupted) as ended:
        return ended.with_traceback(None)


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
