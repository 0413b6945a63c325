"""A metric: what a model's answers are judged by.

Selection, early stopping, targets, searches, figures and sentences go by what stands here, whatever
the metric is called. No torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypedDict

Sums = Mapping[str, float]


class Description(TypedDict):
    """What a record says of the metric that selects."""

    name: str
    unit: str
    higher_is_better: bool
    chance: float | None


@dataclass(frozen=True)
class Metric:
    """One number for a whole split, from sums over its examples.

    Attributes:
        name: as in ``val/<name>``; without a slash.
        unit: ``"fraction"`` is shown in per cent, any other as it is.
        higher_is_better: which way is better.
        chance: its value for a model that has learned nothing; None where that is not known.
        total: from a model's output and a batch to the sum over the batch's examples, a tensor
            without dimensions. None where `Workload.sums` has all that is needed.
        of: from the sums of a whole split, by name, to the value. Without it, the sum called as the
            metric is over ``count``: a mean.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = False
    chance: float | None = None
    total: Callable[[Any, Any], Any] | None = field(default=None, repr=False)
    of: Callable[[Sums], float] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"a metric's name is a word without a slash, not {self.name!r}")

    def __str__(self) -> str:
        return self.name

    def value(self, sums: Sums) -> float:
        """Of a split, from the sums over it."""
        return sums[self.name] / sums["count"] if self.of is None else self.of(sums)

    @property
    def sign(self) -> int:
        """``sign * value`` is larger for the better value."""
        return 1 if self.higher_is_better else -1

    @property
    def least(self) -> float:
        """The least that a run can be worth, where more is better: of a fraction there is a worst
        value, of others it is infinite."""
        if self.unit == "fraction":
            return 0.0 if self.higher_is_better else -1.0
        return -inf

    @property
    def bounds(self) -> tuple[float, float]:
        """What a value cannot leave."""
        return (0.0, 1.0) if self.unit == "fraction" else (-inf, inf)

    @property
    def relative(self) -> bool:
        """Whether a tolerance is a share of the best value: a fraction's is in points."""
        return self.unit != "fraction"

    @property
    def description(self) -> Description:
        return Description(
            name=self.name,
            unit=self.unit,
            higher_is_better=self.higher_is_better,
            chance=self.chance,
        )
