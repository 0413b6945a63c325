"""Contenders, each in a fresh process: one's allocator, threads and caches cannot reach another."""

import os
import pkgutil
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.sweeps.executors.local import cores
from bench.throughput.clock import Timing

OURS, LOOP, COMPILED, JAX = "ours", "bare loop", "compiled loop", "JAX"
CONVENTIONAL = {f"conventional, {n} workers": n for n in sorted({0, 2, min(8, cores())})}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    OURS: ("bench.throughput.ours:Ours", {}),
    LOOP: ("bench.throughput.loop:Loop", {}),
    COMPILED: ("bench.throughput.loop:Loop", {"compiled": True}),
    JAX: ("bench.throughput.jax_peer:Jax", {}),
    **{
        name: ("bench.throughput.conventional:Conventional", {"workers": n})
        for name, n in CONVENTIONAL.items()
    },
}

WITHOUT_JAX = (
    "JAX is not installed, and so not measured: "
    "pip install -e '.[peers]' -c scripts/constraints.txt"
)


def has_jax(device: str) -> bool:
    """Whether JAX is installed, with what it needs for the device."""
    plugins = {"cpu": ["jaxlib"], "cuda": ["jax_cuda12_plugin", "jax_cuda13_plugin"]}[device]
    return find_spec("jax") is not None and any(map(find_spec, plugins))


def kinds(device: str) -> list[str]:
    """The contenders that there are."""
    return [name for name in KINDS if name != JAX or has_jax(device)]


class Contender:
    """One way to train a workload. Its process ends with the `with` block.

    Attributes:
        start_up: seconds until it can train: Python, imports, the data sets in memory.
    """

    def __init__(self, name: str, config: Mapping[str, Any], device: str) -> None:
        self.name = name
        started = time.perf_counter()
        self.pool = ProcessPoolExecutor(1, get_context("spawn"))
        self.pool.submit(_prepare, name, dict(config), device).result()
        self.start_up = time.perf_counter() - started
        self.run(steps=10)  # for what only a first run imports, compiles or allocates

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def run(self, *, steps: int, lr: float = 1e-3, seed: int = 0) -> Timing:
        return self.pool.submit(_run, steps=steps, lr=lr, seed=seed).result()


# What follows happens in the contender's process.

_trainer: Any = None


def _prepare(name: str, config: Mapping[str, Any], device: str) -> None:
    global _trainer
    os.environ["FORCE_COLOR"] = "1"  # progress bars are drawn as on a terminal, ...
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # ... but not to be seen
        os.dup2(nowhere, stream)
    if name != JAX:  # which needs no PyTorch
        from bench.torchvision_ops import declare_ops

        declare_ops()  # before torchvision or Lightning is imported
    target, options = KINDS[name]
    _trainer = pkgutil.resolve_name(target)(config, device, **options)


def _run(**options: Any) -> Timing:
    with tempfile.TemporaryDirectory() as directory:
        return _trainer.run(Path(directory), **options)
