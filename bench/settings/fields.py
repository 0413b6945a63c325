"""How a field of a configuration says what it accepts."""

from dataclasses import field
from typing import Any

from omegaconf import MISSING

from optimizers.rule import Hyperparameter


def accepts(
    default: Any,
    interval: str | None = None,
    *choices: str,
    kind: type = float,
    none: bool = False,
    problem: bool = False,
) -> Any:
    """A field with a default and what is accepted: an interval or one of some choices; and None,
    where that is the default or ``none`` says so.

    Args:
        problem: it says what is minimised, not how: no value of it is better than another, and a
            report takes runs that differ in it for runs of different workloads.
    """
    kind = str if choices else kind
    declared = Hyperparameter(None if none else default, interval, choices, kind=kind)
    return field(default=default, metadata={"declared": declared, "problem": problem})


def whole_or(default: Any, word: str) -> Any:
    """A field that takes a whole number from 1, or one word."""
    return field(default=default, metadata={"whole_or": word})


def each(interval: str) -> Any:
    """A list of whole numbers, empty by default, each within an interval."""
    return field(default_factory=list, metadata={"each": interval})


def words(*default: str) -> Any:
    """A list of words."""
    return field(default_factory=lambda: list(default))


def section(kind: type) -> Any:
    """A section of keys, which are those of a subclass of ``kind``."""
    return field(default=MISSING, metadata={"part": kind})
