"""Where a run has been: the parameter that its workload's `way` names, after every step."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.landscape.trajectory import FILE_NAME, MOST

log = logging.getLogger(__name__)


def is_kept(dimension: int, steps: int) -> bool:
    """Whether so long a way is kept, with a line in the log where it is not."""
    numbers = dimension * (steps + 1)
    if numbers > MOST:
        log.info("no %s is kept: its %d numbers are more than %d", FILE_NAME, numbers, MOST)
    return numbers <= MOST


class Way:
    """One run's, as it grows.

    Args:
        pieces: of it, each ``[S, d]`` in float32 on the CPU; the first begins at the start.
    """

    def __init__(self, pieces: list[Tensor]) -> None:
        self.pieces = pieces

    @classmethod
    def of(cls, start: Tensor) -> Way:
        """From its first point, ``[d]``."""
        return cls([start.detach().to("cpu", torch.float32, copy=True).unsqueeze(0)])

    def go(self, points: Tensor) -> None:
        """Takes the points after the next steps, ``[S, d]``."""
        self.pieces.append(points.to("cpu", torch.float32, copy=True))

    def points(self) -> Tensor:
        """``[steps + 1, d]``, in memory of its own."""
        self.pieces = [torch.cat(self.pieces)]
        return self.pieces[0]

    def write(self, directory: Path) -> None:
        """Into a run's directory. Until its record is there, nobody reads it."""
        np.save(directory / FILE_NAME, self.points().numpy())
