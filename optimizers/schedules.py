"""Learning-rate schedules: pure functions from the step, 0 on the first, to a multiplier.

A step may be an int or an array of them, and a schedule's own numbers may be arrays `[K]`, one for
each run of a stack; the answer has the shape that these broadcast to.
"""
# ruff: noqa: RUF002, RUF009 -- formulas have their own signs; `hyperparameter` gives a field

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from .rule import Hyperparameter

Numbers = Any  # a number or an array of them


def hyperparameter(default: float | None, interval: str, kind: type = float) -> Any:
    return field(
        default=default, metadata={"declared": Hyperparameter(default, interval, kind=kind)}
    )


def nonnegative(default: float) -> Any:
    return hyperparameter(default, "[0, inf)")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The multiplier rises linearly over `warmup_steps`, then follows `shape` from its start.

    The first warm-up step has `1/warmup_steps`; the first step after it has what a schedule
    without warm-up has on its first.
    """

    warmup_steps: Numbers = hyperparameter(0, "[0, inf)", int)

    def __post_init__(self) -> None:
        for name, declared in self.declarations().items():
            for value in np.atleast_1d(np.asarray(getattr(self, name), dtype=object)):
                declared.check(name, value)

    @classmethod
    def declarations(cls) -> Mapping[str, Hyperparameter]:
        """What each hyperparameter accepts, and its default."""
        return {f.name: f.metadata["declared"] for f in fields(cls)}

    def __call__(self, step: Numbers) -> Numbers:
        ramp = (np.asarray(step) + 1) / np.maximum(self.warmup_steps, 1)
        after = self.shape(np.maximum(np.asarray(step) - self.warmup_steps, 0.0))
        multiplier = np.where(np.asarray(step) < self.warmup_steps, ramp, after)
        return multiplier if multiplier.ndim else float(multiplier)

    def shape(self, step: Numbers) -> Numbers:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    def shape(self, step: Numbers) -> Numbers:
        return np.ones_like(step)


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """Times `factor` after each `every` steps."""

    every: Numbers = hyperparameter(1000, "[1, inf)", int)
    factor: Numbers = nonnegative(0.1)

    def shape(self, step: Numbers) -> Numbers:
        return self.factor ** (step // self.every)


@dataclass(frozen=True, kw_only=True)
class Exponential(Schedule):
    """`e^(−rate·step)`"""

    rate: Numbers = nonnegative(1e-3)

    def shape(self, step: Numbers) -> Numbers:
        return np.exp(-self.rate * step)


@dataclass(frozen=True, kw_only=True)
class InverseSqrt(Schedule):
    """`1/√(1 + rate·step)`; with rate 1 the classical `η/√(t + 1)`."""

    rate: Numbers = nonnegative(1.0)

    def shape(self, step: Numbers) -> Numbers:
        return 1 / np.sqrt(1 + self.rate * step)


@dataclass(frozen=True, kw_only=True)
class InverseTime(Schedule):
    """`1/(1 + rate·step)`"""

    rate: Numbers = nonnegative(1e-3)

    def shape(self, step: Numbers) -> Numbers:
        return 1 / (1 + self.rate * step)


@dataclass(frozen=True, kw_only=True)
class Horizon(Schedule):
    """A schedule over `total_steps`, warm-up included, that then stays where it ended."""

    total_steps: Numbers = hyperparameter(None, "[1, inf)", int)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.total_steps is None:
            raise ValueError(f"{type(self).__name__} needs total_steps, the length of the training")

    @property
    def length(self) -> Numbers:
        """Steps after the warm-up."""
        return np.maximum(self.total_steps - self.warmup_steps, 1)


@dataclass(frozen=True, kw_only=True)
class Linear(Horizon):
    """From 1 straight to `final`."""

    final: Numbers = nonnegative(0.0)

    def shape(self, step: Numbers) -> Numbers:
        return between(1.0, self.final, np.minimum(step / self.length, 1))


@dataclass(frozen=True, kw_only=True)
class Cosine(Horizon):
    """From 1 to `final` along half a cosine (Loshchilov & Hutter, 2017, arXiv:1608.03983)."""

    final: Numbers = nonnegative(0.0)

    def shape(self, step: Numbers) -> Numbers:
        return between(1.0, self.final, half_cosine(step / self.length))


@dataclass(frozen=True, kw_only=True)
class OneCycle(Horizon):
    """From `initial` up to 1 in the first `rise` of all steps, then down to `final` on the last
    (Smith & Topin, 2018, arXiv:1708.07120). Half cosines both ways, as PyTorch's OneCycleLR, which
    has `initial = 1/div_factor` and `final = initial/final_div_factor`; momentum is left alone.
    """

    rise: Numbers = hyperparameter(0.3, "(0, 1)")
    initial: Numbers = nonnegative(1 / 25)
    final: Numbers = nonnegative(1 / 25 / 1e4)

    def shape(self, step: Numbers) -> Numbers:
        last = np.maximum(self.length - 1, 1)
        peak = np.clip(self.rise * self.length - 1, 1e-9, last - 1e-9)
        up = between(self.initial, 1.0, half_cosine(step / peak))
        down = between(1.0, self.final, half_cosine((step - peak) / (last - peak)))
        return np.where(step <= peak, up, down)


def between(start: Numbers, end: Numbers, share: Numbers) -> Numbers:
    return start + (end - start) * share


def half_cosine(share: Numbers) -> Numbers:
    """From 0 to 1 as `share` does, level at both ends."""
    return (1 - np.cos(np.pi * np.clip(share, 0, 1))) / 2


SCHEDULES: Mapping[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "exponential": Exponential,
    "inverse_sqrt": InverseSqrt,
    "inverse_time": InverseTime,
    "linear": Linear,
    "cosine": Cosine,
    "one_cycle": OneCycle,
}
