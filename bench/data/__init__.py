"""Data sets, verified: of every kind as arrays, of images as in-memory tensors.

What is not needed to list and name data sets is imported when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from bench.data.specs import IMAGES, default_data_dir, specification

if TYPE_CHECKING:
    from bench.data.cache import arrays
    from bench.data.tensors import Dataset, Prepared, Split, epoch_order, load, prepare

__all__ = [
    "IMAGES",
    "Dataset",
    "Prepared",
    "Split",
    "arrays",
    "default_data_dir",
    "epoch_order",
    "load",
    "prepare",
    "specification",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "arrays":
        from bench.data.cache import arrays

        return arrays
    from bench.data import tensors  # torch

    return getattr(tensors, name)
