"""Where the tasks of a sweep are done: what plans a sweep knows of it only what stands here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bench.holding import Taken
from bench.settings.jobs import Job
from bench.sweeps.display import Running

T = TypeVar("T")
Task = Sequence[Job]  # one run, or several that train as a stack
# What else than its records, which lie in the runs' directories, a task leaves: why a run failed
# whose directory could not be written, or that another sweep makes one of its runs. It is small,
# so that a process that is killed while it says so has said all of it or nothing.
Outcome = Mapping[Path, str] | Taken


@dataclass(frozen=True)
class Place:
    """What tasks are done on.

    Attributes:
        device: ``cpu`` or ``cuda``.
        workers: how many tasks are done at a time; None for as many as there is room for, which is
            not known.
        what: by what, in words, and the plural: ``("process of 1 thread", ...)``.
        memory: bytes that each of them has for itself; None where all share what is free.
    """

    device: str
    workers: int | None
    what: tuple[str, str]
    memory: int | None = None


class Executor(Protocol):
    """Does tasks side by side, each by `bench.sweeps.making.make` in a process of its own, and asks
    what needs PyTorch in such a process, since the one that plans has none."""

    def begin(self) -> None:
        """Begins, in the background, what takes time before the first task."""

    def ask(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """What a function returns where tasks are done.

        Raises:
            BenchError: its process has died.
        """

    def place(self, job: Job) -> Place:
        """Where tasks like this job will be done."""

    def run(
        self,
        tasks: Sequence[Task],
        *,
        workers: int,
        ended: Callable[[Task, Outcome], None],
        show: Callable[[Iterable[Running]], None],
    ) -> None:
        """Does all tasks, each once: what dies with its process or its machine is done again, and
        has failed once it dies again and gets no further. An exception, an interrupt too, ends what
        is under way, which leaves its checkpoint.

        Args:
            workers: how many tasks are done at a time, at most.
            ended: is told of each task that has ended, in any order.
            show: is told now and then of what is being made.

        Raises:
            Unwritable: there is no room where the runs lie.
        """
