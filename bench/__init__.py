"""Benchmarks of first-order optimizers: workloads, training, studies and their analysis.

`run` and `sweep` make what the command makes, `load_model` brings a run's trained model back, and
`read_study` gives a study's runs as a pandas table. Each is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import run, sweep
    from bench.study import read_study
    from bench.trained import load_model

__version__ = "0.1.0"

__all__ = ["load_model", "read_study", "run", "sweep"]
_WHERE = {
    "load_model": "bench.trained",
    "read_study": "bench.study",
    "run": "bench.api",
    "sweep": "bench.api",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
