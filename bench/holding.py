"""Whoever makes a run holds its directory, so that two sweeps never make one run twice.

The hold is a lock on a file in the directory that the kernel frees with the process that has it,
however that ends. Across machines it works where the file system passes locks on: on NFS 4 it is
free when the process has ended, or, if its machine has died, when the server's lease is over (90
seconds as Linux sets it). Where a file system has no locks, the file itself is the lock; then one
that a dead machine has left must be removed by hand.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import BenchError

FILE_NAME = ".lock"
TRIES = 100  # while whoever had it takes the empty directory away


class Taken(BenchError):
    """Another process holds the directory.

    Attributes:
        directory: of the first run that is held.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory}: another process makes this run")
        self.directory = directory

    def __reduce__(self) -> tuple[type["Taken"], tuple[Path]]:
        return type(self), (self.directory,)


@contextmanager
def hold(directories: Sequence[Path]) -> Iterator[None]:
    """Holds all of them, or none: in one order for everybody, so that of several who want some of
    the same one gets what it wants. A directory that is not there is made, and removed again if
    nothing was put into it.

    Raises:
        Taken: another process holds one of them.
        OSError: one of them cannot be made or written.
    """
    with ExitStack() as held:
        for directory in sorted(directories):
            held.enter_context(_hold(directory))
        yield


def is_free(directory: Path) -> bool:
    """Whether nobody holds it now."""
    if not (directory / FILE_NAME).exists():
        return True
    try:
        with hold([directory]):
            return True
    except Taken:
        return False


@contextmanager
def _hold(directory: Path) -> Iterator[None]:
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    lock = FileLock(directory / FILE_NAME, blocking=False)
    for attempt in range(TRIES):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            break
        except Timeout as error:
            raise Taken(directory) from error
        except (FileNotFoundError, FileExistsError):  # it went while it was looked at
            if attempt == TRIES - 1:
                raise
    try:
        yield
    finally:
        with suppress(OSError):
            (directory / FILE_NAME).unlink()  # while it is held: who waits for it sees that
        lock.release()
        for path in missing:
            with suppress(OSError):
                path.rmdir()
