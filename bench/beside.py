"""One run is planned in a process beside the one that makes it, which meanwhile imports what
training takes. Each is more than a second of Python's own work, so threads would not do.

The process that plans is forked before anything is imported. It says what the run is, and hands it
over; where there is nothing to make, since the run is made or there is a mistake, it has said so,
and both end.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from bench import interruption
from bench.processes import is_one_of_several
from bench.sweeps.orphans import die_with_parent

if TYPE_CHECKING:
    from bench.settings.jobs import Job

_to_maker: Connection | None = None  # of a process that plans


def foreseen(words: Sequence[str]) -> bool:
    """Whether a command of these words is one run, as far as words can tell, and this process can
    still be doubled."""
    plain = all("=" in word and word[0].isalpha() for word in words)
    keys = {word.partition("=")[0] for word in words}
    ours = not any(key == "experiment" or key.startswith("hydra") for key in keys)
    return plain and ours and sys.platform == "linux" and not is_one_of_several() and _early()


def _early() -> bool:
    """Whether nothing has begun that would not survive, or that a debugger follows."""
    untouched = threading.active_count() == 1 and "torch" not in sys.modules
    return untouched and sys.gettrace() is None


def plan() -> Maker | None:
    """Makes a second process, which is to plan. To that one it gives None; as where there cannot be
    a second one."""
    global _to_maker
    planner, maker = Pipe(duplex=False)
    own = os.getpid()
    try:
        process = os.fork()
    except OSError:  # there are as many as there may be
        planner.close()
        maker.close()
        return None
    if process:
        maker.close()
        return Maker(planner, process)
    signal.pthread_sigmask(signal.SIG_BLOCK, interruption.SIGNALS)  # answered by the other, once
    die_with_parent()
    if os.getppid() != own:  # it has ended before it could be followed
        os._exit(1)
    planner.close()
    _to_maker = maker
    return None


def hand_over(job: Job | None) -> bool:
    """Gives a job, about which everything is said, to the process that is to make it; None where it
    is to plan itself. Whether there is such a process."""
    if _to_maker is None:
        return False
    _to_maker.send_bytes(pickle.dumps(job))
    return True


def plans() -> bool:
    """Whether this is a process that plans for another."""
    return _to_maker is not None


class Maker:
    """In the process that makes the run: it gets ready, and asks what there is to be made.

    Args:
        planner: what the other process writes to.
        process: its number.
    """

    def __init__(self, planner: Connection, process: int) -> None:
        self.planner, self.process = planner, process
        self.received: bytes = b""
        self.listener = threading.Thread(target=self._listen, daemon=True)

    def job(self) -> Job | None:
        """The run, once what it takes is imported; None where it is to be planned here. Ends this
        process, whatever it imports, with the other's status if that ends without a run."""
        from bench import light_imports

        self.listener.start()
        light_imports.fetch_libraries()
        import bench.training  # noqa: F401 - what takes the time

        self.listener.join()
        job: Job | None = pickle.loads(self.received)
        return job

    def _listen(self) -> None:
        with suppress(EOFError):
            self.received = self.planner.recv_bytes()
        _, status = os.waitpid(self.process, 0)
        if not self.received:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
