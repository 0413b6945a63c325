"""How a sweep shows what it is at."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.records import Record
from bench.settings.jobs import Job
from bench.settings.schema import total_steps


@dataclass(frozen=True)
class Running:
    """A task that is being made: its runs, the optimizer steps done, how many have diverged."""

    task: Sequence[Job]
    steps: int
    diverged: int


class Display:
    """Runs by what has become of them, and a bar and the time left that go by optimizer steps. A
    run that has ended, or diverged, counts as all of its steps.

    Args:
        jobs: all that are to be made.
    """

    def __init__(self, console: Console, jobs: Sequence[Job]) -> None:
        self.runs = len(jobs)
        self.ended: Counter[str] = Counter()
        self.ended_steps = 0
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        total = sum(total_steps(job.config) for job in jobs)
        self.task = self.progress.add_task(f"0/{self.runs} done", total=total)

    def __enter__(self) -> "Display":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def add(self, job: Job, record: Record) -> None:
        self.ended[record.status] += 1
        self.ended_steps += total_steps(job.config)

    def show(self, running: Iterable[Running]) -> None:
        steps, counts = self.ended_steps, Counter(self.ended)
        for one in running:
            left = len(one.task) - one.diverged
            steps += one.diverged * total_steps(one.task[0].config) + left * one.steps
            counts += Counter(running=left, diverged=one.diverged)
        said = [f"{self.ended.total()}/{self.runs} done"]
        said += [f"[{style}]{counts[key]} {key}[/]" for key, style in STYLES.items() if counts[key]]
        self.progress.update(self.task, completed=steps, description=", ".join(said))


STYLES = {"running": "dim", "diverged": "yellow", "failed": "red"}
