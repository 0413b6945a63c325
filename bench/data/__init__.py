"""Data sets as verified in-memory tensors.

What needs torch is imported when it is first asked for: listing or naming data sets does not.
"""

from typing import TYPE_CHECKING, Any

from bench.data.specs import DATASETS, default_data_dir

if TYPE_CHECKING:
    from bench.data.tensors import Dataset, Prepared, Split, epoch_order, load, prepare

__all__ = [
    "DATASETS",
    "Dataset",
    "Prepared",
    "Split",
    "default_data_dir",
    "epoch_order",
    "load",
    "prepare",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bench.data import tensors

    return getattr(tensors, name)
