"""What a measure gives: effects with intervals, and what there is to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.claims.claim import Part


@dataclass(frozen=True)
class Line:
    """Of a figure: ``[N]`` each."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Picture:
    x: str
    y: str
    lines: list[Line]
    log_x: bool = True
    log_y: bool = False
    title: str = ""


@dataclass(frozen=True)
class Measured:
    """
    Attributes:
        parts: effects with intervals.
        pictures: what they were made of.
        note: what else there is to know, in a sentence.
    """

    parts: list[Part]
    pictures: list[Picture] = field(default_factory=list)
    note: str = ""
