"""Benchmarks of first-order optimizers: workloads, training, studies and their analysis.

`load_model` brings a run's trained model back; it needs torch, which is imported when it is asked
for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.trained import load_model

__version__ = "0.1.0"

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bench import trained

    return getattr(trained, name)
