"""`python -m bench.slices`: the loss along directions through a run, and from one run to another.

No torch at the top: help comes at once.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import letters
from bench.command_line import PLUGINS
from bench.curvature import whole, write
from bench.errors import BenchError

FILE_NAME = "slices.json"


def parser() -> ArgumentParser:
    arguments = ArgumentParser(
        prog="python -m bench.slices",
        description="Evaluates loss and metrics on straight lines through the weights that a run "
        "ended with: along a random direction, normalised by filters (Li et al. 2018), in the "
        "plane of two, and, given two runs, from the one to the other. Leaves figures and "
        f"{FILE_NAME}.",
    )
    arguments.add_argument("run", type=Path, help="a run's directory")
    arguments.add_argument("other", type=Path, nargs="?", help="another's, of the same workload")
    arguments.add_argument(
        "--examples", type=whole(1), default=1000, metavar="N", help="of each split (1000)"
    )
    arguments.add_argument(
        "--points", type=whole(2), default=41, metavar="N", help="on a line, from -1 to 1 (41)"
    )
    arguments.add_argument(
        "--grid", type=whole(2), default=21, metavar="N", help="on a side of the plane (21)"
    )
    arguments.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="of directions and examples (0)"
    )
    arguments.add_argument(
        "--output", type=Path, help="where to (default: slices in the directory of the first run)"
    )
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    letters.never_fail()
    try:
        _slices(options)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _slices(options: Namespace) -> None:
    import matplotlib as mpl
    import numpy as np

    from bench.landscape import slice_figures as figures
    from bench.landscape import slices
    from bench.metrics import Metric
    from bench.report import style, text

    said = {"examples": options.examples, "seed": options.seed}
    one = slices.Solution.of(options.run, **said)
    workload = one.objectives["train"].workload
    loss = Metric("loss", workload.loss_unit)
    metrics = {"loss": loss} | {workload.metric.name: workload.metric}
    content: dict[str, Any] = {
        "schema": 1,
        "id": one.record.id,
        **said,
        "train_examples": one.objectives["train"].count,
    }
    x, y = (slices.direction(one.objectives["train"], 2 * options.seed + n) for n in (0, 1))
    places = np.linspace(-1, 1, options.points)
    grid = np.linspace(-1, 1, options.grid)
    drawn = {}
    lines = []
    with mpl.rc_context(style.RC):
        if options.other is not None:
            other = slices.Solution.of(options.other, **said)
            way = np.linspace(-0.25, 1.25, 3 * (options.points - 1) // 2 + 1)
            way = np.unique(np.append(way, [0.0, 1.0]))
            values = slices.between(one, other, way)
            content |= {"other": other.record.id, "between": _plain(way, values)}
            ends = f"0: {name_of(one.record)}\n1: {name_of(other.record)}"
            drawn["between"] = figures.lines(way, values, metrics, x=ends, marked=(0, 1))
            for split in one.objectives:
                most, at = slices.barrier(way, values[f"{split}/loss"])
                lines.append(
                    f"from one run to the other the {figures.SPLITS[split]} loss exceeds the "
                    f"straight line between its ends by {text.number(most)} at most, at "
                    f"{text.number(at)}"
                )
        values = slices.line(one, x, places)
        content["line"] = _plain(places, values)
        drawn["line"] = figures.lines(
            places, values, metrics, x="multiple of a random direction", marked=(0,)
        )
        lines += [_least(places, values["train/loss"], text.number)]
        surface = slices.plane(one, x, y, grid)
        content["plane"] = _plain(grid, surface)
        drawn["plane"] = figures.plane(grid, surface["train/loss"], loss)
        output = options.output or options.run / "slices"
        try:
            output.mkdir(parents=True, exist_ok=True)
            for name, drawing in drawn.items():
                style.save(drawing, output / f"{name}.png", title=name)
        except OSError as error:
            raise BenchError(f"{output}: cannot be written ({error.strerror})") from error
    write(output, content, FILE_NAME)
    for line in lines:
        print(line)
    print(f"figures  {', '.join(f'{name}.png' for name in drawn)} in {output}")
    print(f"values   {output / FILE_NAME}")


def name_of(record: Any) -> str:
    from bench.report import style

    lr = record.config["optimizer"].get("lr")
    said = f"{record.optimizer}{'' if lr is None else f' lr {lr:g}'}, seed {record.seed}"
    return style.words(said)


def _plain(places: Any, values: Any) -> dict[str, Any]:
    return {"at": places.tolist(), **{name: x.tolist() for name, x in values.items()}}


def _least(places: Any, losses: Any, number: Any) -> str:
    least, middle = int(losses.argmin()), int(abs(places).argmin())
    return (
        f"along a random direction the training loss is {number(losses[middle])} at the weights, "
        f"{number(losses[0])} and {number(losses[-1])} at -1 and 1; least, "
        f"{number(losses[least])}, at {number(places[least])}"
    )


if __name__ == "__main__":
    sys.path.append(str(PLUGINS))
    sys.exit(main())
