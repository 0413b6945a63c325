"""What claims measure of ways on functions of a point, from many random starts at once.

Starts are drawn by seed 0; points are in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import pi
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.func import grad, vmap

from bench.analysis.intervals import mean_interval
from bench.claims.claim import Part
from bench.claims.direct import Problem
from bench.claims.measured import Line, Measured, Picture
from bench.landscape.theory import SETTINGS
from bench.workloads.functions import Function
from optimizers import Stack

STARTS = 10
BISECTIONS = 12
THEORETICAL = {setting.optimizer: setting for setting in SETTINGS if "tuned" not in setting.name}

Numbers = NDArray[np.float64]


def divergence_limit(confidence: float, *, conditions: str, steps: int = 1000) -> Measured:
    """From which learning rate on plain descent on a quadratic diverges, over 2 / λmax: by
    bisection, for each start."""
    parts = []
    for condition in conditions.split(","):
        function = _function("quadratic", f"workload.condition={condition}")
        starts = _normal(function)
        low, high = np.full(STARTS, 0.5), np.full(STARTS, 2.0)
        for _ in range(BISECTIONS):
            middle = np.sqrt(low * high)
            way = went(function, "sgd", starts, steps, lr=middle * 2 / function.curvature()[1])
            grew = ~(_length(way[-1]) < _length(way[steps // 2]))
            low, high = np.where(grew, low, middle), np.where(grew, middle, high)
        parts.append(_mean_of_logs(f"condition {condition}", low, confidence))
    return Measured(parts)


def zigzag(confidence: float, *, conditions: str, steps: int = 100) -> Measured:
    """The cosine between one step of plain descent on a quadratic and the next, its mean over the
    first steps, at the learning rate that converges fastest."""
    parts, lines = [], []
    for condition in conditions.split(","):
        function = _function("quadratic", f"workload.condition={condition}")
        low, high = function.curvature()
        way = went(function, "sgd", _normal(function), steps, lr=2 / (low + high))
        moves = np.diff(way, axis=0)
        cosines = (moves[1:] * moves[:-1]).sum(-1) / _length(moves[1:]) / _length(moves[:-1])
        parts.append(Part(f"condition {condition}", *mean_interval(cosines.mean(0), confidence)))
        lines.append(Line(f"condition {condition}", range(1, steps), list(cosines.mean(1))))
    picture = Picture("step", "cosine with the step before", lines, log_x=False)
    return Measured(parts, [picture])


def steps_by_condition(
    confidence: float, *, optimizers: str, conditions: str, within: float = 1e-6, most: int = 4000
) -> Measured:
    """The exponent a of the steps until the distance to the minimum of a quadratic is ``within``
    of what it was ~ κ^a, at the settings that theory calls best for each κ."""
    parts, lines = [], []
    x = [float(condition) for condition in conditions.split(",")]
    for optimizer in optimizers.split(","):
        setting, taken = THEORETICAL[optimizer], []
        for condition in x:
            function = _function("quadratic", f"workload.condition={condition:g}")
            way = went(function, optimizer, _normal(function), most, **setting.options(condition))
            taken.append(first(_length(way) <= within * _length(way[0])))
        logs = np.log(np.array(taken))  # [κ, S]
        slopes = np.polyfit(np.log(x), logs, 1)[0] if np.isfinite(logs).all() else [np.nan]
        parts.append(Part(optimizer, *mean_interval(np.array(slopes), confidence)))
        lines.append(Line(optimizer, x, list(np.mean(taken, axis=1))))
    picture = Picture("condition number", f"steps to {within:g} of the distance", lines, log_y=True)
    return Measured(parts, [picture])


def nesterov_over_momentum(
    confidence: float,
    *,
    conditions: str,
    rates: str = "0.1,0.2,0.4,0.6,0.8,1,1.2,1.5,2,2.5,3,3.5",
    momenta: str = "0,0.5,0.8,0.9,0.95,0.98",
    within: float = 1e-6,
    most: int = 2000,
) -> Measured:
    """How many times as many steps momentum takes to come so near to the minimum of a quadratic as
    Nesterov's: each at the learning rate and momentum that take fewest from half of the starts,
    compared from the other half."""
    settings = np.array(list(product(_floats(rates), _floats(momenta))))  # [C, 2]
    parts, pictures = [], []
    for condition in conditions.split(","):
        function, taken = _function("quadratic", f"workload.condition={condition}"), {}
        starts = _normal(function, 2 * STARTS)
        for optimizer in ("momentum", "nesterov"):
            way = went(
                function,
                optimizer,
                np.tile(starts, (len(settings), 1)),
                most,
                lr=settings[:, 0].repeat(len(starts)),
                momentum=settings[:, 1].repeat(len(starts)),
            )
            near = first(_length(way) <= within * _length(way[0]))
            taken[optimizer] = near.reshape(len(settings), len(starts))
        best = {name: x[x[:, ::2].mean(1).argmin(), 1::2] for name, x in taken.items()}
        ratio = best["momentum"] / best["nesterov"]
        parts.append(_mean_of_logs(f"condition {condition}", ratio, confidence))
        lines = []
        for name, x in taken.items():
            fewest = x.mean(1).reshape(-1, len(_floats(momenta))).min(0)
            known = np.isfinite(fewest)
            away = 1 - np.array(_floats(momenta))
            lines.append(Line(name, list(away[known]), list(fewest[known])))
        title = f"condition {condition}"
        pictures.append(Picture("1 - momentum", "fewest steps", lines, log_y=True, title=title))
    return Measured(parts, pictures)


def leaving_a_saddle(
    confidence: float,
    *,
    beside: float,
    ways: Mapping[str, Mapping[str, Any]],
    lr: float = 0.1,
    far: float = 0.5,
    most: int = 1000,
) -> Measured:
    """How many times as many steps plain descent takes to leave a saddle as others.

    Args:
        beside: how far from the ridge that leads to the saddle the starts are, times a normal draw;
            0 for on it. Whoever has not left after ``most`` steps counts as having taken them.
        ways: of each part, its ``optimizer``, and its ``sigma``, the deviation of the noise that is
            added to each coordinate of the gradient.
        far: from the ridge, where it has been left.
    """
    function = _function("saddle")
    draws = np.random.default_rng(0).normal(size=STARTS)
    starts = np.stack([np.ones(STARTS), beside * draws], axis=1)
    shown = range(min(most + 1, 120))

    def until(optimizer: str = "sgd", sigma: float = 0.0) -> tuple[Numbers, list[float]]:
        way = went(function, optimizer, starts, most, sigma=sigma, lr=lr)
        away = np.abs(way[..., 1])  # [1 + T, S]
        typical = np.exp(np.log(np.maximum(away, 1e-12)).mean(1))
        return np.minimum(first(away >= far), most), list(typical[: len(shown)])

    plain, curve = until()
    parts, lines = [], [Line("plain descent", shown, curve)]
    for name, way in ways.items():
        taken, curve = until(**way)
        parts.append(_mean_of_logs(name, plain / taken, confidence))
        lines.append(Line(name, shown, curve))
    picture = Picture("step", "distance from the ridge", lines, log_x=False, log_y=True)
    stayed = (plain >= most).sum()
    note = f"From {stayed} of {STARTS} starts, plain descent had not left after {most:,} steps."
    return Measured(parts, [picture], note)


def plateau(
    confidence: float,
    *,
    optimizers: str,
    against: str = "",
    radius: float = 10.0,
    rates: str = "1e-3,3e-3,1e-2,3e-2,1e-1,3e-1,1,3",
    most: int = 5000,
) -> Measured:
    """How far a plateau holds each optimizer: how many times as many steps it takes for the first
    tenth of the way down as for the last tenth before the bowl; or, with ``against``, how many
    times as many in all as that optimizer. Each at the learning rate, of the same for all,
    that is soonest within 0.01 of the minimum, on the mean."""
    function = _function("plateau")
    angles = np.random.default_rng(0).uniform(0, 2 * pi, STARTS)
    starts = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    values = np.array(_floats(rates))
    lasted, arrived, lines = {}, {}, []
    for optimizer in dict.fromkeys([*optimizers.split(","), *filter(None, [against])]):
        way = went(
            function,
            optimizer,
            np.tile(starts, (len(values), 1)),
            most,
            lr=values.repeat(STARTS),
        )
        away = _length(way).reshape(-1, len(values), STARTS)
        there = np.minimum(first(away <= 1e-2), most)  # [lr, S]
        best = there.mean(1).argmin()
        far, near = (first(away[:, best] <= share * radius) for share in (0.9, 0.2))
        slope = first(away[:, best] <= 0.1 * radius) - near
        lasted[optimizer], arrived[optimizer] = far / np.maximum(slope, 1), there[best]
        shown = int(np.max(there[best])) + 1
        lines.append(Line(optimizer, range(1, shown), list(away[1:shown, best].mean(1))))
    parts = [
        _mean_of_logs(
            name,
            lasted[name] if not against else arrived[name] / arrived[against],
            confidence,
        )
        for name in optimizers.split(",")
    ]
    return Measured(parts, [Picture("step", "distance from the minimum", lines, log_y=True)])


def damped(
    confidence: float, *, conditions: str, optimizer: str = "adagrad", steps: int = 30
) -> Measured:
    """How many times as far a coordinate of least curvature moves for its gradient as one of
    largest curvature, in the last of some steps on a quadratic along its axes."""
    parts, lines = [], []
    for condition in conditions.split(","):
        given = [f"workload.condition={condition}", "workload.rotation=null"]
        function = _function("quadratic", "workload.dimension=2", *given)
        way = went(function, optimizer, _normal(function), steps, lr=0.1)
        slopes = way[:-1] * np.diag(function.hessian())
        rates = np.abs(np.diff(way, axis=0) / slopes)  # [T, S, d]
        ratio = rates[..., 0] / rates[..., 1]
        parts.append(_mean_of_logs(f"condition {condition}", ratio[-1], confidence))
        mean = np.exp(np.log(ratio).mean(1))
        lines.append(Line(f"condition {condition}", range(1, steps + 1), list(mean)))
    picture = Picture("step", "rate of the flat over the steep", lines, log_x=False, log_y=True)
    return Measured(parts, [picture])


FUNCTIONS: Mapping[str, Callable[..., Measured]] = {
    function.__name__: function
    for function in (
        divergence_limit,
        zigzag,
        steps_by_condition,
        nesterov_over_momentum,
        leaving_a_saddle,
        plateau,
        damped,
    )
}


def went(
    function: Function,
    optimizer: str,
    starts: ArrayLike,
    steps: int,
    *,
    sigma: float = 0.0,
    **hyperparameters: Any,
) -> Numbers:
    """Where runs from these starts ``[K, d]`` are, ``[1 + steps, K, d]``.

    Args:
        sigma: of normal noise that is added to each coordinate of each gradient, by seed 0.
        hyperparameters: one number for all, or ``[K]``.
    """
    points = torch.tensor(np.asarray(starts), dtype=torch.float64)
    way = torch.empty(1 + steps, *points.shape, dtype=points.dtype)
    way[0] = points
    stack = Stack(optimizer, [points], hyperparameters, names=[function.way])
    gradient, generator = vmap(grad(function.value)), torch.Generator().manual_seed(0)
    for step in range(1, 1 + steps):
        slope = gradient(stack.parameters[0])
        if sigma:
            slope = slope + sigma * torch.randn(slope.shape, generator=generator, dtype=slope.dtype)
        stack.step([slope])
        way[step] = stack.parameters[0]
    return way.numpy()


def first(reached: NDArray[np.bool_]) -> Numbers:
    """The first step at which it is, of ``[1 + T, ...]``; infinite where it never is."""
    return np.where(reached.any(0), reached.argmax(0), np.inf)


def _function(name: str, *given: str) -> Any:
    return Problem.of(name, *given).workload


def _normal(function: Function, count: int = STARTS) -> Numbers:
    return np.random.default_rng(0).normal(size=(count, function.dimension))


def _length(points: Numbers) -> Numbers:
    with np.errstate(over="ignore"):  # of a way that diverges
        return np.linalg.norm(points, axis=-1)


def _floats(text: str) -> list[float]:
    return [float(value) for value in text.split(",")]


def _mean_of_logs(name: str, ratios: Sequence[float] | Numbers, confidence: float) -> Part:
    """The geometric mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.asarray(ratios))
    return Part(name, *map(float, np.exp(mean_interval(logs, confidence))))
