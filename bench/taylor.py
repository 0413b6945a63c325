"""`python -m bench.taylor workload=mnist_mlp`: how far derivatives foretell a loss.

No torch at the top: help comes at once.
"""

from __future__ import annotations

import csv
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.command_line import CONF, PLUGINS
from bench.errors import BenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from bench.landscape.objective import Objective
    from bench.landscape.taylor import Way

EXAMPLES = 100
FILE = "taylor"
COLOURS = {"gradient": "sgd", "momentum": "momentum", "adam": "adam"}
COLUMNS = ("direction", "length", "real", "first_order", "second_order")


def at_the_start(overrides: Sequence[str], examples: int) -> tuple[str, Objective, int]:
    """A workload's loss where a run of these overrides would begin: its name, the loss on its
    first examples, and how many make a batch.

    Raises:
        BenchError: there is no such run.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from bench.settings import schema
    from bench.settings.messages import explain
    from bench.settings.workloads import workload_of
    from bench.workloads.models import drawn

    sys.path.append(str(PLUGINS))
    schema.register()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = schema.validate(compose("config", list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise BenchError(explain(error)) from error
    workload = workload_of(config)
    workload.check()
    return _objective(workload, lambda: drawn(workload, config["seed"]), examples)


def at_the_end(run: Path, examples: int) -> tuple[str, Objective, int]:
    """The same where a run has ended.

    Raises:
        BenchError: it has not, or has left no weights.
    """
    from bench.trained import finished

    _, workload, model = finished(run, scored=False)
    return _objective(workload, lambda: model, examples)


def _objective(workload: Any, make: Any, examples: int) -> tuple[str, Objective, int]:
    import torch

    from bench.landscape.objective import Objective
    from bench.workloads.models import loaded
    from bench.workloads.workload import Place

    loaded(workload, Place(torch.device("cpu"), torch.float64))
    index = torch.arange(min(examples, workload.train_size))
    batch = workload.batch_size
    size = int(batch) if batch != "full" else workload.train_size
    return workload.name, Objective(workload, make().double(), index), size


def table(name: str, ways: Sequence[Way]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = f"How far derivatives foretell the loss of {name}, within 10 %"
    columns = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    columns.add_column("direction", no_wrap=True)
    for head in ("slope", "curvature", "1st order", "2nd order", "its step", "remainders"):
        columns.add_column(head, justify="right", no_wrap=True)
    for way in ways:
        columns.add_row(way.name, *cells(way))
    return columns


def cells(way: Way) -> Iterator[str]:
    yield f"{way.slope:.3g}"
    yield f"{way.curvature:.3g}"
    for radius in (way.first_radius, way.second_radius):
        if radius is None:
            yield f"> {way.lengths[-1]:.2g}"
        else:
            yield f"{radius:.3g}" if radius else f"< {way.lengths[0]:.2g}"
    yield f"{way.step:.3g}"
    orders = (way.first_order, way.second_order)
    yield ", ".join("-" if order is None else f"{order:.2f}" for order in orders)


def draw(name: str, ways: Sequence[Way]) -> Figure:
    """The real decrease over the one that was foretold, against the length of the step."""
    import numpy as np

    from bench.report.style import GRID, HEIGHT, INK, LOOKS, MUTED, SPARE, WIDTH
    from bench.report.style import figure as empty

    drawing = empty(extra_height=HEIGHT)
    drawing.set_size_inches(1.6 * WIDTH, 1.6 * HEIGHT)
    panels = drawing.subplots(2, 2, sharey=True).flat
    for panel, way in zip(panels, ways, strict=True):
        look = LOOKS[COLOURS[way.name]] if way.name in COLOURS else SPARE[0]
        panel.axhspan(0.9, 1.1, color=GRID)
        panel.axvline(way.step, color=MUTED, linewidth=0.8, linestyle=":")
        for foretold, dash, label in ((way.first, "-", "first"), (way.second, "--", "second")):
            share = np.divide(
                way.real, foretold, out=np.full_like(foretold, np.nan), where=foretold != 0
            )
            panel.plot(way.lengths, share, dash, color=look.colour, label=f"{label} order")
        if way.first_radius:
            panel.plot([way.first_radius], [1], "o", color=INK, markersize=4)
        panel.set(xscale="log", ylim=(-0.5, 2), title=way.name)
        panel.legend(fontsize=8, frameon=False, loc="lower left")
    drawing.supxlabel("length of the step (dotted: the optimizer's own)", fontsize=10)
    drawing.supylabel("real decrease over foretold", fontsize=10)
    drawing.suptitle(name, fontsize=11)
    return drawing


def write(name: str, ways: Sequence[Way], directory: Path) -> None:
    """The figure, and every value in it."""
    import matplotlib as mpl

    from bench.report.style import RC, save

    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{FILE}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for way in ways:
            values = (way.lengths, way.real, way.first, way.second)
            for row in zip(*values, strict=True):
                writer.writerow([way.name, *(f"{value:.10g}" for value in row)])
    with mpl.rc_context(RC):
        save(draw(name, ways), directory / f"{FILE}.svg", title=f"Taylor's circle: {name}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m bench.taylor",
        description="Compares the decrease of the loss that the gradient, and the Hessian with it, "
        "foretell with the real one, as the step grows: along the gradient, along the steps that "
        "momentum and Adam take after 20 batches at this point, and along Newton's, by conjugate "
        "gradients, damped. In float64, on some training examples, without dropout.",
        epilog="The radius is where what is foretold is off by a tenth of itself; remainders are "
        "the powers of the step's length that they are measured to fall with.",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="as of python -m bench: workload=..."
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="where this run has ended, not where one begins"
    )
    parser.add_argument(
        "--examples", type=int, default=EXAMPLES, metavar="N", help=f"default: {EXAMPLES}"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="for taylor.svg, .png, .pdf and .csv (default: runs/taylor/<workload>, or the run's)",
    )
    options = parser.parse_intermixed_args(arguments)
    if options.examples < 1:
        parser.error(f"--examples={options.examples}: must be at least 1")
    if options.run is not None and options.overrides:
        parser.error("--run: has its own configuration; leave the overrides out")

    from rich.console import Console

    from bench import letters

    letters.never_fail()
    try:
        if options.run is not None:
            name, objective, batch = at_the_end(options.run, options.examples)
        else:
            name, objective, batch = at_the_start(options.overrides, options.examples)
        from bench.landscape.taylor import ways

        found = list(ways(objective, batch))
        output = options.output or options.run or Path("runs", "taylor", name)
        write(name, found, output)
    except (BenchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Console().print(table(name, found))
    for way in found:
        if way.remark:
            print(f"{way.name}: {way.remark}")
    print(f"figure   {output / FILE}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
