"""What is trained. A workload of a person's own begins with a name of these.

Those whose files need PyTorch are imported when they are first asked for: runs are planned without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.metrics import Metric
from bench.settings.fields import accepts
from bench.workloads.classifiers import ImageClassifier
from bench.workloads.workload import Arrays, Examples, Workload

if TYPE_CHECKING:
    from bench.workloads.autoencoder import Autoencoder
    from bench.workloads.functions import (
        AbsSum,
        Beale,
        Function,
        Himmelblau,
        Plateau,
        Quadratic,
        QuadraticDeep,
        Rastrigin,
        Ravine,
        Rosenbrock,
        Saddle,
    )
    from bench.workloads.heavy_tailed import HeavyTailed
    from bench.workloads.rare import RareFeatures
    from bench.workloads.regression import LinearRegression
    from bench.workloads.text import TextModel
    from bench.workloads.wilson import Wilson

__all__ = [
    "AbsSum",
    "Arrays",
    "Autoencoder",
    "Beale",
    "Examples",
    "Function",
    "HeavyTailed",
    "Himmelblau",
    "ImageClassifier",
    "LinearRegression",
    "Metric",
    "Plateau",
    "Quadratic",
    "QuadraticDeep",
    "RareFeatures",
    "Rastrigin",
    "Ravine",
    "Rosenbrock",
    "Saddle",
    "TextModel",
    "Wilson",
    "Workload",
    "accepts",
]

WHERE = {
    "Autoencoder": "bench.workloads.autoencoder",
    "AbsSum": "bench.workloads.functions",
    "Beale": "bench.workloads.functions",
    "Function": "bench.workloads.functions",
    "HeavyTailed": "bench.workloads.heavy_tailed",
    "Himmelblau": "bench.workloads.functions",
    "LinearRegression": "bench.workloads.regression",
    "Plateau": "bench.workloads.functions",
    "Quadratic": "bench.workloads.functions",
    "QuadraticDeep": "bench.workloads.functions",
    "RareFeatures": "bench.workloads.rare",
    "Rastrigin": "bench.workloads.functions",
    "Ravine": "bench.workloads.functions",
    "Rosenbrock": "bench.workloads.functions",
    "Saddle": "bench.workloads.functions",
    "TextModel": "bench.workloads.text",
    "Wilson": "bench.workloads.wilson",
}


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(WHERE[name]), name)
