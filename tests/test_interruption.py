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


@pytest.fixture
def ended_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process would end, there is an exception."""

    def end(why: Interrupted) -> None:
        raise why

    monkeypatch.setattr(interruption, "end", end)


@pytest.mark.usefixtures("ended_by")
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


@pytest.mark.usefixtures("ended_by")
def test_at_once_where_nothing_can_be_lost() -> None:
    interruption.heed_at_once(signal.SIGUSR1)
    with pytest.raises(Interrupted) as ended:
        os.kill(os.getpid(), signal.SIGUSR1)
    assert ended.value.status == 128 + signal.SIGUSR1
    assert not isinstance(ended.value, Exception)


def test_looked_for_where_it_can_stop() -> None:
    interruption.heed_at_once()
    interruption.check()
    with interruption.noting():
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted) as ended:
        interruption.check()
    assert ended.value.signal == signal.SIGTERM


def test_raised_where_others_have_to_be_told() -> None:
    interruption.heed_at_once()
    with interruption.raising(), pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


IN_THE_WAY = {
    "an import that makes another error of it": """
import builtins, sys, types
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "own":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except BaseException as error:
                raise ImportError("own cannot be imported") from error
sys.meta_path.insert(0, Finder())
import own
""",
    "what must not fail": """
class Own:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
Own()
""",
}


@pytest.mark.parametrize("text", IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_nothing_is_in_its_way(text: str) -> None:
    code = "import os, signal\nfrom bench import interruption\ninterruption.heed_at_once()\n"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}print('begun')\n{text}\nprint('went on')"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 130
    assert ended.stdout == "begun\n"
    assert ended.stderr == "interrupted; the same command goes on with what is missing\n"


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
