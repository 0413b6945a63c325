"""How a sweep shows what it is at."""

from collections import Counter

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.records import Record


class Display:
    """Running, done, diverged, failed and the time left, on one line."""

    def __init__(self, console: Console, total: int) -> None:
        self.counts: Counter[str] = Counter()
        self.progress = Progress(
            TextColumn("runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.progress.add_task("runs", total=total, counts="")

    def __enter__(self) -> "Display":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def add(self, record: Record) -> None:
        self.counts[record.status] += 1
        self.progress.advance(self.task)

    def show(self, *, running: int) -> None:
        self.counts["running"] = running
        counts = ", ".join(
            f"[{style}]{self.counts[status]} {status}[/]"
            for status, style in STYLES.items()
            if self.counts[status]
        )
        self.progress.update(self.task, counts=counts)


STYLES = {"running": "dim", "completed": "green", "diverged": "yellow", "failed": "red"}
