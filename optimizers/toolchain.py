"""From the text of a kernel in C++ to a loaded library.

A library is built once for each text, compiler and processor, in about half a second, and kept in
the user's cache; loading it again takes about a millisecond.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import platformdirs
import torch

log = logging.getLogger(__name__)

FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-ffp-contract=off"]  # a fused multiply-add rounds differently from two operators
FLAGS += ["-fopenmp", "-shared", "-fPIC"]

# Elements a thread must have before starting it pays.
GRAIN = 16384


def load_library(text: str, what: str) -> ctypes.CDLL | None:
    """The library of a text in C++; None, with one line in the log about `what`, where it cannot be
    built."""
    try:
        return ctypes.CDLL(str(build(text)))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", None) or error).splitlines()[0]
        log.warning("%s runs uncompiled, which is slower: %s", what, reason)
        return None


def build(text: str, folder: Path | None = None) -> Path:
    """The shared library of a kernel, compiled unless the folder has it: by default the cache."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)
    if compiler is None:
        raise FileNotFoundError("no C++ compiler found; install g++, or name one in CXX")
    key = hashlib.sha256("\n".join([text, compiler, *FLAGS, features()]).encode()).hexdigest()
    folder = folder or platformdirs.user_cache_path("optimizer-bench") / "kernels"
    library = folder / f"{key[:32]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            code, built = Path(scratch, "step.cpp"), Path(scratch, "step.so")
            code.write_text(text)
            command = [compiler, *FLAGS, str(code), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            built.replace(library)  # atomic: two processes may build at once
    return library


def features() -> str:
    """What `-march=native` depends on: a cache may be shared by unlike machines."""
    said = processor()
    return said.get("flags") or said.get("features") or torch.backends.cpu.get_cpu_capability()


@cache
def processor() -> Mapping[str, str]:
    """What Linux says of the first processor, by its words in lower case; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    said: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        said.setdefault(name.strip().lower(), value.strip())
    return said


def threads_for(elements: int) -> int:
    return min(torch.get_num_threads(), 1 + elements // GRAIN)
