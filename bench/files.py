"""Reading files that others may have put there: whatever lies at a path, it takes no time and no
memory to find out that it is not what was expected."""

import os
import stat
from pathlib import Path

from bench.errors import BenchError


def read(path: Path, *, most: int) -> bytes:
    """The content of a regular file.

    Args:
        most: bytes; a larger file is refused unread.

    Raises:
        BenchError: there is no such file, it cannot be read, it is a directory, a pipe or a device
            (a link is what it leads to), or it is too large.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise BenchError(f"{path}: cannot be read (a pipe or a device, not a file)")
            content = file.read(min(about.st_size, most) + 1)  # memory is taken for as much
            content += file.read(most + 1 - len(content)) if len(content) > about.st_size else b""
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > most:
        raise BenchError(f"{path}: cannot be read (larger than {most / 1e6:g} MB)")
    return content


def _without_waiting(path: str, flags: int) -> int:
    """Not even for the other end of a pipe, which may never come."""
    return os.open(path, flags | os.O_NONBLOCK)
