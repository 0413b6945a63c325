"""Measures how fast training is here; writes a page, its figures and all numbers."""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.command_line import PLUGINS
from bench.errors import BenchError
from bench.settings import schema
from bench.sweeps.executors.local import cores
from bench.throughput import busy, costs, measure
from bench.throughput.contenders import WITHOUT_JAX, has_jax
from bench.throughput.measure import LAUNCHERS
from bench.throughput.write import RESULTS, read, write

# Each with its number of rounds.
SECTIONS = {
    "runs": (measure.runs, 5),
    "sweeps": (measure.sweeps, 1),
    "stacks": (measure.stacks, 1),
    "costs": (costs.costs, 3),
    "busy": (busy.busy, 3),
}


def main() -> None:
    names = list(measure.SIZES)
    rounds = ", ".join(f"{count} of {name}" for name, (_, count) in SECTIONS.items())
    parser = argparse.ArgumentParser(prog="scripts/benchmark_throughput", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="mnist_mlp alone, fewer rounds")
    parser.add_argument("--workloads", nargs="+", choices=names, metavar="NAME", default=names)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS)
    parser.add_argument("--launchers", nargs="+", choices=LAUNCHERS, default=list(LAUNCHERS))
    parser.add_argument("--rounds", type=int, help=f"default: {rounds}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("docs/results/throughput"))
    parser.add_argument(
        "--append", action="store_true", help="keep other workloads of the same sections, too"
    )
    options = parser.parse_args()
    if options.quick:
        options.workloads, options.rounds = ["mnist_mlp"], options.rounds or 1
    options.sections = options.sections or (
        ["runs", "sweeps", "costs"] if options.quick else list(SECTIONS)
    )
    if not has_jax(options.device):
        print(WITHOUT_JAX, file=sys.stderr)
    sys.path.append(str(PLUGINS))
    schema.register()
    try:
        for found in results(options):
            write(found, options.out)
    except BenchError as error:
        sys.exit(f"error: {error}")
    print(options.out / "README.md")


def results(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """On what machine, and what every section found, now or, if it is not measured now, before;
    again after each measurement, so that an interrupted benchmark leaves what it has.

    Raises:
        BenchError: what is to be kept was measured elsewhere.
    """
    started = time.perf_counter()
    found: dict[str, Any] = {"machine": machine(options.device)} | {name: [] for name in SECTIONS}
    if options.append or (options.out / RESULTS).exists():
        kept = read(options.out)
        if alike(kept["machine"]) == alike(found["machine"]):
            parts = [n for n in SECTIONS if options.append or n not in options.sections]
            found |= {name: kept.get(name, []) for name in parts}
        elif options.append or not set(SECTIONS) <= set(options.sections):
            raise BenchError(
                f"{options.out}: was measured on another machine or other versions; write "
                "elsewhere, with --out, or measure all sections"
            )
    for name in options.sections:
        section, rounds = SECTIONS[name]
        once = name == "costs"  # which hardly depend on the workload
        for workload in options.workloads[: 1 if once else None]:
            spent = time.perf_counter() - started
            print(f"{spent:5.0f} s  {name}: {workload}", file=sys.stderr, flush=True)
            more = {"launchers": options.launchers} if name == "sweeps" else {}
            row = section(workload, device=options.device, rounds=options.rounds or rounds, **more)
            if row is not None:
                others = [other for other in found[name] if other["workload"] != workload]
                order = list(measure.SIZES).index
                found[name] = sorted([*others, row], key=lambda row: order(row["workload"]))
                yield found


def alike(machine: dict[str, Any]) -> dict[str, Any]:
    """What makes its measurements comparable with others."""
    return {key: value for key, value in machine.items() if not key.startswith("git_")}


def machine(device: str) -> dict[str, Any]:
    import torch

    from bench.training.environment import environment

    return {**environment(torch.device(device)), "cores": cores()}


if __name__ == "__main__":
    main()
