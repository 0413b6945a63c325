"""``trajectory.npy``, beside the record of a run on a function: float32 ``[steps + 1, d]``, the
point before every step and after the last one. No torch."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import files
from bench.errors import BenchError

FILE_NAME = "trajectory.npy"
MOST = 2**20  # numbers of one, 4 MB; a longer way is not kept


def read(directory: Path) -> NDArray[np.float32]:
    """That of a run.

    Raises:
        BenchError: there is none, or it is something else.
    """
    path = directory / FILE_NAME
    content = files.read(path, most=4 * MOST + 1000)
    try:
        points = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        right = points.dtype == np.float32 and points.ndim == 2 and points.size > 0
    except (ValueError, EOFError, TypeError, MemoryError, SyntaxError) as error:
        raise BenchError(f"{path}: not an array of numbers") from error
    if not right:
        raise BenchError(f"{path}: not float32 [steps + 1, d]")
    return points
