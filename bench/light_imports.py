"""Makes the import of Lightning light: of what it takes along, only what it asks for is loaded.

For two classes it imports all of torchmetrics, hence scipy, torchvision and matplotlib; for a class
to compare with, torch's compiler. That is half of the time to a first optimizer step. And the first
operator that `vmap` divides into others asks sympy whether True is true. Here such a module's body
waits until something else is asked of it. What waits answers as the module would; whoever asks for
more, gets the module itself.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import importlib.util
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

METRICS = "torchmetrics"
PLOTS = f"{METRICS}.utilities.plot"
COMPILER = "torch._dynamo"
BACKEND = "torch._inductor"
SETTINGS = f"{BACKEND}.config"  # which are told whether results are to be deterministic
SYMBOLS = "torch.fx.experimental.symbolic_shapes"

_lock = threading.RLock()


class Waiting(ModuleType):
    """A module whose body is carried out when it is asked for what is not ``known`` without."""

    known: Mapping[str, Callable[[], Any]]
    told: dict[str, Any]

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("__") and not isinstance(value, ModuleType):
            self.told[name] = value
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in self.known:
            return self.known[name]()
        if name.startswith("__"):  # what import and inspection ask of any module
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        load(self)
        return getattr(self, name)


def load(module: ModuleType) -> None:
    """Carries out the body of a module that waits, its package's before. What it was told
    meanwhile, it is told again."""
    package = module.__name__.rpartition(".")[0]
    if package in (COMPILER, BACKEND):
        load(sys.modules[package])
    with _lock:
        if isinstance(module, Waiting):
            spec = module.__spec__
            assert spec is not None
            assert spec.loader is not None
            told = module.told
            del module.known, module.told
            module.__class__ = ModuleType  # type: ignore[assignment]
            spec.loader.exec_module(module)
            for name, value in told.items():
                setattr(module, name, value)


class BodyFirst(MetaPathFinder):
    """Before a module within the compiler comes the body of its package, as ever."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for package in (COMPILER, BACKEND):
            if name.startswith(f"{package}."):
                load(sys.modules[package])
        return None


def fetch_libraries() -> None:
    """Loads torch's libraries in a thread of their own, a third of a second in which Python is free
    to do other things."""
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin is not None:
        library = str(Path(torch.origin).parent / "lib" / "libtorch_cpu.so")
        threading.Thread(target=_fetch, args=(library,), daemon=True).start()


def _fetch(library: str) -> None:
    with suppress(OSError):  # named otherwise here: torch finds its own
        ctypes.CDLL(library)


@contextmanager
def uncollected() -> Iterator[None]:
    """Imports make objects that stay, millions of them: to look for garbage among them finds none,
    then or later."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def wait() -> None:
    """Call it before the first import of Lightning. Modules that are loaded already stay so."""
    if METRICS not in sys.modules:
        package = _place(METRICS, {
            "Metric": lambda: _of_metrics("metric", "Metric"),
            "MetricCollection": lambda: _of_metrics("collections", "MetricCollection"),
            "__version__": lambda: _of_metrics("__about__", "__version__"),
            "_logger": lambda: logging.getLogger(METRICS),
        })  # fmt: skip
        if package is not None:
            _place(PLOTS, {
                "_AX_TYPE": lambda: Any,
                "_PLOT_OUT_TYPE": lambda: Any,
                "plot_single_or_multi_val": lambda: _plot,
            })  # fmt: skip
    if COMPILER not in sys.modules:
        known = {"OptimizedModule": lambda: OptimizedModule, "disable": lambda: disable}
        _place(COMPILER, known)
        if BACKEND not in sys.modules:
            _place(BACKEND, {})
            _place(SETTINGS, {})
        sys.meta_path.insert(0, BodyFirst())
    if SYMBOLS not in sys.modules:
        _place(SYMBOLS, {"expect_true": lambda: expect_true})


def _place(name: str, known: Mapping[str, Callable[[], Any]]) -> ModuleType | None:
    """Puts a module that waits where an import finds it; None if it is not installed."""
    spec = _spec(name)
    if spec is None:
        return None
    module = module_from_spec(spec)
    vars(module).update(known=known, told={})
    module.__class__ = Waiting
    sys.modules[name] = module
    package, _, own = name.rpartition(".")
    if package in sys.modules:  # as an import would
        vars(sys.modules[package])[own] = module
    return module


def _spec(name: str) -> ModuleSpec | None:
    """Of a module, whose packages are not carried out for it."""
    package, _, _ = name.rpartition(".")
    around = _spec(package) if package else None
    if package and around is None:
        return None
    return PathFinder.find_spec(name, around.submodule_search_locations if around else None)


def _of_metrics(module: str, name: str) -> Any:
    if module != "__about__":
        importlib.import_module(f"{METRICS}.utilities")  # the other way round is a circle
    return getattr(importlib.import_module(f"{METRICS}.{module}"), name)


def _plot(*values: Any, **options: Any) -> Any:
    load(sys.modules[PLOTS])
    return sys.modules[PLOTS].plot_single_or_multi_val(*values, **options)


class _Compiled(type):
    def __instancecheck__(cls, value: Any) -> bool:
        module = sys.modules[COMPILER]
        return not isinstance(module, Waiting) and isinstance(value, module.OptimizedModule)


class OptimizedModule(metaclass=_Compiled):
    """Of which nothing is an instance before the compiler is loaded."""


def disable(function: Callable[..., Any] | None = None, *how: Any, **options: Any) -> Any:
    """`torch._dynamo.disable`, which has nothing to do before the compiler is loaded."""
    if function is None:
        return functools.partial(disable, *how, **options)
    real: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        module = sys.modules[COMPILER]
        if isinstance(module, Waiting):
            return function(*args, **kwargs)
        if not real:
            real.append(module.disable(function, *how, **options))
        return real[0](*args, **kwargs)

    return call


def expect_true(condition: Any, skip: int = 0) -> bool:
    """`torch.fx.experimental.symbolic_shapes.expect_true`, which has nothing to find out of what is
    no symbol."""
    if type(condition) is bool:
        return condition
    module = sys.modules[SYMBOLS]
    load(module)
    said: bool = module.expect_true(condition, skip + 1)  # frames, of which one is this
    return said
