"""`python -m bench.gradcheck`: is the gradient of every workload's loss what it should be?

`torch.autograd.gradcheck` compares autograd with central differences, in float64, along random
directions through all parameters. A sample of single coordinates shows by how much they differ, and
what a gradient costs in either way.

No torch at the top: help comes at once.
"""

from __future__ import annotations

import csv
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.command_line import CONF, PLUGINS
from bench.second_order import duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table
    from torch import Generator, Tensor

BATCH = 4
COORDINATES = 100
# A difference that straddles a kink of ReLU or of max-pooling is off by more than its rounding.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Check:
    """Of one workload; times in seconds."""

    workload: str
    parameters: int
    agrees: bool  # along random directions
    error: float  # the largest in the sample, over the largest derivative
    analytic_seconds: float  # of the whole gradient
    numeric_seconds: float  # of one coordinate

    @property
    def passed(self) -> bool:
        return self.agrees and self.error <= TOLERANCE


def check(name: str) -> Check:
    """On the first training examples, with the weights of seed 0."""
    import torch
    from hydra import compose

    from bench.settings import schema
    from bench.settings.workloads import workload_of
    from bench.training.step import penalised
    from bench.workloads.models import drawn, loaded
    from bench.workloads.workload import Place
    from optimizers.numeric import partial_derivative

    config = schema.validate(compose("config", [f"workload={name}"]))
    workload = workload_of(config)
    loaded(workload, Place(torch.device("cpu"), torch.float64))
    model = drawn(workload, 0).double().eval()  # without dropout, which would draw anew each time
    batch = workload.batch(slice(0, min(BATCH, workload.train_size)))
    generator = torch.Generator().manual_seed(0)
    parameters = dict(model.named_parameters())

    def loss(*_: Tensor) -> Tensor:
        output = workload.call(model, batch)
        return penalised(workload.objective(output, batch), parameters.values(), workload.l2)

    tensors = list(parameters.values())
    gradients, analytic_seconds = timed(lambda: torch.autograd.grad(loss(), tensors))
    sample = [draw(tensors, generator) for _ in range(COORDINATES)]
    numeric, numeric_seconds = timed(
        lambda: [partial_derivative(loss, tensors[i], at) for i, at in sample]
    )
    analytic = torch.stack([gradients[i][at] for i, at in sample])
    difference = (torch.tensor(numeric, dtype=torch.float64) - analytic).abs()
    return Check(
        name,
        sum(p.numel() for p in tensors),
        agrees(loss, tensors),
        float(difference.max() / analytic.abs().max()),
        analytic_seconds,
        numeric_seconds / COORDINATES,
    )


def agrees(loss: Callable[..., Tensor], tensors: Sequence[Tensor]) -> bool:
    import torch
    from torch.autograd.gradcheck import GradcheckError

    try:
        return torch.autograd.gradcheck(loss, tensors, fast_mode=True)
    except GradcheckError:
        return False


def draw(tensors: Sequence[Tensor], generator: Generator) -> tuple[int, tuple[int, ...]]:
    """A coordinate of a tensor, each tensor as likely: biases would else hardly be seen."""
    import torch

    i = int(torch.randint(len(tensors), (), generator=generator))
    at = [int(torch.randint(size, (), generator=generator)) for size in tensors[i].shape]
    return i, tuple(at)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def table(checks: list[Check]) -> Table:
    from rich.table import Table

    columns = Table(title="Analytic against numeric gradients, float64", min_width=80)
    columns.add_column("workload")
    for head in ("parameters", "gradcheck", "largest error", "analytic", "numeric"):
        columns.add_column(head, justify="right")
    for c in checks:
        columns.add_row(
            c.workload,
            f"{c.parameters:,}",
            "agrees" if c.agrees else "DIFFERS",
            f"{c.error:.1e}",
            f"{1e3 * c.analytic_seconds:.1f} ms",
            f"{c.parameters * c.numeric_seconds:,.0f} s",
        )
    return columns


def conclusion(checks: Sequence[Check]) -> str:
    """What the table says of the two ways to a gradient, in one sentence."""
    times = [c.parameters * c.numeric_seconds / c.analytic_seconds for c in checks]
    costly = max(checks, key=lambda c: c.parameters)
    whole = duration(costly.parameters * costly.numeric_seconds)
    return (
        f"A numeric gradient would take {min(times):,.3g} to {max(times):,.3g} times as long as "
        f"an analytic one, {whole} at {costly.parameters:,} parameters ({costly.workload}), for "
        f"entries, {COORDINATES} drawn of each, that differ by at most "
        f"{max(c.error for c in checks):.1e} of the largest: numeric to check, analytic to train."
    )


def as_figure(checks: Sequence[Check]) -> Figure:
    """Seconds of a whole gradient in both ways, and by how much they differ."""
    from bench.report.style import HEIGHT, INK, LOOKS, WIDTH
    from bench.report.style import figure as empty

    drawing = empty(extra_height=HEIGHT)
    drawing.set_size_inches(WIDTH, 1.9 * HEIGHT)
    cost, error = drawing.subplots(2, 1, sharex=True)
    at = [c.parameters for c in checks]
    for name, look, seconds in (
        ("numeric", LOOKS["sgd"], [c.parameters * c.numeric_seconds for c in checks]),
        ("analytic", LOOKS["adam"], [c.analytic_seconds for c in checks]),
    ):
        cost.plot(at, seconds, look.marker, color=look.colour, label=name)
    cost.set(xscale="log", yscale="log", ylabel="seconds of a gradient")
    cost.legend(frameon=False)
    error.plot(at, [max(c.error, 1e-17) for c in checks], "o", color=INK)
    error.set(xscale="log", yscale="log", xlabel="parameters")
    error.set_ylabel("largest difference,\nover the largest derivative")
    return drawing


def save_figure(checks: Sequence[Check], path: Path) -> None:
    """As ``.svg``, ``.png`` and ``.pdf``, with every value beside it as ``.csv``."""
    import matplotlib as mpl

    from bench.report.style import RC, save

    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        save(as_figure(checks), path, title="Analytic against numeric gradients")
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Check)])
        writer.writerows(astuple(c) for c in checks)


def main() -> int:
    names = sorted(path.stem for path in (CONF / "workload").glob("*.yaml"))
    parser = ArgumentParser(
        prog="python -m bench.gradcheck",
        description="Compares the gradient of each workload's loss, as autograd gives it, with "
        "central differences in float64. All of them take about a minute.",
        epilog=f"Workloads: {', '.join(names)}. The exit status is 1 if a gradient differs.",
    )
    parser.add_argument(
        "--workload",
        metavar="NAME",
        action="append",
        choices=names,
        help="check this one only; may be said several times",
    )
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="draw cost and error against the number of parameters: FILE.svg, .png, .pdf, .csv",
    )
    options = parser.parse_args()
    chosen = options.workload or names

    from hydra import initialize_config_dir
    from rich.console import Console
    from rich.progress import track

    from bench.settings import schema

    sys.path.append(str(PLUGINS))
    schema.register()
    progress = Console(stderr=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        shown = track(
            chosen,
            "checking",
            console=progress,
            transient=True,
            disable=not progress.is_terminal,
        )
        checks = [check(name) for name in shown]
    Console().print(table(checks))
    print(conclusion(checks))
    if options.figure is not None:
        try:
            save_figure(checks, options.figure)
        except OSError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0 if all(c.passed for c in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
