"""A statement, the experiment that tests it, and the rule by which it is judged: fixed before any
run is made, in ``conf/claim/<name>.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any, Optional

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bench.command_line import CONF
from bench.errors import BenchError

WHERE = CONF / "claim"
GROUPS = {
    "gradients": "Gradients and batches",
    "landscape": "Conditioning, minima and ways to them",
    "momentum": "Momentum",
    "adaptive": "Adaptive rates",
    "tuning": "Tuning, schedules and starts",
    "published": "What others have published",
}
LEVEL = 0.05  # at most so often does a claim hold of which nothing is true


class Verdict(StrEnum):
    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Part:
    """An effect with its interval, on one workload or of one setting; NaN where it has none.

    Effects are positive, or, as ratios, above 1, where they speak for the claim.
    """

    name: str
    estimate: float
    low: float
    high: float


@dataclass(kw_only=True)
class Claim:
    """
    Attributes:
        statement: in a sentence; ``source``: who says so.
        group: under which heading a page has it.
        study: the directory of runs, below the others'; claims may share it.
        sweeps: what is typed after ``python -m bench -m`` for it, each a command.
        measure: a function of `bench.claims.measures` or `bench.claims.published` where there are
            sweeps, else of `direct`, `functions`, `losses` or `published`, which is given ``of``.
        effect: what is measured, in words.
        unit: of it; ``times`` for a ratio, of which 1 is nothing.
        smallest: the least effect that matters.
        within: in place of it: where the effect is to lie, ends included.
        need: whether all parts must hold, or any of them.
        minutes: what it takes on two cores, about.
        not_shown: what the experiment cannot tell.
    """

    name: str = MISSING
    statement: str = MISSING
    source: str = MISSING
    group: str = MISSING
    study: str = ""
    sweeps: list[str] = field(default_factory=list)
    measure: str = MISSING
    of: dict[str, Any] = field(default_factory=dict)
    effect: str = MISSING
    unit: str = MISSING
    smallest: Optional[float] = None  # noqa: UP045 - OmegaConf reads this form
    within: Optional[list[float]] = None  # noqa: UP045
    need: str = "all"
    minutes: float = MISSING
    not_shown: str = MISSING

    @property
    def nothing(self) -> float:
        """The effect of no effect."""
        return 1.0 if self.unit == "times" else 0.0

    def judge(self, part: Part) -> Verdict:
        """By its interval: of what lies within bounds, whether all of it does, or none. Else it
        *holds* where the effect is clearly there, and at least as large as what matters; *fails*
        where it is not clearly there, and clearly smaller than that. A clear effect that is too
        small to matter is undecided."""
        if self.within is not None:
            low, high = self.within
            if low <= part.low and part.high <= high:
                return Verdict.HOLDS
            return Verdict.FAILS if part.high < low or part.low > high else Verdict.UNDECIDED
        assert self.smallest is not None
        if part.low > self.nothing:
            return Verdict.HOLDS if part.estimate >= self.smallest else Verdict.UNDECIDED
        return Verdict.FAILS if part.high < self.smallest else Verdict.UNDECIDED

    def verdict(self, parts: Sequence[Part]) -> Verdict:
        """Of all parts: where all are needed, one that fails decides, and so does one that holds
        where any will do."""
        found = [self.judge(part) for part in parts]
        decisive, other = Verdict.FAILS, Verdict.HOLDS
        if self.need == "any":
            decisive, other = other, decisive
        if not found:
            return Verdict.UNDECIDED
        if decisive in found:
            return decisive
        return other if all(verdict == other for verdict in found) else Verdict.UNDECIDED

    def confidence(self, parts: int) -> float:
        """Of the interval of each part. Where any of them may decide, the level is shared among
        them (Bonferroni); where all must hold, each is tested at the whole of it (Berger 1982)."""
        return 1 - LEVEL / max(parts, 1) if self.need == "any" else 1 - LEVEL

    def check(self) -> None:
        """
        Raises:
            BenchError: values that no type can refuse.
        """
        if (self.smallest is None) == (self.within is None):
            raise BenchError(f"claim {self.name}: needs either smallest or within")
        if self.smallest is not None and not (isfinite(self.smallest) > 0):
            raise BenchError(f"claim {self.name}: smallest={self.smallest} is not finite")
        if self.smallest is not None and self.smallest <= self.nothing:
            raise BenchError(f"claim {self.name}: smallest={self.smallest}: more than no effect")
        if self.within is not None and not (
            len(self.within) == 2 and self.within[0] < self.within[1]
        ):
            raise BenchError(
                f"claim {self.name}: within={self.within}: the lower end and the upper"
            )
        if self.group not in GROUPS:
            raise BenchError(f"claim {self.name}: group={self.group}: {' or '.join(GROUPS)}")
        if self.need not in ("all", "any"):
            raise BenchError(f"claim {self.name}: need={self.need}: all or any")


def load(name: str, where: Path = WHERE) -> Claim:
    """
    Raises:
        BenchError: there is no such claim, or its file is none.
    """
    path = where / f"{name}.yaml"
    if not path.is_file():
        raise BenchError(f"no claim {name!r}; there are {', '.join(names(where))}")
    try:
        given = OmegaConf.merge(OmegaConf.structured(Claim), OmegaConf.load(path), {"name": name})
        claim = OmegaConf.to_object(given)
    except (OmegaConfBaseException, YAMLError, OSError) as error:
        raise BenchError(f"{path}: {str(error).splitlines()[0]}") from error
    assert isinstance(claim, Claim)
    claim.study = claim.study or name
    claim.check()
    return claim


def names(where: Path = WHERE) -> list[str]:
    return sorted(path.stem for path in where.glob("*.yaml"))


def in_groups(claims: Iterable[Claim]) -> list[Claim]:
    """In the order of `GROUPS`, and of their names within each."""
    order = list(GROUPS)
    return sorted(claims, key=lambda claim: (order.index(claim.group), claim.name))


def all_claims(where: Path = WHERE) -> Mapping[str, Claim]:
    return {name: load(name, where) for name in names(where)}
