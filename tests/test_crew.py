"""A crew does every part once, whoever of it does, and lets nobody wait for a thread that rests."""

import ctypes
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bench.kernels import crew
from bench.kernels.crew import Crew, address_of
from optimizers import toolchain

pytestmark = pytest.mark.skipif(crew.kernel() is None, reason="no C++ compiler")

COUNTING = """
#include <atomic>
#include <cfenv>
#include <cstdint>
#include <thread>
#include <chrono>

struct Counting { std::atomic<int64_t>* done; int64_t microseconds; int64_t* threads; };

extern "C" void count(void* context, int place) {
  Counting& to = *static_cast<Counting*>(context);
  std::this_thread::sleep_for(std::chrono::microseconds(to.microseconds));
  to.done[place]++;
  to.threads[place] = std::hash<std::thread::id>()(std::this_thread::get_id());
}

extern "C" void rounding(void* context, int place) {
  static_cast<int64_t*>(context)[place] = std::fegetround();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

extern "C" void round_up() { std::fesetround(FE_UPWARD); }
extern "C" void round_usually() { std::fesetround(FE_TONEAREST); }
"""


class Counting(ctypes.Structure):
    _fields_ = (
        ("done", ctypes.c_void_p),
        ("microseconds", ctypes.c_int64),
        ("threads", ctypes.c_void_p),
    )


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    found = toolchain.load_library(COUNTING, "Counting", "count", "rounding")
    assert found is not None
    return found


class Work:
    """So many parts, each of which counts how often it is done, and by whom."""

    def __init__(self, library: ctypes.CDLL, parts: int, microseconds: int = 0) -> None:
        self.done, self.threads = (torch.zeros(parts, dtype=torch.int64) for _ in range(2))
        self.context = Counting(self.done.data_ptr(), microseconds, self.threads.data_ptr())
        self.part, self.parts = address_of(library.count), parts

    def is_done(self, times: int = 1) -> bool:
        return self.done.tolist() == [times] * self.parts


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("parts", [1, 2, 7, 1000])
def test_every_part_is_done_once(library: ctypes.CDLL, threads: int, parts: int) -> None:
    crew = Crew(threads)
    now, later = Work(library, parts), Work(library, parts)
    for times in range(1, 301):
        crew.begin_to(later.part, later.context, later.parts, later)
        crew.do(now.part, now.context, now.parts)
        assert now.is_done(times)
        crew.finish()
        assert later.is_done(times)


def test_a_crew_that_sleeps_is_woken(library: ctypes.CDLL) -> None:
    crew = Crew(1)
    for _ in range(20):
        time.sleep(0.002)  # ten times as long as it stays awake
        work = Work(library, 2, microseconds=5000)
        crew.do(work.part, work.context, 2)
        assert work.is_done()
        assert len(set(work.threads.tolist())) == 2, "both took a part"


def test_work_that_was_begun_is_done_meanwhile(library: ctypes.CDLL) -> None:
    crew, work = Crew(1), Work(library, 4)
    crew.begin_to(work.part, work.context, 4, work)
    deadline = time.monotonic() + 10
    while not work.is_done() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert work.is_done()
    crew.finish()


def test_it_rounds_as_its_owner_does(library: ctypes.CDLL) -> None:
    found = torch.zeros(2, dtype=torch.int64)
    context = (ctypes.c_int64 * 2).from_address(found.data_ptr())
    library.round_up()
    try:
        crew = Crew(1)
    finally:
        library.round_usually()
    crew.library.crew_share(
        crew.address, address_of(library.rounding), ctypes.addressof(context), 2
    )
    assert len(set(found.tolist())) == 2, "the owner has gone back to the usual since"


def test_its_threads_end_with_it(library: ctypes.CDLL) -> None:
    before = threading.active_count()
    crew, work = Crew(2), Work(library, 50, microseconds=100)
    assert threading.active_count() == before + 2
    crew.begin_to(work.part, work.context, work.parts, work)
    del crew  # what was begun is done first, since nobody knows who frees its memory
    gc.collect()
    assert work.is_done()
    assert threading.active_count() == before


def test_a_process_ends_with_work_begun() -> None:
    said = """
import torch
torch.set_num_threads(1)
from tests.test_crew import COUNTING, Work
from bench.kernels.crew import Crew
from optimizers import toolchain
work = Work(toolchain.load_library(COUNTING, "Counting", "count"), 100, 100)
crew = Crew(1)
crew.begin_to(work.part, work.context, work.parts, work)
"""
    ended = subprocess.run([sys.executable, "-c", said], timeout=60, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_its_owner_does_all(library: ctypes.CDLL) -> None:
    crew, work = Crew(1), Work(library, 9)
    time.sleep(0.01)  # it sleeps

    def child() -> None:
        crew.do(work.part, work.context, 9)
        os._exit(0 if work.is_done() else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0


def test_one_that_holds_others_up_is_left_out_for_a_while(library: ctypes.CDLL) -> None:
    """A part that only a thread of the crew finds slow, as where the system has halted it."""
    slow = """
#include <chrono>
#include <cstdint>
#include <thread>
struct Slow { int64_t owner; int64_t* by; };
static int64_t self() { return std::hash<std::thread::id>()(std::this_thread::get_id()); }
extern "C" int64_t me() { return self(); }
extern "C" void part(void* context, int place) {
  Slow& to = *static_cast<Slow*>(context);
  to.by[place] = self();
  std::this_thread::sleep_for(std::chrono::microseconds(self() == to.owner ? 100 : 20000));
}
"""

    class Slow(ctypes.Structure):
        _fields_ = (("owner", ctypes.c_int64), ("by", ctypes.c_void_p))

    found: Any = toolchain.load_library(slow, "Slow", "part", "me")
    found.me.restype = ctypes.c_int64
    owner, by, crew = found.me(), torch.zeros(4, dtype=torch.int64), Crew(1)
    context = Slow(owner, by.data_ptr())
    alone = 0
    for _ in range(300):
        crew.do(address_of(found.part), context, 4)
        alone += (by == owner).all().item()
    assert 200 < alone < 300, "it is asked again from time to time"
