"""`python -m bench.gradcheck`: is the gradient of every workload's loss what it should be?

`torch.autograd.gradcheck` compares autograd with central differences, in float64, along random
directions through all parameters. A sample of single coordinates shows by how much they differ, and
what a gradient costs in either way.

No torch at the top: help comes at once.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.command_line import CONF, PLUGINS

if TYPE_CHECKING:
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
    chosen = parser.parse_args().workload or names

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
    return 0 if all(c.passed for c in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
