"""A function of two coordinates, as numbers on a grid and at points. PyTorch is imported when they
are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.settings.workloads import workload_of

if TYPE_CHECKING:
    from bench.workloads.functions import Function

Numbers = NDArray[np.float64]


def plane(config: Mapping[str, Any]) -> Function | None:
    """The workload of a configuration, if it is a function of two coordinates.

    Raises:
        BenchError: there is no such workload.
    """
    from bench.workloads.functions import Function

    workload = workload_of(config)
    return workload if isinstance(workload, Function) and workload.dimension == 2 else None


def of_it(config: Mapping[str, Any]) -> dict[str, Any]:
    """What makes it the function that it is, of a configuration: not where a run starts, nor its
    noise."""
    from bench.workloads.functions import Function

    apart = {field.name for field in fields(Function)} - {"_target_"}
    return {key: value for key, value in config["workload"].items() if key not in apart}


def values_at(function: Function, points: Any) -> Numbers:
    """At points ``[..., 2]``."""
    import torch
    from torch.func import vmap

    from bench.workloads.models import loaded
    from bench.workloads.workload import Place

    given = torch.as_tensor(np.asarray(points, np.float64))
    loaded(function, Place(torch.device("cpu"), torch.float64))
    with torch.no_grad():
        found = vmap(function.value)(given.reshape(-1, 2))
    return found.reshape(given.shape[:-1]).numpy()


def on_grid(function: Function, x: Numbers, y: Numbers) -> Numbers:
    """``[Y, X]``."""
    return values_at(function, np.stack(np.meshgrid(x, y), -1))
