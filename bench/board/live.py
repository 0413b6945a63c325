"""Keeps a study's overview up to date while its runs are made, in a process of its own.

It takes a thirtieth of a processor at most, once it has imported what it needs.
What cannot be shown never stops a sweep.
"""

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench import records
from bench.sweeps.forking import METHOD

FIRST, REST = 2.0, 30  # seconds; how many times as long as it took to compute
PATIENCE = 5  # seconds, for its end


@contextmanager
def following(studies: Sequence[Path]) -> Iterator[None]:
    """Writes the overview of each study after runs have ended; whoever ends it writes the last."""
    context: Any = multiprocessing.get_context(METHOD)
    ours, theirs = context.Pipe()
    follower = context.Process(target=_follow, args=(list(studies), theirs), daemon=True)
    with suppress(OSError, EOFError):  # the fork server has died
        follower.start()
    theirs.close()
    try:
        yield
    finally:
        ours.close()
        if follower.pid is not None:
            follower.terminate()
            follower.join(PATIENCE)


def _follow(studies: Sequence[Path], parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # by which that ends this one
    with suppress(Exception):
        from bench import study as reading
        from bench.report.overview import Overview

        overviews = [Overview(study) for study in studies]
        seen: list[object] = [None] * len(studies)
        rest, ended = FIRST, False
        while not ended:
            ended = _closed(parent, rest)
            started = time.process_time()
            for i, overview in enumerate(overviews):
                there = _records(overview.directory)
                if there and there != seen[i]:
                    overview.write(reading.read(overview.directory))
                    seen[i] = there
            rest = max(FIRST, REST * (time.process_time() - started))


def _closed(parent: Connection, seconds: float) -> bool:
    """Whether the sweep has ended, once it has or after so many seconds."""
    try:
        if parent.poll(seconds):
            parent.recv()
    except (EOFError, OSError):
        return True
    return False


def _records(study: Path) -> set[tuple[str, int]]:
    """Those that are there, and from when."""
    found = set()
    for path in study.glob(f"*/*/*/{records.FILE_NAME}"):
        with suppress(OSError):
            found.add((str(path), path.stat().st_mtime_ns))
    return found
