"""`python -m bench.curvature`: how the training loss curves where runs ended, or along their way.

No torch at the top: help comes at once.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import letters, records
from bench.command_line import PLUGINS
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.landscape.curvature import Curvature
    from bench.records import Record

FILE_NAME = "curvature.json"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    letters.never_fail()
    try:
        if options.along:
            return _along(options.directories)
        return _at_the_end(options)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> ArgumentParser:
    arguments = ArgumentParser(
        prog="python -m bench.curvature",
        description="Measures the Hessian of the training loss where runs ended: its largest and "
        "smallest eigenvalue, trace, the gradient noise scale, whether steps are at the edge of "
        f"stability. Leaves {FILE_NAME} beside each record. In float64, on the CPU, on some of the "
        "training examples, without dropout.",
    )
    arguments.add_argument(
        "directories",
        nargs="+",
        type=Path,
        metavar="directory",
        help="a run's directory, or a study's, or any between",
    )
    at_least = {"examples": 1, "eigenvalues": 1, "probes": 2, "coordinates": 2, "seed": 0}
    told = {
        "examples": "of the training split, drawn by the seed (1000)",
        "eigenvalues": "how many of each end (1)",
        "probes": "that the trace is estimated with (100)",
        "coordinates": "entries of the Hessian's diagonal, for correlations (500)",
        "seed": "of whatever is drawn (0)",
    }
    for name, least in at_least.items():
        arguments.add_argument(f"--{name}", type=whole(least), metavar="N", help=told[name])
    arguments.add_argument(
        "--along",
        action="store_true",
        help="measure nothing: draw what trainer.curvature has logged along training, beside 2/lr, "
        "to curvature.png, .svg and .pdf in each directory",
    )
    return arguments


def whole(least: int) -> Any:
    """The type of an argument: a whole number, at least so large."""

    def number(given: str) -> int:
        value = int(given)
        if value < least:
            raise ValueError
        return value

    number.__name__ = f"whole number from {least}"
    return number


def _at_the_end(options: Namespace) -> int:
    from rich.console import Console

    from bench.landscape import summary
    from bench.landscape.curvature import Options, measure

    said = {
        name: value
        for name, value in vars(options).items()
        if name not in ("directories", "along") and value is not None
    }
    runs = [run for given in options.directories for run in runs_in(given)]
    found: list[tuple[Record, Curvature]] = []
    progress = Console(stderr=True)
    with progress.status("", spinner="dots") as status:
        for n, run in enumerate(runs, 1):
            status.update(f"{n} of {len(runs)}: {run}")
            try:
                result = measure(run, Options(**said))
            except BenchError as error:
                if run in options.directories:
                    raise
                print(f"skipped: {error}", file=sys.stderr)
                continue
            write(run, asdict(result[1]))
            found.append(result)
    if not found:
        raise BenchError(f"{options.directories[0]}: none of its runs could be measured")
    summary.show(found, Console())
    where = runs[0] if len(runs) == 1 else "each run's directory"
    print(f"values   {FILE_NAME} in {where}")
    return 0


def runs_in(directory: Path) -> list[Path]:
    """Those that have a record, in the order of their names.

    Raises:
        BenchError: there is none.
    """
    from bench.study import find_runs

    if (directory / records.FILE_NAME).is_file():
        return [directory]
    found, _ = find_runs(directory)
    if not found:
        raise BenchError(
            f"{directory}: no run that has ended (no {records.FILE_NAME}); give one such as "
            "runs/default/mnist_mlp/adam/lr=0.001,seed=0, or a study such as runs/default"
        )
    return sorted(found)


def write(directory: Path, content: dict[str, Any], name: str = FILE_NAME) -> Path:
    """Whole or not at all; what is no finite number is null.

    Raises:
        BenchError: it cannot be written.
    """
    path, aside = directory / name, directory / f".{name}.partial"
    text = json.dumps(records.finite(content), indent=1, allow_nan=False)
    try:
        aside.write_text(text + "\n", encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise BenchError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def _along(directories: Sequence[Path]) -> int:
    from bench.landscape.progress import draw

    for directory in directories:
        drawn = draw(runs_in(directory), directory)
        for line in drawn.lines:
            print(line)
        print(f"figure   {drawn.path}")
    return 0


if __name__ == "__main__":
    sys.path.append(str(PLUGINS))
    sys.exit(main())
