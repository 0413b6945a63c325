"""Signals that ask a process to end: from a scheduler that wants its machine back, a terminal that
closes, or a person.

While a process heeds them, the first one is only noted, and whoever works looks with `asked` where
it can stop without loss. Until there is something that could be lost, it ends the work at once: as
soon as an exception can pass. Under an import it may become another one, and under functions that a
library in C++ calls it may end the process, so it waits until that is over.
"""

import os
import signal
import stat
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)

RETRY = 0.02  # seconds, between two looks whether an exception can pass
MOST_PATIENCE = 3  # signals: whoever sends so many has an exception wherever it is
OURS = os.path.dirname(__file__)
LIBRARY = sysconfig.get_path("stdlib")
OTHERS = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))  # may lie below LIBRARY

_noted: int | None = None
_at_once = False
_came = 0  # how many signals
_due: int | None = None  # of them, what is to be raised once it can be
_before: dict[int, Any] = {}  # handlers that ours took the place of


class Interrupted(BaseException):
    """The work was ended by a signal; as `KeyboardInterrupt`, it is no error.

    Attributes:
        signal: its number.
        step, steps: of how many a run alone has taken, once it can go on from there.
    """

    def __init__(self, number: int, step: int | None = None, steps: int | None = None) -> None:
        super().__init__(number)
        self.signal, self.step, self.steps = number, step, steps

    @property
    def where(self) -> str:
        """For people, with what to do."""
        if self.step is None:
            return "; the same command goes on with what is missing"
        return f" at step {self.step:,} of {self.steps:,}; the same command goes on from there"

    @property
    def status(self) -> int:
        """With which a process ends then, as a shell has it."""
        return 128 + self.signal


def heed(*signals: int) -> None:
    """Has these (without any, all of `SIGNALS`) noted from now on, and the second one end the work
    at once. One that was ignored before stays so, as under ``nohup``. Only a process's main thread
    can say so; in another nothing changes."""
    global _at_once
    _at_once = False
    _answer(signals or SIGNALS)


def heed_at_once(*signals: int) -> None:
    """The same for a process that has nothing to lose yet: the first one already ends the work, but
    while `noting`."""
    global _at_once
    _at_once = True
    _answer(signals or SIGNALS)


@contextmanager
def noting() -> Iterator[None]:
    """Where something can be lost: meanwhile, signals that are heeded are noted."""
    global _at_once
    before, _at_once = _at_once, False
    try:
        yield
    finally:
        _at_once = before


def asked() -> int | None:
    """The first signal that was noted."""
    return _noted


def ask(number: int) -> None:
    """Notes a signal that did not come, for a program of one's own."""
    global _noted
    _noted = _noted or number


def forget() -> None:
    """What was before `heed`."""
    global _noted, _at_once, _came
    _noted, _at_once, _came = None, False, 0
    _wait_no_more()
    if threading.current_thread() is threading.main_thread():
        for number, handler in _before.items():
            signal.signal(number, handler)
        _before.clear()


def _answer(signals: tuple[int, ...]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in signals:
        found = signal.getsignal(number)
        if found is not signal.SIG_IGN:
            signal.signal(number, _note)
            _before.setdefault(number, found)


def _note(number: int, frame: FrameType | None) -> None:
    global _came, _due
    first = _noted is None
    _came += 1
    ask(number)
    if number == signal.SIGHUP:
        _leave_terminal()
    if _at_once or not first:
        _due = number
        _raise_when_it_can_pass(signal.SIGALRM, frame)


def _raise_when_it_can_pass(_: int, frame: FrameType | None) -> None:
    """Of what is `_due`; called again by a timer until then."""
    if _due is None or not (_at_once or _came > 1):
        _wait_no_more()
    elif _came >= MOST_PATIENCE or _can_pass(frame):
        number = _due
        _wait_no_more()
        raise Interrupted(number)
    else:
        found = signal.signal(signal.SIGALRM, _raise_when_it_can_pass)
        _before.setdefault(signal.SIGALRM, found)
        signal.setitimer(signal.ITIMER_REAL, RETRY)


def _wait_no_more() -> None:
    global _due
    _due = None
    if signal.SIGALRM in _before:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, _before.pop(signal.SIGALRM))


def _can_pass(frame: FrameType | None) -> bool:
    """Whether nothing is being imported and, once PyTorch is there, no code but ours and Python's
    own is at work above ours."""
    at_work, innermost = frame, None
    while at_work is not None:
        file = at_work.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return False
        if innermost is None and not _is_pythons(file):
            innermost = file
        at_work = at_work.f_back
    return "torch" not in sys.modules or innermost is None or innermost.startswith(OURS)


def _is_pythons(file: str) -> bool:
    return file.startswith("<frozen ") or (file.startswith(LIBRARY) and not file.startswith(OTHERS))


def _leave_terminal() -> None:
    """To write to one that was closed is an error, which would come in the way of what is still to
    be done."""
    for output in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode) and not os.isatty(output):
                os.dup2(os.open(os.devnull, os.O_WRONLY), output)
