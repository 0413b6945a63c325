"""Signals are noted, and only the second one ends what runs."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import interruption
from bench.interruption import Interrupted


@pytest.fixture(autouse=True)
def nothing_heeded() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    yield
    interruption.forget()
    assert {number: signal.getsignal(number) for number in interruption.SIGNALS} == before


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_the_first_is_noted_and_the_second_ends_the_work(number: int) -> None:
    interruption.heed()
    assert interruption.asked() is None
    os.kill(os.getpid(), number)
    assert interruption.asked() == number
    with pytest.raises(Interrupted) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.signal == signal.SIGTERM
    assert interruption.asked() == number


def test_at_once_where_nothing_can_be_lost() -> None:
    interruption.heed_at_once(signal.SIGUSR1)
    with pytest.raises(Interrupted) as ended:
        os.kill(os.getpid(), signal.SIGUSR1)
    assert ended.value.status == 128 + signal.SIGUSR1
    assert not isinstance(ended.value, Exception)


def test_only_those_that_are_named() -> None:
    before = signal.getsignal(signal.SIGINT)
    interruption.heed(signal.SIGTERM, signal.SIGUSR1)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interruption.heed()
        os.kill(os.getpid(), signal.SIGHUP)
        assert interruption.asked() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=interruption.heed)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_noted_by_a_program() -> None:
    interruption.ask(signal.SIGUSR1)
    interruption.ask(signal.SIGTERM)
    assert interruption.asked() == signal.SIGUSR1


ON_A_TERMINAL = """
import sys, time
from pathlib import Path
from bench import interruption
interruption.heed()
print("heeded", flush=True)
while interruption.asked() is None:
    time.sleep(0.01)
print("this goes nowhere", flush=True)
Path(sys.argv[1]).write_text(str(interruption.asked()))
"""


def test_a_terminal_that_is_closed_is_not_written_to(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path / "noted")],
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(terminal)
    assert b"heeded" in os.read(ours, 1000)
    os.close(ours)
    assert process.wait(10) == 0
    assert (tmp_path / "noted").read_text() == str(int(signal.SIGHUP))


def test_noting_meanwhile() -> None:
    interruption.heed_at_once()
    with interruption.noting():
        os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.asked() == signal.SIGTERM
