"""What a rule is.

A rule is the mathematics of one optimizer, free of how it is run. It has three parts:

- `slots`: the names of its state, each zero at the start and shaped like the parameter;
- `coefficients(h, t)`: the numbers that one step needs, from hyperparameters `h` and the step `t`,
  1 on the first; in float64, cast once;
- `update(p, g, state, c)`: the step itself, pure: from parameter, gradient, state and coefficients
  to the next parameter and state.

Shapes. In `update`, `p`, `g` and each slot are `[...]`, the same for all, and each coefficient is a
number. In a stack of K runs they are `[K, ...]`, and each coefficient is `[K, 1, ...]`; `h` then
holds one number a run. An elementwise rule therefore cannot tell a stack from a single run.

Only operators and the methods `abs`, `maximum`, `sign` and `sqrt` of `p`, `g` and the slots may be
used: whatever has them can carry out a rule, or translate it.

A rule is elementwise unless it says that it is `Matrixwise`: then `p`, `g` and each slot are
`[..., rows, columns]`, each coefficient is a number or `[K, 1, 1]`, and all that tensors have may
be used.
"""
# ruff: noqa: RUF002 -- formulas have their own signs

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

Numbers = Any  # hyperparameters or coefficients by name, as attributes
Array = Any  # a tensor, or anything else that has its operators
State = tuple[Array, ...]


def shown(value: object) -> str:
    """A value that may be anything, in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True)
class Hyperparameter:
    """A default and what is accepted: an interval such as `"[0, 1)"`, or one of some `choices`.

    Where the default is None, None is accepted too and `kind` says what else may stand there. A
    text without choices may be any.
    """

    default: float | str | None
    interval: str | None = None
    choices: tuple[str | bool, ...] = ()
    kind: type = float

    @property
    def accepted(self) -> str:
        choices = f"one of {list(self.choices)}" if self.choices else "text"
        within = f"in {self.interval}" if self.interval else choices
        return f"None or {within}" if self.default is None else within

    def check(self, name: str, value: object) -> None:
        """Raise ValueError unless `value` is accepted."""
        if not ((value is None and self.default is None) or self._accepts(value)):
            raise ValueError(f"{name}={shown(value)} is not accepted: it must be {self.accepted}")

    def _accepts(self, value: object) -> bool:
        if self.interval is None:
            return isinstance(value, self.kind) and (not self.choices or value in self.choices)
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is a tensor's
            return False
        low, high = (float(bound) for bound in self.interval[1:-1].split(","))
        above = number > low or (number == low and self.interval[0] == "[")
        below = number < high or (number == high and self.interval[-1] == "]")
        whole = self.kind is not int or number.is_integer()
        return above and below and whole and not isinstance(value, bool | str)


def nonnegative(default: float) -> Hyperparameter:
    return Hyperparameter(default, "[0, inf)")


def fraction(default: float) -> Hyperparameter:
    return Hyperparameter(default, "[0, 1)")


def choice(default: str, *others: str) -> Hyperparameter:
    return Hyperparameter(default, choices=(default, *others), kind=str)


def flag(default: bool) -> Hyperparameter:
    return Hyperparameter(default, choices=(False, True), kind=bool)


def real(default: float) -> Hyperparameter:
    return Hyperparameter(default, "(-inf, inf)")


def text(default: str = "") -> Hyperparameter:
    return Hyperparameter(default, kind=str)


# What can be said of every rule, beside its own hyperparameters.
OPTIONS: Mapping[str, Hyperparameter] = {
    "maximize": flag(False),
    "clip_norm": Hyperparameter(None, "(0, inf)"),
    "weight_decay_on": choice("all", "weights"),
    "gradient": choice("autograd", "numeric"),
}


class Rule:
    """Base of every rule: what all of them share stands here, once."""

    slots: ClassVar[Sequence[str]] = ()
    hyperparameters: ClassVar[Mapping[str, Hyperparameter]] = {}

    @staticmethod
    def coefficients(h: Numbers, t: int) -> dict[str, Numbers]:
        raise NotImplementedError

    @staticmethod
    def update(p: Array, g: Array, state: State, c: Numbers) -> tuple[Array, State]:
        raise NotImplementedError

    @staticmethod
    def decay(p: Array, g: Array, c: Numbers) -> tuple[Array, Array]:
        """Coupled weight decay: the gradient of `λ/2 ‖p‖²` is added to the loss's."""
        return p, g + c.weight_decay * p

    @staticmethod
    def iterate(p: Array, state: State, c: Numbers) -> Array:
        """The point to evaluate at, for a rule that holds another one."""
        return p

    @classmethod
    def variant(cls, h: Numbers) -> type[Rule]:
        """The rule with only the slots that hyperparameters `h` need."""
        return cls

    @classmethod
    def of(cls, h: Numbers, shape: Sequence[int], name: str | None) -> type[Rule]:
        """The rule that a parameter goes by, of this shape without the axis of a stack."""
        return cls

    @classmethod
    def division(cls, h: Numbers) -> object:
        """What of hyperparameters `h` decides which rules parameters go by, and their slots."""
        return cls.variant(h)

    @classmethod
    def check_names(cls, groups: Sequence[tuple[Numbers, Sequence[str] | None]]) -> None:
        """ValueError if a group's hyperparameters do not fit the names of its parameters."""

    @classmethod
    def all_coefficients(cls, h: Numbers, t: int) -> dict[str, Numbers]:
        """Those of the rule, and those of the step around it."""
        return {
            "scale": 1 - 2 * h.maximize,  # clipping multiplies into this
            "weight_decay": h.weight_decay,
            "lr_weight_decay": h.lr * h.weight_decay,
            **cls.coefficients(h, t),
        }

    @classmethod
    def step(cls, p: Array, g: Array, state: State, c: Numbers) -> tuple[Array, State]:
        """One whole step: sign and clipping of the gradient, weight decay, the rule's update."""
        return cls.update(*cls.decay(p, c.scale * g, c), state, c)


