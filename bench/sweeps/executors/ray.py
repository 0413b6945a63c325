"""Processes of a Ray cluster: of one that lasts as long as the sweep, on this machine, or of one
that is there. The machines share a file system, on which this process's directory and the runs lie.

Each process is an actor that does one task at a time and, meanwhile, says how far it is. That asks
for threads; so what trains is not the main thread there, and signals are passed on as calls.
"""

import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, TypeVar

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from bench import interruption
from bench.errors import BenchError
from bench.interruption import Interrupted
from bench.report import text
from bench.runs import Unwritable
from bench.settings.jobs import Job
from bench.sweeps import making
from bench.sweeps.display import Running
from bench.sweeps.executors import Outcome, Place, Task
from bench.sweeps.executors.local import GRACE, SHOWN_EVERY, cores
from bench.sweeps.executors.ray_cluster import FAILED

T = TypeVar("T")

TOLD_EVERY = 1.0  # seconds
CALLS = 3  # of an actor at a time: the task, how far it is, that it should end
MOST_LOST = 5  # machines that one task may lose, before it counts as what ends them
MOST_STARTS = 3  # of a process, until its start counts as impossible


@contextmanager
def _as_raised() -> Iterator[None]:
    """What a signal's handler raises while Ray waits: Ray wraps it."""
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, Interrupted | KeyboardInterrupt):
            raise error.__cause__ from None
        raise


