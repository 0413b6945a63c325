"""Memory: whether there can be enough, and how to keep what was freed."""

import ctypes
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.errors import BenchError
from bench.settings.identity import leaves
from bench.settings.workloads import workload_of
from bench.workloads.workload import Workload

M_TRIM_THRESHOLD = -1  # glibc, malloc.h
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to serve every size from its heap and never to shrink it.

    A training step frees and allocates the same megabytes over and over; by default each round
    trip costs a page fault per 4 KiB. Call before the first large tensors are made.

    Returns:
        Whether it was done: not on another C library.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, -1))


def refuse_what_cannot_fit(
    config: Mapping[str, Any], device: str, memory: int | None = None
) -> None:
    """
    Args:
        memory: bytes; None for what the device has here.

    Raises:
        BenchError: the least that a run needs is more than the device has.
    """
    needed, there = least_bytes(config), memory or total_bytes(device)
    if needed > there:
        sizes = {k: v for k, v in leaves(config["workload"]) if _is_size(k, v)}
        said = [f"workload.{key}={value}" for key, value in sizes.items()]
        raise BenchError(
            f"{', '.join(said)}: takes at least {needed / 2**30:,.1f} GiB of memory, "
            f"and there are {there / 2**30:,.1f}"
        )


def _is_size(key: str, value: Any) -> bool:
    """Whether a setting of a workload can say how much memory it takes."""
    values = value if isinstance(value, list) else [value]
    whole = all(isinstance(x, int) and not isinstance(x, bool) for x in values)
    return key == "batch_size" or (whole and key not in ("val_size", "split_seed"))


BYTES = {"64-true": 8, "bf16-true": 2}


def least_bytes(config: Mapping[str, Any]) -> int:
    """What no run can do without: weights with their gradients, and of every other layer what it
    gives for a batch, for the way back."""
    workload = workload_of(config)
    weights, outputs = workload.extent()
    batch = batch_size(workload)
    devices = config["trainer"]["devices"]
    share = batch // devices if isinstance(devices, int) else 0
    return BYTES.get(config["trainer"]["precision"], 4) * (2 * weights + share * outputs // 2)


LIGHT = 2**20


def is_light(configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the weights of these runs and what their layers give for a batch are so few numbers
    that threads hardly share a step with profit. It follows from the configuration alone."""
    workload = workload_of(configs[0])
    weights, outputs = workload.extent()
    return len(configs) * (weights + batch_size(workload) * outputs) < LIGHT


def batch_size(workload: Workload) -> int:
    whole = workload.batch_size == "full"
    return workload.train_size if whole else int(workload.batch_size)


def total_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for place in ("memory.max", "memory/memory.limit_in_bytes"):  # control groups, new and old
        try:
            limits.append(int(Path("/sys/fs/cgroup", place).read_text()))
        except (OSError, ValueError):  # none of that kind, or "max"
            continue
    return min(limits)
