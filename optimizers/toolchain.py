"""From the text of a kernel in C++ to a loaded library.

A library is built once for each text, compiler and processor, in about half a second, and kept in
the user's cache under a name that says what it is and what its content is: one that was damaged is
told by that before the linker maps it, and is built again. Loading one takes about a millisecond.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
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


def load_library(text: str, what: str, *functions: str) -> ctypes.CDLL | None:
    """The library of a text in C++ with these functions; None, with one line in the log about
    `what`, where it cannot be built."""
    try:
        return opened(build(text), functions)
    except (OSError, subprocess.CalledProcessError) as error:
        log.debug("%s: no library in the cache: %s", what, error)
    try:
        with tempfile.TemporaryDirectory() as own:  # what is loaded outlives its file
            return opened(build(text, Path(own)), functions)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", None) or error).splitlines()[0]
        log.warning("%s runs uncompiled, which is slower: %s", what, reason)
        return None


def opened(library: Path, functions: Sequence[str]) -> ctypes.CDLL:
    """
    Raises:
        OSError: it cannot be loaded, or lacks a function; then it is deleted.
    """
    loaded = ctypes.CDLL(str(library))
    missing = [name for name in functions if not hasattr(loaded, name)]
    if missing:
        library.unlink()
        raise OSError(f"{library} has no function {missing[0]}")
    return loaded


def build(text: str, folder: Path | None = None) -> Path:
    """The shared library of a kernel, compiled unless the folder has it: by default the cache."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)
    if compiler is None:
        raise FileNotFoundError("no C++ compiler found; install g++, or name one in CXX")
    key = digest("\n".join([text, compiler, *FLAGS, features()]).encode())
    folder = folder or platformdirs.user_cache_path("optimizer-bench") / "kernels"
    for library in folder.glob(f"{key}-*.so"):
        if library.stem == f"{key}-{digest(library.read_bytes())}":
            return library
        library.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        code, built = Path(scratch, "step.cpp"), Path(scratch, "step.so")
        code.write_text(text)
        command = [compiler, *FLAGS, str(code), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        library = folder / f"{key}-{digest(built.read_bytes())}.so"
        return built.replace(library)  # atomic: two processes may build at once


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


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
