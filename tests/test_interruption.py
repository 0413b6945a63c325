"""Signals are noted, and only the second one ends what runs."""

import contextlib
import fcntl
import importlib
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import interruption
from bench.interruption import Interrupted


@pytest.fixture(autouse=True)
def nothing_heeded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interruption, "OURS", str(Path(__file__).parent))
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


@pytest.mark.parametrize("torch_is_there", [True, False])
def test_not_while_something_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_is_there: bool
) -> None:
    """It would be told as an error of what is imported, or of who asked for it."""
    if not torch_is_there:
        monkeypatch.delitem(sys.modules, "torch")
    (tmp_path / "slow_to_import.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.2)\ndone = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    interruption.heed_at_once()
    came = None
    try:
        importlib.import_module("slow_to_import")
        sleep_until_it_comes()
    except Interrupted as error:
        came = error.signal
    assert sys.modules.pop("slow_to_import").done == 1
    assert came == signal.SIGTERM
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def sleep_until_it_comes() -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        time.sleep(0.001)


def test_not_where_a_library_calls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in C++ may not live through it."""
    work = compile("kill(getpid(), 15)\nsleep(0.2)\ndone.append(1)", "/of/a/library.py", "exec")
    done: list[int] = []
    interruption.heed_at_once()
    with contextlib.suppress(Interrupted):  # which may come as soon as it is over
        exec(work, {"kill": os.kill, "getpid": os.getpid, "sleep": time.sleep, "done": done})
        sleep_until_it_comes()
    assert done
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_what_waits_is_noted_where_something_can_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "OURS", "/nowhere")
    interruption.heed_at_once()
    os.kill(os.getpid(), signal.SIGTERM)
    with interruption.noting():
        monkeypatch.setattr(interruption, "OURS", str(Path(__file__).parent))
        time.sleep(0.1)
    assert interruption.asked() == signal.SIGTERM
    time.sleep(0.1)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_the_third_ends_it_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "OURS", "/nowhere")
    interruption.heed()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


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
