"""What others have published, beside ours: deviations over the tolerance, so that 1 is its end.

They come from one run, or from arithmetic, and have no interval: its ends are the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.analysis import selection
from bench.analysis.profiles import integrated_profile, performance_profile, performance_ratios
from bench.claims.claim import Part
from bench.claims.measured import Measured
from bench.errors import BenchError
from bench.study import Study


def metric_at_end(
    study: Study, confidence: float, *, expected: Mapping[str, Sequence[float]], at: str = ""
) -> Measured:
    """The test metric of runs.

    Args:
        expected: by optimizer, or ``"optimizer value"`` of the column ``at``: what was published,
            and the tolerance.
    """
    parts = []
    for name, (published, tolerance) in expected.items():
        optimizer, _, value = name.partition(" ")
        runs = study.runs[study.runs["optimizer"] == optimizer]
        if at:
            runs = runs[runs[at] == float(value)]
        if len(runs) != 1:
            raise BenchError(f"{study.directory}: {len(runs)} runs of {name}, not one")
        found = float(selection.score(runs, "test").iloc[0])
        shown = f"{optimizer}, {at} {value}" if at else optimizer
        parts.append(
            _exact(f"{shown}: {found:.4g}, published {published:g}", found, published, tolerance)
        )
    return Measured(parts)


def profile_scores(
    confidence: float,
    *,
    seconds: Mapping[str, Sequence[float]],
    expected: Mapping[str, float],
    tolerance: float,
    points: int = 100,
) -> Measured:
    """Scores of AlgoPerf from times to targets.

    Args:
        seconds: by workload, of each of `expected`; what is never reached is infinite.
        expected: the published score of each submission.
        points: of the profile, at which it was integrated.
    """
    ratios = performance_ratios(np.array(list(seconds.values()), dtype=float))
    taus = np.linspace(1, 4, points)
    areas = np.trapezoid(performance_profile(ratios, taus), taus, axis=0) / 3
    exact = integrated_profile(ratios)
    parts = [
        _exact(f"{name}: {ours:.4f}, published {theirs:.4f}", ours, theirs, tolerance)
        for (name, theirs), ours in zip(expected.items(), areas, strict=True)
    ]
    told = " and ".join(
        f"{score:.4f} ({name})" for name, score in zip(expected, exact, strict=True)
    )
    return Measured(parts, note=f"Integrated exactly, the scores are {told}.")


OF_RUNS: Mapping[str, Callable[..., Measured]] = {"metric_at_end": metric_at_end}
OF_NUMBERS: Mapping[str, Callable[..., Measured]] = {"profile_scores": profile_scores}


def _exact(name: str, found: float, published: float, tolerance: float) -> Part:
    return Part(name, *[(float(found) - published) / tolerance] * 3)