class Decoupled(Rule):
    @staticmethod
    def decay(p: Array, g: Array, c: Numbers) -> tuple[Array, Array]:
        """Decoupled weight decay, arXiv:1711.05101: `p ← p − lr·λ·p`, the gradient left alone."""
        return p - c.lr_weight_decay * p, g


class Matrixwise(Rule):
    """A rule on whole matrices.

    A parameter of more than two axes, such as a convolution's kernel, is a matrix of `out × rest`.
    One of fewer is no matrix, nor is one that `exclude` names, as is wanted of embeddings and
    output layers: patterns of names such as `head.*`, with blanks between them, or `*` for all of a
    param_group. What is no matrix goes by another rule, `rest`, on the same hyperparameters.
    """

    rest: ClassVar[type[Rule]]
    hyperparameters: ClassVar[Mapping[str, Hyperparameter]] = {"exclude": text()}

    def __init_subclass__(cls) -> None:
        rest = getattr(cls, "rest", Matrixwise)
        if issubclass(rest, Matrixwise):
            raise TypeError(f"{cls.__name__} names no elementwise rule as `rest`, for biases")
        needed = {*Matrixwise.hyperparameters, *rest.hyperparameters}
        if missing := sorted(needed - cls.hyperparameters.keys()):
            raise TypeError(
                f"{cls.__name__} has no {', '.join(missing)}: what is no matrix goes by "
                f"{rest.__name__}, on the same hyperparameters"
            )

    @classmethod
    def of(cls, h: Numbers, shape: Sequence[int], name: str | None) -> type[Rule]:
        is_matrix = len(shape) > 1 and 0 not in shape
        excluded = any(fnmatchcase(name or "", pattern) for pattern in h.exclude.split())
        return cls if is_matrix and not excluded else cls.rest

    @classmethod
    def division(cls, h: Numbers) -> object:
        return cls.variant(h), cls.rest.variant(h), h.exclude

    @classmethod
    def check_names(cls, groups: Sequence[tuple[Numbers, Sequence[str] | None]]) -> None:
        patterns = {pattern for h, _ in groups for pattern in h.exclude.split()}
        for pattern in sorted(patterns - {"*"}):
            own = [names for h, names in groups if pattern in h.exclude.split()]
            if None in own:
                raise ValueError(
                    f"exclude={pattern!r} goes by names, and the parameters have none: give "
                    "model.named_parameters()"
                )
            known = [name for names in own for name in names or ()]
            if not any(fnmatchcase(name, pattern) for name in known):
                raise ValueError(
                    f"exclude={pattern!r} is no parameter's name: they are {', '.join(known)}"
                )
