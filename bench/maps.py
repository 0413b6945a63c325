"""``python -m bench.maps``: where thousands of runs on a function end, over the start or over two
hyperparameters.

No torch at the top: help comes at once.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.landscape.axes import Axis
    from bench.landscape.maps import Map

STUDY = "maps"
NOT_OF_A_MAP = ("trainer", "experiment", "diagnostics", "hydra")
MOST_RUNS = 2**20


def parser() -> ArgumentParser:
    found = ArgumentParser(
        prog="python -m bench.maps",
        description="Trains thousands of runs on a function as one stack, and draws where they "
        "end: the value there, and which minimum that is. Over the start, or with --over over two "
        "hyperparameters.",
        epilog="For instance: python -m bench.maps workload=himmelblau optimizer=adam "
        "optimizer.lr=0.1; python -m bench.maps workload=ravine optimizer=momentum "
        "--over lr 1e-3 1 --over momentum 0 0.99.",
    )
    found.add_argument(
        "overrides", nargs="*", metavar="key=value", help="of workload, optimizer, schedule, seed"
    )
    found.add_argument("--grid", type=int, default=64, metavar="N", help="N x N runs (%(default)s)")
    found.add_argument("--steps", type=int, default=500, metavar="N", help="of each (%(default)s)")
    for name in ("x", "y"):
        found.add_argument(
            f"--{name}", nargs=2, type=float, metavar=("LOW", "HIGH"),
            help=f"of the start's {name} (default: around the usual start and the minima)",
        )  # fmt: skip
    found.add_argument(
        "--over", nargs=3, action="append", default=[], metavar=("NAME", "LOW", "HIGH"),
        help="two of them: numbers of the optimizer, in place of the start",
    )  # fmt: skip
    found.add_argument(
        "--output", type=Path, metavar="DIR",
        help="where to write (default: runs/maps/<workload>/<optimizer>/...)",
    )  # fmt: skip
    return found


def main(arguments: list[str] | None = None) -> int:
    said = parser().parse_intermixed_args(arguments)
    from bench import api

    try:
        _check(said)
        with api.as_a_command():
            _carry_out(said)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def _check(said: Namespace) -> None:
    """
    Raises:
        BenchError: flags that do not go together, or keys that a map has no use for.
    """
    if len(said.over) not in (0, 2):
        raise BenchError(f"--over: given {len(said.over)} times; a map is over two, or the start")
    if said.over and (said.x or said.y):
        raise BenchError("--x, --y: of a map over the start; leave out --over")
    if said.grid < 2 or said.grid**2 > MOST_RUNS:
        raise BenchError(f"--grid {said.grid}: must be from 2 to {int(MOST_RUNS**0.5)}")
    if said.steps < 1:
        raise BenchError(f"--steps {said.steps}: must be at least 1")
    for override in said.overrides:
        if override.lstrip("+~").partition("=")[0].partition(".")[0] in NOT_OF_A_MAP:
            raise BenchError(f"{override}: not of a map, whose length is --steps")


def _carry_out(said: Namespace) -> None:
    from hydra.core.hydra_config import HydraConfig

    from bench.command_line import carry_out, read
    from bench.settings import jobs

    def task(composed: Any) -> None:
        job = jobs.plan(composed, jobs.plain_hydra(HydraConfig.get()))
        began = time.perf_counter()
        from bench.landscape import maps

        maps.check(job.config, [name for name, *_ in said.over] or ["x", "y"])
        axes = _axes(said, job.config)
        over = "-".join(axis.name for axis in axes)
        directory = said.output or job.directory.with_name(f"{job.directory.name},over={over}")
        found = _made(job.config, axes, said.steps)
        _write(found, job.config, directory)
        _tell(found, directory, time.perf_counter() - began)

    length = [f"trainer.max_steps={said.steps}", "trainer.max_epochs=null"]
    words = read(["--run", f"study={STUDY}", *said.overrides, *length])
    words.typed = list(said.overrides)
    carry_out(words, task)


def _axes(said: Namespace, config: Mapping[str, Any]) -> tuple[Axis, Axis]:
    import numpy as np

    from bench.landscape.axes import Axis, around
    from bench.landscape.maps import function_of

    if said.over:
        try:
            limits = {name: (float(low), float(high)) for name, low, high in said.over}
        except ValueError as error:
            raise BenchError(f"--over: {error}; give a name and two numbers") from error
        if len(limits) == 1:
            raise BenchError(f"--over {said.over[0][0]}: given twice; a map is over two")
        x, y = (Axis.of(name, low, high, said.grid) for name, (low, high) in limits.items())
        return x, y
    function = function_of(config)
    usual = around(np.array([*function.minima(), function.starting_point()]))
    (left, right), (bottom, top) = (said.x or usual[0], said.y or usual[1])
    return Axis.of("x", left, right, said.grid), Axis.of("y", bottom, top, said.grid)


def _made(config: Mapping[str, Any], axes: tuple[Axis, Axis], steps: int) -> Map:
    from rich.console import Console
    from rich.progress import Progress

    from bench.landscape import maps

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"{axes[0].values.size * axes[1].values.size:,} runs", total=steps)
        return maps.make(config, axes, lambda done: progress.update(bar, completed=done))


def _write(found: Map, config: Mapping[str, Any], directory: Path) -> None:
    """
    Raises:
        BenchError: the directory cannot be written.
    """
    import numpy as np

    from bench.landscape import map_figures

    title = f"{config['workload']['name']}, {config['optimizer']['name']}, {found.steps:,} steps"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(directory / "map.npz", **found.arrays)
        map_figures.draw(
            found.axes, found.value, found.minimum, found.minima, title=title, directory=directory
        )
    except OSError as error:
        raise BenchError(f"{directory}: cannot be written ({error.strerror})") from error


def _tell(found: Map, directory: Path, seconds: float) -> None:
    runs = found.value.size
    for line in _ends(found):
        print(line)
    steps = runs * found.steps
    print(
        f"{runs:,} runs of {found.steps:,} steps: {steps:,} in {found.seconds:.2f} s, "
        f"{steps / found.seconds / 1e6:.1f} million a second; {seconds:.1f} s with the figures"
    )
    print(f"map      {directory}")


def _ends(found: Map) -> Sequence[str]:
    from bench.landscape.axes import DIVERGED, NOT_REACHED
    from bench.landscape.map_figures import said

    if found.minimum is None:
        return []
    names = {NOT_REACHED: "reached none", DIVERGED: "diverged"}
    names |= {i: f"reached {said(point)}" for i, point in enumerate(found.minima)}
    counts = {name: int((found.minimum == i).sum()) for i, name in names.items()}
    return [f"{name}: {count:,}" for name, count in counts.items() if count]


if __name__ == "__main__":
    sys.exit(main())
