"""How far from a point its derivatives foretell the loss: Taylor's circle, along several ways.

Of a loss f at weights θ and a direction d of length 1, `f(θ) - f(θ + s·d)` is foretold as `-s·g·d`
to first order, and as `-s·g·d - s²·dᵀHd/2` to second, with the gradient g and the Hessian H.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.errors import BenchError
from bench.landscape.objective import Objective
from optimizers import OPTIMIZERS
from optimizers.optimizer import Optimizer

BATCHES = 20  # whose gradients momentum and Adam have seen
RIGHT = 0.1  # a foretold decrease may be off by this share
PER_DECADE = 6
DECADES = (-4.0, 1.5)  # of lengths, from the radius that the second order foretells
DAMPINGS = (1e-3, 1e-2, 0.1, 1.0, 10.0)  # of Newton, over the curvature along the gradient
MOST_PRODUCTS = 50  # for each
RESIDUAL = 1e-6
BISECTIONS = 12

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Way:
    """From a point in one direction.

    Attributes:
        slope: g·d; curvature: dᵀHd, for d of length 1.
        step: the length of the optimizer's own step there, at its usual learning rate.
        lengths: s, ``[S]``; real, first, second: by how much the loss falls, ``[S]``.
        first_radius, second_radius: the least s from which the foretold decrease is off by more
            than `RIGHT` of itself; None where no s is. 0 where every s is.
        first_order, second_order: the power of s that the remainder falls with, measured; None
            where it cannot be told from rounding.
        remark: what is to be said of the direction.
    """

    name: str
    slope: float
    curvature: float
    step: float
    lengths: Numbers
    real: Numbers
    first: Numbers
    second: Numbers
    first_radius: float | None
    second_radius: float | None
    first_order: float | None
    second_order: float | None
    remark: str = ""


def ways(objective: Objective, batch_size: int) -> Iterator[Way]:
    """Along the gradient, momentum, Adam and Newton.

    Args:
        objective: in float64.
        batch_size: of the batches that momentum and Adam have seen.

    Raises:
        BenchError: the gradient is zero there, or not finite.
    """
    gradient = objective.gradient(objective.at)
    if not (gradient.isfinite().all() and gradient.any()):
        raise BenchError("the gradient there is zero or not finite: there is no way down to follow")
    product = objective.hessian()
    seen = list(objective.gradients(batches(objective, batch_size)))
    yield followed(objective, "gradient", moved(objective.at, "sgd", [gradient]), gradient, product)
    for name in ("momentum", "adam"):
        change = moved(objective.at, name, seen)
        yield followed(objective, name, change, gradient, product)
    change, remark = newton(gradient, product)
    yield followed(objective, "newton", change, gradient, product, remark)


def batches(objective: Objective, size: int) -> list[Tensor]:
    """The examples of the first `BATCHES` batches of the training split, in its order, from the
    beginning again at its end."""
    total = objective.workload.train_size
    count = min(size, total)
    where = torch.arange(BATCHES * count, device=objective.at.device) % total
    return list(where.split(count))


def moved(at: Tensor, name: str, gradients: list[Tensor]) -> Tensor:
    """The step that an optimizer with its usual settings takes after these gradients, which are
    all taken at one point."""
    p = at.clone()
    optimizer: Optimizer = OPTIMIZERS[name]([p])
    change = torch.zeros_like(p)
    for gradient in gradients:
        p.grad = gradient
        optimizer.step()
        change = p - at
        p.copy_(at)
    return change


def newton(gradient: Tensor, product: Callable[[Tensor], Tensor]) -> tuple[Tensor, str]:
    """The step -(H + λI)⁻¹g by conjugate gradients, and how it was come by: with the least λ of
    `DAMPINGS` for which no negative curvature is met on the way."""
    scale = float(abs(gradient @ product(gradient)) / (gradient @ gradient)) or 1.0
    for damping in DAMPINGS:
        x, products = conjugate_gradients(product, -gradient, damping * scale)
        if x is not None:
            return x, f"damped by {damping * scale:.3g}, {products} products"
    return -gradient, f"the gradient: negative curvature beyond a damping of {damping * scale:.3g}"


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], b: Tensor, damping: float
) -> tuple[Tensor | None, int]:
    """x with (H + damping·I)x = b, None where a curvature is not positive; and the products it
    took, at most `MOST_PRODUCTS`: then x is the best of as many dimensions."""
    x, left, along = torch.zeros_like(b), b, b
    square = b @ b
    enough = RESIDUAL**2 * square
    for n in range(1, MOST_PRODUCTS + 1):
        bent = product(along) + damping * along
        curvature = along @ bent
        if curvature <= 0:
            return None, n
        share = square / curvature
        x, left = x + share * along, left - share * bent
        now = left @ left
        if now <= enough:
            break
        along, square = left + now / square * along, now
    return x, n


def followed(
    objective: Objective,
    name: str,
    change: Tensor,
    gradient: Tensor,
    product: Callable[[Tensor], Tensor],
    remark: str = "",
) -> Way:
    step = float(change.norm())
    d = change / step
    slope, curvature = float(gradient @ d), float(d @ product(d))
    here = objective.loss(objective.at)

    def real(s: float) -> float:
        return here - objective.loss(objective.at + s * d)

    def first(s: Numbers | float) -> Numbers:
        return np.asarray(-slope * s)

    def second(s: Numbers | float) -> Numbers:
        return np.asarray(-slope * s - curvature * np.square(s) / 2)

    foretold = 2 * RIGHT * abs(slope / curvature) if curvature else 1.0
    count = round(PER_DECADE * (DECADES[1] - DECADES[0])) + 1
    lengths = foretold * np.logspace(*DECADES, count)
    found = np.array([real(s) for s in lengths])
    rounding = 100 * np.finfo(np.float64).eps * abs(here)
    small = lengths <= foretold / 10
    return Way(
        name=name,
        slope=slope,
        curvature=curvature,
        step=step,
        lengths=lengths,
        real=found,
        first=first(lengths),
        second=second(lengths),
        first_radius=radius(first, real, lengths, found, rounding),
        second_radius=radius(second, real, lengths, found, rounding),
        first_order=order(lengths[small], (found - first(lengths))[small], rounding),
        second_order=order(lengths[small], (found - second(lengths))[small], rounding),
        remark=remark if slope < 0 else "; ".join(filter(None, [remark, "goes uphill"])),
    )


def radius(
    foretold: Callable[[float], Numbers],
    real: Callable[[float], float],
    s: Numbers,
    found: Numbers,
    rounding: float,
) -> float | None:
    """Between the first of the lengths where it is wrong and the one before, by bisection."""

    def wrong(length: float, value: float) -> bool:
        expected = float(foretold(length))
        return not abs(value - expected) <= RIGHT * abs(expected) + rounding

    for n, (length, value) in enumerate(zip(s, found, strict=True)):
        if wrong(length, value):
            if n == 0:
                return 0.0
            low, high = float(s[n - 1]), float(length)
            for _ in range(BISECTIONS):
                middle = (low * high) ** 0.5
                low, high = (low, middle) if wrong(middle, real(middle)) else (middle, high)
            return low
    return None


def order(s: Numbers, remainder: Numbers, rounding: float) -> float | None:
    """The slope of its logarithm, where it is well above what rounding makes."""
    size = np.abs(remainder)
    told = np.isfinite(size) & (size > 10 * rounding)
    if told.sum() < 4:
        return None
    return float(np.polyfit(np.log(s[told]), np.log(size[told]), 1)[0])
