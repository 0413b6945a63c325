"""The methods that are no rule, by name: the class in `closures`, what it takes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .rule import Hyperparameter, flag, nonnegative

# The matrix of so many rows takes 200 MB in float64, and seconds to solve.
MOST_COORDINATES = 5_000


class Method(NamedTuple):
    kind: str
    hyperparameters: Mapping[str, Hyperparameter]


SECOND_ORDER = {"lr": nonnegative(1.0), "damping": nonnegative(0.0)}

METHODS: Mapping[str, Method] = {
    "random_search": Method(
        "RandomSearch",
        {
            "lr": nonnegative(0.1),
            "local": flag(True),
            "seed": Hyperparameter(None, "[0, inf)", kind=int),
        },
    ),
    "newton": Method("Newton", SECOND_ORDER),
    "gauss_newton": Method("GaussNewton", SECOND_ORDER),
}
