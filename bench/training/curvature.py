"""The curvature of the training loss along training: what ``trainer.curvature`` logs.

Whatever is drawn is drawn from generators of its own, and the model is a copy: training goes on as
if nothing had been measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.landscape.objective import Objective, Products, drawn_examples
from bench.landscape.spectrum import EXACT, cosine, dense, ends_of, largest, trace
from bench.settings.paths import line
from bench.workloads.models import drawn, seeded
from bench.workloads.workload import Workload

EXAMPLES = 1000  # the same at each time, for all runs
PROBES = 20
TOLERANCE = 1e-3


def measure(
    workload: Workload, model: nn.Module, weights: Sequence[Tensor], *, seed: int
) -> dict[str, float]:
    """At these weights, on the first `EXAMPLES` drawn from the training split by seed 0, without
    dropout, in the weights' precision but no less than float32.

    Args:
        model: whose buffers are taken.
        seed: for which the workload builds a model.

    Returns:
        ``sharpness``, the largest eigenvalue of the Hessian of the loss with its l2 term, to a
        thousandth; its ``trace`` by Hutchinson with `PROBES` probes, and the standard error of
        that; ``gradient_norm``; ``alignment``, the size of the cosine between the gradient and the
        eigenvector. What is not finite is left out.

    Raises:
        BenchError: the loss cannot be differentiated twice.
    """
    devices = [weights[0].device] if weights[0].is_cuda else []
    with torch.random.fork_rng(devices), seeded(0), torch.enable_grad():
        dtype = torch.promote_types(weights[0].dtype, torch.float32)
        own = drawn(workload, seed).to(weights[0].device, dtype)
        own.load_state_dict(model.state_dict())
        with torch.no_grad():
            for p, value in zip(own.parameters(), weights, strict=True):
                p.copy_(value)
        objective = Objective(workload, own, drawn_examples(workload, EXAMPLES, 0))
        try:
            values = _measured(objective)
        except FloatingPointError:
            return {}
        except (RuntimeError, NotImplementedError) as error:
            raise BenchError(
                f"trainer.curvature: the loss of {workload.name} cannot be differentiated twice "
                f"({line(error)})"
            ) from error
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _measured(objective: Objective) -> dict[str, float]:
    gradient = objective.gradient(objective.at).double().cpu().numpy()
    products, size = Products(objective), objective.size
    if size <= EXACT:
        matrix = dense(products, size)
        ends = ends_of(matrix, 1)
        top, vector = ends.top, ends.vector
        traced, error = float(np.trace(matrix)), 0.0
    else:
        top, vector = largest(products, size, 1, seed=0, tolerance=TOLERANCE)
        traced, error = trace(products, size, PROBES, seed=0)
    return {
        "sharpness": float(top[0]) if len(top) else math.nan,
        "trace": traced,
        "trace_error": error,
        "gradient_norm": float(np.linalg.norm(gradient)),
        "alignment": math.nan if vector is None else abs(cosine(gradient, vector)),
    }
