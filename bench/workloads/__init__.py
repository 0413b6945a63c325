"""What is trained. A workload of a person's own begins with a name of these.

Those whose files need PyTorch are imported when they are first asked for: runs are planned without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.metrics import Metric
from bench.settings.fields import accepts
from bench.workloads.images import ImageClassifier
from bench.workloads.workload import Arrays, Examples, Workload

if TYPE_CHECKING:
    from bench.workloads.regression import LinearRegression
    from bench.workloads.text import TextModel

__all__ = [
    "Arrays",
    "Examples",
    "ImageClassifier",
    "LinearRegression",
    "Metric",
    "TextModel",
    "Workload",
    "accepts",
]

WHERE = {
    "LinearRegression": "bench.workloads.regression",
    "TextModel": "bench.workloads.text",
}


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(WHERE[name]), name)