class RayExecutor:
    """To be closed. Before this module is imported, `ray_cluster.prepare` must have been called.

    Args:
        address: of the cluster, as `ray.init` takes it; None for one of its own.
        workers: the most tasks at a time; None for as many as the cluster has room for.
        cpus: of each task; None for as many as it has threads.
        gpus: of each task; None for one, if the cluster has any.
        threads: of each task; None for one, as `LocalExecutor` has it.
    """

    def __init__(
        self,
        *,
        address: str | None,
        workers: int | None,
        cpus: float | None,
        gpus: float | None,
        threads: int | None,
    ) -> None:
        self.address = address
        self.workers = workers
        self.threads = threads or 1
        self.cpus = float(self.threads if cpus is None else cpus)
        self.wanted_gpus = gpus
        self.gpus = 0.0
        self.slots: list[Slot] = []
        self.cluster: subprocess.Popen[str] | None = None
        self.connected = False

    @property
    def variables(self) -> dict[str, str]:
        """Of the processes."""
        own = {
            "OMP_NUM_THREADS": str(self.threads),  # read when OpenMP is loaded
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        }
        return own if self.gpus else own | {"CUDA_VISIBLE_DEVICES": ""}

    def begin(self) -> None:
        """Starts the cluster, if it is to be one of its own."""
        if self.address is not None or self.cluster is not None:
            return
        self.cluster = subprocess.Popen(
            [sys.executable, "-m", "bench.sweeps.executors.ray_cluster", str(cores())],
            env=os.environ | {"PYTHONPATH": self.variables["PYTHONPATH"]},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,  # ^C is for this process to answer
        )  # fmt: skip

    def close(self) -> None:
        """Ends its processes, and its cluster if that is its own."""
        self._end_processes()
        if self.connected:
            ray.shutdown()
            self.connected = False
        if self.cluster is not None:
            assert self.cluster.stdin is not None
            self.cluster.stdin.close()
            self.cluster.wait()
            self.cluster = None

    @_as_raised()
    def ask(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        (slot,) = self._processes(1)
        try:
            ray.get(slot.ready)
            came = ray.get(slot.actor.call.remote(function, arguments, options))
        except RayError as error:
            self._end_processes()
            raise BenchError(
                f"a process of the Ray cluster that was to prepare the runs: {_reason(error)}"
            ) from error
        if isinstance(came, Raised):
            raise came.error
        return came

    @_as_raised()
    def place(self, job: Job) -> Place:
        self._connect()
        gpus = 0.0
        if job.config["trainer"]["accelerator"] in ("auto", "gpu", "cuda"):
            there = any(node.get("GPU", 0) for node in _machines().values())
            gpus = float(there) if self.wanted_gpus is None else self.wanted_gpus
        if gpus != self.gpus:
            self._end_processes()
            self.gpus = gpus
        threads = text.count(self.threads, "thread")
        what = (f"Ray process of {threads}", f"Ray processes of {threads}")
        workers = min(self.workers or inf, self._room())
        return Place("cuda" if self.gpus else "cpu", int(workers), what)

    @_as_raised()
    def run(
        self,
        tasks: Sequence[Task],
        *,
        workers: int,
        ended: Callable[[Task, Outcome], None],
        show: Callable[[Iterable[Running]], None],
    ) -> None:
        waiting = deque(tasks)
        died, lost = Counter[int](), Counter[int]()  # by the ids of tasks
        starting = {slot.ready: slot for slot in self._processes(workers)}
        idle, busy = list[Slot](), dict[Any, Slot]()
        try:
            while waiting or busy:
                while waiting and idle:
                    slot = idle.pop()
                    busy[slot.start(waiting.popleft())] = slot
                show(slot.running() for slot in busy.values())
                for done in _done([*busy, *starting]):
                    if done in starting:
                        slot = starting.pop(done)
                        if slot.has_started():
                            idle.append(slot)
                        else:
                            starting[slot.renew()] = slot
                        continue
                    slot = busy.pop(done)
                    task = slot.task
                    try:
                        came = ray.get(done)
                    except RayActorError as error:
                        (lost if slot.lost_machine(error) else died)[id(task)] += 1
                        starting[slot.renew()] = slot
                        if died[id(task)] > 1 or lost[id(task)] > MOST_LOST:
                            ended(task, making.fail(task))
                        else:
                            waiting.appendleft(task)
                        continue
                    if isinstance(came, Unwritable):
                        raise came
                    if isinstance(came, Interrupted):  # somebody asked this process alone to end
                        starting[slot.renew()] = slot
                        waiting.appendleft(task)
                    else:
                        idle.append(slot)
                        ended(task, came)
            show([])
        except BaseException:
            self._interrupt(busy)
            raise
        for slot in starting.values():  # for which there is no room any more
            slot.end()
            self.slots.remove(slot)

    def _interrupt(self, busy: Mapping[Any, "Slot"]) -> None:
        try:
            for slot in busy.values():
                slot.actor.interrupt.remote(signal.SIGTERM)
            if busy:
                ray.wait(list(busy), num_returns=len(busy), timeout=GRACE)
        finally:
            self._end_processes()

    def _processes(self, number: int) -> list["Slot"]:
        """That many; they stay from one part of a search to the next."""
        self._connect()
        if not self._room():
            raise BenchError(
                f"hydra/launcher=ray: no machine of the cluster has {self.cpus:g} CPUs and "
                f"{self.gpus:g} GPUs for a task; see hydra.launcher.cpus and hydra.launcher.gpus"
            )
        while len(self.slots) < number:
            self.slots.append(Slot(self))
        return self.slots[:number]

    def _end_processes(self) -> None:
        for slot in self.slots:
            slot.end()
        self.slots = []

    def _connect(self) -> None:
        if self.connected:
            return
        self.begin()
        before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
        try:
            ray.init(
                self.address or self._own_address(),
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BenchError(f"hydra.launcher.address={self.address}: {_reason(error)}") from error
        finally:
            for number, handler in before.items():  # Ray takes that of SIGTERM
                signal.signal(number, handler)
        self.connected = True

    def _own_address(self) -> str:
        assert self.cluster is not None
        assert self.cluster.stdout is not None
        said = self.cluster.stdout.readline().strip()
        if not said or said.startswith(FAILED):
            raise BenchError(f"hydra/launcher=ray: no cluster here: {said.removeprefix(FAILED)}")
        return said

    def _room(self) -> int:
        """How many tasks fit at a time on the machines that are there."""
        return sum(map(self._room_on, _machines().values()))

    def _room_on(self, has: Mapping[str, float]) -> int:
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        rooms = [has.get(kind, 0) / each + 1e-9 for kind, each in wanted.items() if each]
        return int(min(rooms))


class Slot:
    """A process that does one task at a time, or the one that has taken its place.

    Attributes:
        ready: what says, once it is there, that the process is.
    """

    def __init__(self, executor: RayExecutor) -> None:
        self.executor = executor
        self.task: Task = []
        self.starts = 0
        self.begin()

    def begin(self) -> Any:
        executor = self.executor
        process: Any = ray.remote(Process)
        self.actor = process.options(
            num_cpus=executor.cpus,
            num_gpus=executor.gpus,
            max_concurrency=CALLS,
            max_restarts=0,
            runtime_env={"env_vars": executor.variables},
        ).remote(executor.threads, os.getcwd())
        self.machine = ""
        self.ready = self.actor.where.remote()
        return self.ready

    def has_started(self) -> bool:
        """Whether it has, or died before.

        Raises:
            BenchError: it cannot start.
        """
        try:
            self.machine = ray.get(self.ready)
        except RayActorError as error:
            self.starts += 1
            if self.starts == MOST_STARTS:
                raise BenchError(
                    f"a process of the Ray cluster cannot start: {_reason(error)}"
                ) from error
            return False
        self.starts = 0
        return True

    def start(self, task: Task) -> Any:
        self.task = task
        self.told, self.telling, self.looked = (0, 0), None, time.monotonic()
        return self.actor.make.remote(task)

    def running(self) -> Running:
        """What it was at when it last said so; it is asked again once it has."""
        now = time.monotonic()
        if self.telling is None:
            if now > self.looked + TOLD_EVERY:
                self.telling, self.looked = self.actor.told.remote(), now
        elif ray.wait([self.telling], timeout=0)[0]:
            with suppress(RayError):
                self.told = ray.get(self.telling)
            self.telling = None
        return Running(self.task, *self.told)

    def lost_machine(self, error: RayActorError) -> bool:
        """Whether the process ended with its machine, or cannot be reached."""
        return isinstance(error, ActorUnavailableError) or self.machine not in _machines()

    def renew(self) -> Any:
        """Another process in its place."""
        self.end()
        return self.begin()

    def end(self) -> None:
        with suppress(RayError):
            ray.kill(self.actor)


class Raised:
    """What a function raised: thrown by Ray, it would come as a text with a traceback."""

    def __init__(self, error: Exception) -> None:
        self.error = error.with_traceback(None)


class Process:
    """What is in a process of the cluster. Threads take turns at its tasks."""

    def __init__(self, threads: int, directory: str) -> None:
        os.chdir(directory)
        importlib.import_module("bench.training")
        self.threads = threads
        self.progress = 0, 0

    def where(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def call(
        self, function: Callable[..., T], arguments: Sequence[Any], options: Mapping[str, Any]
    ) -> T | Raised:
        self._prepare_thread()
        try:
            return function(*arguments, **options)
        except Exception as error:
            return Raised(error)

    def make(self, task: Task) -> Outcome | Unwritable | Interrupted:
        self._prepare_thread()
        self.progress = 0, 0
        try:
            return making.make(task, self._tell)
        except (Unwritable, Interrupted) as ended:
            return ended.with_traceback(None)

    def told(self) -> tuple[int, int]:
        return self.progress

    def interrupt(self, number: int) -> None:
        interruption.ask(number)

    def _prepare_thread(self) -> None:
        import torch

        torch.set_num_threads(self.threads)  # of the thread that says it

    def _tell(self, steps: int, diverged: int) -> None:
        self.progress = steps, diverged


def _machines() -> dict[str, dict[str, float]]:
    """What each has, of those that are there."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _done(awaited: list[Any]) -> list[Any]:
    """Those that are there, as soon as one of them is, but now and then without any."""
    ray.wait(awaited, timeout=SHOWN_EVERY)
    return ray.wait(awaited, num_returns=len(awaited), timeout=0)[0]


def _reason(error: Exception) -> str:
    """Its last line, which is what a process raised, if that is why."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
