"""What a step costs in time and memory, against the number of parameters; and laws fitted to it."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from bench.errors import BenchError
from bench.workloads.functions import Rosenbrock
from bench.workloads.models import drawn, loaded
from bench.workloads.workload import Place
from optimizers import Adam, Newton

METHODS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": Adam,
    "newton": Newton,
}
SECOND_ORDER = {"damping": 1.0}
STEPS = 7
WARM = 300  # parameters


@dataclass(frozen=True)
class Cost:
    """Of one step.

    Attributes:
        seconds: of the processor, the least of `STEPS` after one that is not counted: others may
            share the machine.
        memory: bytes that are added to the peak of a process that has taken steps on `WARM`
            parameters: what every process has is left out.
    """

    optimizer: str
    parameters: int
    seconds: float
    memory: int


def cost(optimizer: str, parameters: int) -> Cost:
    """Measured in a process of its own on the Rosenbrock function of so many variables, whose value
    is as cheap as can be: what is seen is the method. One thread, float32. To be called where
    little was freed and kept before: a fork has that, too, and would need no more.

    Raises:
        BenchError: the process has ended before it was done.
    """
    torch.set_num_threads(1)  # a pool of threads does not survive the fork
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(optimizer, parameters, theirs))
    process.start()
    theirs.close()
    try:
        seconds, memory = ours.recv()
    except EOFError as error:
        process.join()
        raise BenchError(
            f"{optimizer} on {parameters:,} parameters ended with status {process.exitcode}; is "
            "there enough memory?"
        ) from error
    process.join()
    return Cost(optimizer, parameters, seconds, memory)


def _measure(optimizer: str, parameters: int, to: Connection) -> None:
    _steps(optimizer, WARM)  # libraries make their buffers
    before = _peak()
    seconds = _steps(optimizer, parameters)
    to.send((min(seconds[1:]), _peak() - before))
    to.close()


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _steps(optimizer: str, parameters: int) -> list[float]:
    """Seconds of the processor for each step, the first with what is made once."""
    place = Place(torch.device("cpu"), torch.float32)
    workload = loaded(Rosenbrock(name="rosenbrock", dimension=parameters), place)
    model = drawn(workload, 0)
    options = {} if optimizer == "adam" else SECOND_ORDER
    stepper = METHODS[optimizer](model.parameters(), **options)

    def closure() -> Any:
        loss = workload.objective(workload.call(model, {}), {})
        if optimizer == "adam":
            stepper.zero_grad()
            loss.backward()
        return loss

    seconds = []
    for _ in range(1 + STEPS):
        start = time.process_time()
        stepper.step(closure)
        seconds.append(time.process_time() - start)
    return seconds


@dataclass(frozen=True)
class Law:
    """`y = factor · parameters ** exponent`, by least squares in logarithms.

    Attributes:
        error: the standard error of the exponent.
        first, last: between which numbers of parameters it was fitted.
    """

    factor: float
    exponent: float
    error: float
    first: int
    last: int

    @classmethod
    def of(cls, parameters: Sequence[int], y: ArrayLike) -> Law:
        """Of at least three points."""
        x, log_y = np.log(np.asarray(parameters, np.float64)), np.log(np.asarray(y, np.float64))
        away = x - x.mean()
        exponent = float(away @ log_y / (away @ away))
        level = float(log_y.mean() - exponent * x.mean())
        left = log_y - level - exponent * x
        error = float(np.sqrt(left @ left / (len(x) - 2) / (away @ away)))
        return cls(float(np.exp(level)), exponent, error, min(parameters), max(parameters))

    def at(self, parameters: float) -> float:
        return float(self.factor * parameters**self.exponent)
