"""Signals that ask a process to end: from a scheduler that wants its machine back, a terminal that
closes, or a person.

While a process heeds them, the first one is only noted, and whoever works looks with `asked` where
it can stop without loss. Until there is something that could be lost, it ends the work at once.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)

_noted: int | None = None
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
    def status(self) -> int:
        """With which a process ends then, as a shell has it."""
        return 128 + self.signal


def heed(*signals: int) -> None:
    """Has these (without any, all of `SIGNALS`) noted from now on, and the second one end the work
    at once. One that was ignored before stays so, as under ``nohup``. Only a process's main thread
    can say so; in another nothing changes."""
    _answer(signals or SIGNALS, _note)


def heed_at_once(*signals: int) -> None:
    """The same while nothing can be lost: the first one already ends the work, by `Interrupted`."""
    _answer(signals or SIGNALS, _end)


def asked() -> int | None:
    """The first signal that was noted."""
    return _noted


def ask(number: int) -> None:
    """Notes a signal that did not come, for a program of one's own."""
    global _noted
    _noted = _noted or number


def forget() -> None:
    """What was before `heed`."""
    global _noted
    _noted = None
    if threading.current_thread() is threading.main_thread():
        for number, handler in _before.items():
            signal.signal(number, handler)
        _before.clear()


def _answer(signals: tuple[int, ...], answer: Callable[[int, FrameType | None], None]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in signals:
        found = signal.getsignal(number)
        if found is not signal.SIG_IGN:
            signal.signal(number, answer)
            _before.setdefault(number, found)


def _note(number: int, frame: FrameType | None) -> None:
    if _noted is not None:
        raise Interrupted(number)
    ask(number)


def _end(number: int, frame: FrameType | None) -> None:
    ask(number)
    raise Interrupted(number)
