"""Makes what a claim needs, once: its runs, and what is measured of them."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import Any

from bench import study as studies
from bench.claims import measures, published
from bench.claims.claim import WHERE, Claim, Part, Verdict
from bench.claims.measured import Line, Measured, Picture
from bench.errors import BenchError
from bench.study import Study

MEASURED = ".measured"
MEASURING = ("measured", "measures", "direct", "functions", "losses", "published")


@dataclass(frozen=True)
class Judged:
    """
    Attributes:
        seconds: of computing, added up over runs that other claims may have used, too.
        again: whether it was measured before.
    """

    claim: Claim
    measured: Measured
    seconds: float
    again: bool = False

    @property
    def verdict(self) -> Verdict:
        return self.claim.verdict(self.measured.parts)


def judged(claim: Claim, place: Path) -> Judged:
    """With its runs below ``place``. What was measured before by the same text of the claim and of
    the measures is taken as it was.

    Raises:
        BenchError: runs cannot be made, or do not tell what is asked.
    """
    path, key = place / MEASURED / f"{claim.name}.json", _key(claim)
    if (found := _read(path, key)) is not None:
        return Judged(claim, *found, again=True)
    started = time.perf_counter()
    measured, seconds = _measured(claim, place)
    seconds += time.perf_counter() - started if not claim.sweeps else 0
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    content = {"key": key, "seconds": seconds, "measured": asdict(measured)}
    partial.write_text(json.dumps(_no_nan(content), indent=1), encoding="utf-8")
    os.replace(partial, path)
    return Judged(claim, measured, seconds)


def is_measured(claim: Claim, place: Path) -> bool:
    return _read(place / MEASURED / f"{claim.name}.json", _key(claim)) is not None


def function_of(claim: Claim) -> Callable[..., Measured]:
    """What measures it, of a study where there are sweeps.

    Raises:
        BenchError: there is no such measure.
    """
    known: dict[str, Callable[..., Measured]]
    if claim.sweeps:
        known = {**measures.MEASURES, **published.OF_RUNS}
    else:
        from bench.claims import direct, functions, losses

        known = {**direct.DIRECT, **functions.FUNCTIONS, **losses.LOSSES, **published.OF_NUMBERS}
    if claim.measure not in known:
        of = "runs" if claim.sweeps else "no runs"
        raise BenchError(
            f"claim {claim.name}: no measure {claim.measure!r} of {of}; there are "
            f"{', '.join(known)}"
        )
    return known[claim.measure]


def _measured(claim: Claim, place: Path) -> tuple[Measured, float]:
    function = function_of(claim)
    if claim.sweeps:
        study = _runs(claim, place)
        of_study = lambda confidence: function(study, confidence, **claim.of)  # noqa: E731
        return _at_its_level(claim, of_study), _computing(study)
    from bench.claims import direct

    with direct.prepared():
        return _at_its_level(claim, lambda confidence: function(confidence, **claim.of)), 0.0


def _at_its_level(claim: Claim, measure: Callable[[float], Measured]) -> Measured:
    found = measure(claim.confidence(1))
    level = claim.confidence(len(found.parts))
    return found if level == claim.confidence(1) else measure(level)


def _runs(claim: Claim, place: Path) -> Study:
    from bench import api

    for sweep in claim.sweeps:
        api.sweep(*shlex.split(sweep), f"runs_dir={place}", f"study={claim.study}")
    study = studies.read(place / claim.study)
    if study.problems:
        raise BenchError(study.problems[0])
    return study


def _computing(study: Study) -> float:
    together = study.runs["timing/runs_together"].fillna(1).clip(lower=1)
    return float((study.runs["timing/total_seconds"] / together).sum())


def _key(claim: Claim) -> str:
    here = Path(__file__).parent
    texts = [WHERE / f"{claim.name}.yaml", *(here / f"{name}.py" for name in MEASURING)]
    digest = hashlib.sha256()
    for path in texts:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _read(path: Path, key: str) -> tuple[Measured, float] | None:
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["key"] != key:
            return None
        told = content["measured"]
        parts = [
            Part(part["name"], *(_number(part[k]) for k in ("estimate", "low", "high")))
            for part in told["parts"]
        ]
        pictures = [
            Picture(**picture | {"lines": [Line(**line) for line in picture["lines"]]})
            for picture in told["pictures"]
        ]
        return Measured(parts, pictures, told["note"]), float(content["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is measured again


def _number(value: Any) -> float:
    return nan if value is None else float(value)


def _no_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _no_nan(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_no_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
