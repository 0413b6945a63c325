"""No process of a sweep outlives it, however it ends."""

import ctypes
import os
import signal
import sys
import threading
from multiprocessing import connection, parent_process

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def follow_parent() -> None:
    """Ends this process, one that `multiprocessing` has started, when its parent has ended."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """The same for any process, on Linux: by the kernel, whatever this process is at, and for the
    program that it goes on with."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
