"""What a map is drawn over. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError

COORDINATES = ("x", "y")  # of the start
NOT_REACHED, DIVERGED = -1, -2  # in place of a minimum's number
MOST = 4096  # values of an axis
ROOM = 0.8  # of the larger side of what is to be seen: half a side of the square around it

Scale = Literal["linear", "log", "near one"]


@dataclass(frozen=True)
class Axis:
    """Some values of a coordinate of the start, or of a hyperparameter.

    Attributes:
        scale: on which they are evenly spaced; ``near one`` is the logarithm of what is left to 1.
    """

    name: str
    values: NDArray[np.float64]
    scale: Scale

    @classmethod
    def of(cls, name: str, low: float, high: float, count: int) -> Axis:
        """
        Raises:
            BenchError: there are no such values.
        """
        if not (np.isfinite([low, high]).all() and low < high):
            raise BenchError(f"{name} from {low:g} to {high:g}: must be finite, the lower first")
        if not 2 <= count <= MOST:
            raise BenchError(f"--grid {count}: must be a whole number from 2 to {MOST}")
        if name in COORDINATES or low < 0:
            return cls(name, np.linspace(low, high, count), "linear")
        if name == "momentum" or name.startswith("beta") or name == "decay":
            if high >= 1:
                raise BenchError(f"{name} up to {high:g}: must be below 1")
            return cls(name, 1 - np.geomspace(1 - low, 1 - high, count), "near one")
        if low == 0:
            return cls(name, np.linspace(low, high, count), "linear")
        return cls(name, np.geomspace(low, high, count), "log")

    def place(self, values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values are on an axis on which ours are evenly spaced."""
        given = np.asarray(values, float)
        if self.scale == "linear":
            return given
        return np.log10(given) if self.scale == "log" else -np.log10(1 - given)


def around(points: NDArray[np.float64]) -> tuple[tuple[float, float], tuple[float, float]]:
    """A square with room around ``[N, 2]`` points: from where to where in x, and in y."""
    low, high = points.min(0), points.max(0)
    half = ROOM * max(float((high - low).max()), 1e-3)
    (x, y) = (low + high) / 2
    return (x - half, x + half), (y - half, y + half)
