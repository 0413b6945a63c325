"""What theory says of descent on a quadratic, and what a run's curve says. No torch.

On `½ xᵀQx` a step of a linear rule (descent, momentum, Nesterov) multiplies, along each eigenvector
of Q, parameter and state by one small matrix. The distance falls, in the end, by the largest
modulus of an eigenvalue of these matrices at each step: the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optimizers.rule import OPTIONS
from optimizers.rules import RULES

LINEAR = ("sgd", "momentum", "nesterov")
SETTLED = 0.4  # share of a curve's steps after which it is taken to fall evenly
FEWEST = 5  # points that a rate is measured from


def rate(optimizer: str, given: Mapping[str, Any], eigenvalues: ArrayLike) -> float:
    """By which the distance falls a step, in the end; above 1 it grows.

    Args:
        optimizer: one of `LINEAR`.
        given: its hyperparameters; those left out have their defaults.
        eigenvalues: of the Hessian.
    """
    rule = RULES[optimizer]
    declared = {**rule.hyperparameters, **OPTIONS}
    h = SimpleNamespace(**{key: given.get(key, d.default) for key, d in declared.items()})
    c = SimpleNamespace(**rule.all_coefficients(h, 1))
    curvature = np.asarray(eigenvalues, np.float64)[:, None]  # [d, 1]
    size = 1 + len(rule.slots)
    p, *state = np.eye(size)  # each the unit vectors' coordinate, [size]
    p, new_state = rule.step(p, curvature * p, tuple(state), c)
    rows = [np.broadcast_to(x, (len(curvature), size)) for x in (p, *new_state)]
    return float(np.abs(np.linalg.eigvals(np.stack(rows, 1))).max())  # of [d, size, size]


@dataclass(frozen=True)
class Setting:
    """A method's settings on a quadratic of condition κ, where the largest eigenvalue is 1.

    Attributes:
        optimizer: of `LINEAR`.
        options: from κ to hyperparameters.
        rate: from κ to the rate.
        limit: from κ to the learning rate from which it diverges, with this momentum.
    """

    name: str
    optimizer: str
    options: Callable[[float], dict[str, float]]
    rate: Callable[[float], float]
    limit: Callable[[float], float]


def _polyak(k: float) -> dict[str, float]:
    return {"lr": 4 / (1 + sqrt(1 / k)) ** 2, "momentum": ((sqrt(k) - 1) / (sqrt(k) + 1)) ** 2}


def _usual(k: float) -> dict[str, float]:
    return {"lr": 1.0, "momentum": (sqrt(k) - 1) / (sqrt(k) + 1)}


def _tuned(k: float) -> dict[str, float]:
    root = sqrt(3 * k + 1)
    return {"lr": 4 / (3 + 1 / k), "momentum": (root - 2) / (root + 2)}


def _look_ahead_limit(momentum: float) -> float:
    return (2 + 2 * momentum) / (1 + 2 * momentum)


# Lessard, Recht & Packard (2016, SIAM J. Optim. 26), proposition 1: gradient descent and heavy ball
# at their best, Nesterov with the usual numbers and at its best.
SETTINGS = (
    Setting(
        "gradient descent",
        "sgd",
        lambda k: {"lr": 2 / (1 + 1 / k)},
        lambda k: (k - 1) / (k + 1),
        lambda k: 2.0,
    ),
    Setting(
        "heavy ball",
        "momentum",
        _polyak,
        lambda k: (sqrt(k) - 1) / (sqrt(k) + 1),
        lambda k: 2 + 2 * _polyak(k)["momentum"],
    ),
    Setting(
        "Nesterov, usual",
        "nesterov",
        _usual,
        lambda k: 1 - 1 / sqrt(k),
        lambda k: _look_ahead_limit(_usual(k)["momentum"]),
    ),
    Setting(
        "Nesterov, tuned",
        "nesterov",
        _tuned,
        lambda k: 1 - 2 / sqrt(3 * k + 1),
        lambda k: _look_ahead_limit(_tuned(k)["momentum"]),
    ),
)


@dataclass(frozen=True)
class Measured:
    """A rate, and between which steps."""

    rate: float
    first: int
    last: int


def measure(steps: ArrayLike, distances: ArrayLike, *, floor: float = 1e-100) -> Measured | None:
    """The slope of a curve's logarithm, by least squares, over its last part: the points from
    `SETTLED` of its steps on. None where it has fewer than `FEWEST`.

    Args:
        floor: what is below this share of the first distance, or above its inverse, is left out:
            squares would be no numbers any more.
    """
    t, d = np.asarray(steps, np.float64), np.asarray(distances, np.float64)
    known = np.isfinite(d) & (d > 0)
    t, d = t[known], d[known]
    if len(d) == 0:
        return None
    usable = (d > floor * d[0]) & (d < d[0] / floor)
    ends = len(d) if usable.all() else int(np.argmin(usable))  # the first that is not
    t, d = t[:ends], d[:ends]
    late = t >= SETTLED * t[-1]
    if late.sum() < FEWEST:
        return None
    slope: NDArray[np.float64] = np.polyfit(t[late], np.log(d[late]), 1)
    return Measured(float(np.exp(slope[0])), int(t[late][0]), int(t[late][-1]))
