"""What a sweep ends with: the table of its study, and where to see more."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import ModuleType

from rich.console import Console
from rich.text import Text

from bench.board import all_runs, shown_from
from bench.runs import reason

MOST_RUNS = 20_000  # beyond, the statistics would take longer than a person waits for them


def prepare() -> None:
    """Imports what the table needs in a thread of its own: that takes seconds, and a sweep begins
    with waiting for its processes to import as much."""
    Thread(target=_try_modules, daemon=True).start()


def _try_modules() -> None:
    with suppress(Exception):  # `show` says it
        _modules()


def _modules() -> tuple[ModuleType, ...]:
    from bench import study
    from bench.report import contents, overview, terminal

    return study, contents, overview, terminal


def show(directories: Sequence[Path], notes: Console) -> bool:
    """Prints the result table of each study, and the two commands that show more. Whatever goes
    wrong, the runs are made: it is a note.

    Returns:
        Whether every table was printed.
    """
    console, whole = Console(), True
    for directory in directories:
        runs = 0
        try:
            runs = _table(directory, console)
            whole &= runs <= MOST_RUNS
        except (Exception, KeyboardInterrupt) as error:
            said = reason(error) if isinstance(error, Exception) else "interrupted"
            note = Text(f"{directory}: no table here ({said})", style="yellow")
            notes.print(note, highlight=False, soft_wrap=True)
            whole = False
        every = all_runs(directory, runs)
        for line in (
            f"report:  python -m bench.report {directory}",
            f"curves:  tensorboard --logdir {shown_from(directory)}",
            *([] if every is None else [f"of all:  {every}"]),
        ):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return whole


def _table(directory: Path, console: Console) -> int:
    """Prints it, unless there are too many runs; returns how many there are."""
    study, contents, overview, terminal = _modules()
    found = study.read(directory)
    if len(found.runs) <= MOST_RUNS:
        terminal.show(contents.gather(found), console)
    overview.Overview(directory).write(found)
    return len(found.runs)
