"""Measures how fast training is here; writes a page, its figures and all numbers."""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import config
from bench.__main__ import PLUGINS
from bench.errors import BenchError
from bench.sweep import cores
from bench.throughput import measure
from bench.throughput.write import write

# Each with its number of rounds.
SECTIONS = {
    "runs": (measure.runs, 5),
    "sweeps": (measure.sweeps, 1),
    "stacks": (measure.stacks, 1),
    "costs": (measure.costs, 3),
}


def main() -> None:
    names = list(measure.SIZES)
    rounds = ", ".join(f"{count} of {name}" for name, (_, count) in SECTIONS.items())
    parser = argparse.ArgumentParser(prog="scripts/benchmark_throughput", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="mnist_mlp alone, fewer rounds")
    parser.add_argument("--workloads", nargs="+", choices=names, metavar="NAME", default=names)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, help=f"default: {rounds}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("docs/results/throughput"))
    options = parser.parse_args()
    if options.quick:
        options.workloads, options.sections = ["mnist_mlp"], ["runs", "sweeps", "costs"]
        options.rounds = options.rounds or 1
    sys.path.append(str(PLUGINS))
    config.register()
    try:
        for found in results(options):
            write(found, options.out)
    except BenchError as error:
        sys.exit(f"error: {error}")
    print(options.out / "README.md")


def results(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """On what machine, and what every section found; again after each measurement, so that an
    interrupted benchmark leaves what it has."""
    started = time.perf_counter()
    found: dict[str, Any] = {"machine": machine(options.device)} | {name: [] for name in SECTIONS}
    for name in options.sections:
        section, rounds = SECTIONS[name]
        once = name == "costs"  # which hardly depend on the workload
        for workload in options.workloads[: 1 if once else None]:
            spent = time.perf_counter() - started
            print(f"{spent:5.0f} s  {name}: {workload}", file=sys.stderr, flush=True)
            row = section(workload, device=options.device, rounds=options.rounds or rounds)
            if row is not None:
                found[name].append(row)
                yield found


def machine(device: str) -> dict[str, Any]:
    import torch

    from bench.training.environment import environment

    return {**environment(torch.device(device)), "cores": cores()}


if __name__ == "__main__":
    main()
