"""`python -m bench.theory runs/<study>`: do runs on a quadratic converge as fast as theory says?

The rate of a run is measured from its curve `val/distance`, and computed from the eigenvalues.
No torch: the curves are read, nothing is trained.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table

    from bench.landscape.theory import Measured
    from bench.study import Study

CURVE = "val/distance"
# Squares of distances are still numbers of the dtype's range, with room.
FLOORS = {"64-true": 1e-100, "32-true": 1e-12}


@dataclass(frozen=True)
class Held:
    """A run against theory."""

    run: str
    optimizer: str
    condition: float
    options: Mapping[str, Any]
    predicted: float
    measured: Measured | None

    @property
    def gap(self) -> float | None:
        """By how much `1 - rate` differs, as a share of what theory says."""
        if self.measured is None or self.predicted == 1:
            return None
        return (1 - self.measured.rate) / (1 - self.predicted) - 1


def held(study: Study) -> tuple[list[Held], list[str]]:
    """Each run that theory knows of, and a line for each other one."""
    from bench import records
    from bench import study as studies
    from bench.landscape import theory

    found, problems = [], list(study.problems)
    for label, directory in study.runs["directory"].items():
        config = records.read(study.directory / str(directory) / records.FILE_NAME).config
        try:
            eigenvalues = spectrum(config)
        except BenchError as error:
            problems.append(f"{directory}: {error}")
            continue
        options = config["optimizer"]
        curve, why_not = studies.read_curves(study, study.runs.loc[[label]])
        problems += why_not
        measured = None
        if CURVE in curve:
            curve = curve.dropna(subset=[CURVE])
            floor = FLOORS[config["trainer"]["precision"]]
            measured = theory.measure(curve["step"], curve[CURVE], floor=floor)
        found.append(
            Held(
                run=str(directory),
                optimizer=options["name"],
                condition=float(eigenvalues.max() / eigenvalues.min()),
                options={key: options[key] for key in ("lr", "momentum") if key in options},
                predicted=theory.rate(options["name"], options, eigenvalues),
                measured=measured,
            )
        )
    return sorted(found, key=lambda h: (h.optimizer, h.condition)), problems


def spectrum(config: Mapping[str, Any]) -> NDArray[Any]:
    """The eigenvalues of the quadratic that a run went down.

    Raises:
        BenchError: theory says nothing of such a run.
    """
    import numpy as np

    from bench.landscape import theory
    from bench.settings.workloads import workload_of
    from bench.workloads.functions import Quadratic

    workload, options = workload_of(config), config["optimizer"]
    refusals = {
        "workload": (workload.name, isinstance(workload, Quadratic), "quadratic"),
        "workload.sigma": (getattr(workload, "sigma", 0), getattr(workload, "sigma", 0) == 0, "0"),
        "optimizer": (options["name"], options["name"] in theory.LINEAR, ", ".join(theory.LINEAR)),
        "optimizer.clip_norm": (options.get("clip_norm"), not options.get("clip_norm"), "null"),
        "schedule": (config["schedule"]["name"], is_constant(config["schedule"]), "constant"),
        "trainer.precision": (
            config["trainer"]["precision"],
            config["trainer"]["precision"] in FLOORS,
            ", ".join(FLOORS),
        ),
    }
    for key, (value, accepted, wanted) in refusals.items():
        if not accepted:
            raise BenchError(f"{key}={value}: theory is of {wanted}")
    assert isinstance(workload, Quadratic)
    return np.geomspace(*workload.curvature(), workload.dimension)


def is_constant(schedule: Mapping[str, Any]) -> bool:
    return bool(schedule["name"] == "constant" and not schedule.get("warmup_steps"))


def table(rows: Sequence[Held]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = "The share of its distance that a step leaves"
    columns = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    columns.add_column("optimizer", no_wrap=True)
    for head in ("κ", "lr", "momentum", "theory", "measured", "1 - rate", "steps"):
        columns.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        columns.add_row(row.optimizer, f"{row.condition:.5g}", *cells(row))
    return columns


def cells(row: Held) -> Iterator[str]:
    yield f"{row.options['lr']:.4g}"
    yield f"{row.options['momentum']:.4g}" if "momentum" in row.options else ""
    yield f"{row.predicted:.6f}"
    if row.measured is None:
        yield from ("", "", "")
        return
    yield f"{row.measured.rate:.6f}"
    yield "" if row.gap is None else f"{row.gap:+.2%}"
    yield f"{row.measured.first}-{row.measured.last}"


def main(arguments: list[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m bench.theory",
        description="Holds runs of descent, momentum and Nesterov on `quadratic` against the rate "
        "that follows from the eigenvalues, where the learning rate is constant and nothing noisy. "
        "Of 1 - rate, which is what is left to gain, it says by how much the runs are off.",
        epilog="python -m bench experiment=theory makes runs at the settings that are best.",
    )
    parser.add_argument(
        "directory", type=Path, metavar="STUDY", help="a study's directory, such as runs/theory"
    )
    parser.add_argument(
        "--within",
        type=float,
        metavar="SHARE",
        help="exit with 1 if 1 - rate of a run differs by more than this share, such as 0.02",
    )
    options = parser.parse_args(arguments)

    from rich.console import Console

    from bench import letters, study

    letters.never_fail()
    try:
        rows, problems = held(study.read(options.directory))
        for problem in problems:
            print(f"skipped: {problem}", file=sys.stderr)
        if not rows:
            raise BenchError(f"{options.directory}: holds no run that theory knows of")
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Console().print(table(rows))
    if options.within is None:
        return 0
    off = [row for row in rows if row.gap is None or abs(row.gap) > options.within]
    for row in off:
        said = "cannot be measured" if row.gap is None else f"is off by {row.gap:+.2%}"
        print(f"{row.run}: {said}", file=sys.stderr)
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
