"""Signals that ask a process to end: from a scheduler that wants its machine back, a terminal that
closes, or a person.

While a process heeds them, the first one is only noted, and whoever works looks with `asked` where
it can stop without loss. Until there is something that could be lost, it ends the process, there
and then: an exception out of nowhere passes through libraries that make another one of it, and
through some in C++ that abort.
"""

import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import Any, Literal, NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)

SHOW_CURSOR = "\x1b[?25h"  # which a bar of progress may have hidden
Mode = Literal["note", "end", "raise"]

_noted: int | None = None
_mode: Mode = "note"
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
    """Has these (without any, all of `SIGNALS`) noted from now on, and the second one end the
    process. One that was ignored before stays so, as under ``nohup``. Only a process's main thread
    can say so; in another nothing changes."""
    global _mode
    _mode = "note"
    _answer(signals or SIGNALS)


def heed_at_once(*signals: int) -> None:
    """The same for a process that has nothing to lose yet: the first one already ends it, but while
    `noting` or `raising`."""
    global _mode
    _mode = "end"
    _answer(signals or SIGNALS)


def noting() -> AbstractContextManager[None]:
    """Where something can be lost: meanwhile, signals that are heeded are noted."""
    return _meanwhile("note")


def raising() -> AbstractContextManager[None]:
    """Where others have to be told: meanwhile, signals that are heeded raise `Interrupted`."""
    return _meanwhile("raise")


@contextmanager
def _meanwhile(mode: Mode) -> Iterator[None]:
    global _mode
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before


def check() -> None:
    """
    Raises:
        Interrupted: a signal was noted.
    """
    if _noted is not None:
        raise Interrupted(_noted)


def asked() -> int | None:
    """The first signal that was noted."""
    return _noted


def ask(number: int) -> None:
    """Notes a signal that did not come, for a program of one's own."""
    global _noted
    _noted = _noted or number


def forget() -> None:
    """What was before `heed`."""
    global _noted, _mode
    _noted, _mode = None, "note"
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
    first = _noted is None
    ask(number)
    if number == signal.SIGHUP:
        _leave_terminal()
    if _mode == "raise":
        raise Interrupted(number)
    if _mode == "end" or not first:
        end(Interrupted(number))


def end(why: Interrupted) -> NoReturn:
    """Ends this process whatever it is at, as SIGKILL does, but with a line and a status."""
    with suppress(OSError):
        cursor = SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, f"{cursor}interrupted{why.where}\n".encode())
    with suppress(Exception):  # it may be at that, or who reads has gone
        sys.stdout.flush()
    os._exit(why.status)


def _leave_terminal() -> None:
    """To write to one that was closed is an error, which would come in the way of what is still to
    be done."""
    for output in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode) and not os.isatty(output):
                os.dup2(os.open(os.devnull, os.O_WRONLY), output)
