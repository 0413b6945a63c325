"""What a step costs: every rule against PyTorch's kernels and against a copy of the same bytes.

All contenders of a cell step the same tensors in turn, round after round, so that whatever else
the machine does falls on all alike; a ratio is taken within a round, then its median over rounds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optimizers.methods import OPTIMIZERS
from optimizers.paths import native
from optimizers.rule import Matrixwise
from optimizers.rules import RULES
from optimizers.toolchain import build, processor

SIZES = {"0.1 M": 100_000, "2 M": 2_000_000, "20 M": 20_000_000}
TENSORS = (6, 200)
# What is measured is a step of vectors; one of matrices costs what their products cost.
ELEMENTWISE = [name for name, rule in RULES.items() if not issubclass(rule, Matrixwise)]
TRAINING = 2_000  # steps over which `auto` must have paid for its compilation
SECONDS = 0.02  # the least that a round times

REFERENCES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
}
IMPLEMENTATIONS: Mapping[str, dict[str, bool]] = {
    "default": {},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


@dataclass(frozen=True)
class Cell:
    """Seconds a step of each contender, one a round."""

    rule: str
    size: str
    tensors: int
    seconds: dict[str, list[float]]
    first_step: float  # of a new `auto` optimizer whose kernel is in the cache on disk

    def median(self, contender: str) -> float:
        return statistics.median(self.seconds[contender])

    def ratio(self, contender: str, others: Sequence[str]) -> float | None:
        """To the fastest of some others; None where the rule has none of them."""
        present = [name for name in others if name in self.seconds]
        if not present:
            return None
        fastest = min(present, key=self.median)
        pairs = zip(self.seconds[contender], self.seconds[fastest], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    @property
    def bandwidth(self) -> float:
        """Share of the speed at which the same bytes are copied."""
        return 1 / (self.ratio("auto", ["copy"]) or 1)

    @property
    def training(self) -> float | None:
        """`auto` over PyTorch's default, for a whole training with its warm compilation."""
        if "default" not in self.seconds:
            return None
        ours = self.first_step + TRAINING * self.median("auto")
        return ours / (TRAINING * self.median("default"))


def measure(rule: str, size: str, tensors: int, *, device: torch.device, rounds: int) -> Cell:
    elements = SIZES[size] // tensors
    parameters = [torch.randn(elements, device=device) for _ in range(tensors)]
    for p in parameters:
        p.grad = torch.randn_like(p)
    native.load.cache_clear()
    first_step = seconds_of(OPTIMIZERS[rule](parameters, 1e-6).step, device, 1)
    steps = contenders(rule, parameters)
    repeats = {}
    for name, step in steps.items():
        seconds_of(step, device, 2)
        repeats[name] = max(1, int(SECONDS / seconds_of(step, device, 2)))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(seconds_of(step, device, repeats[name]))
    return Cell(rule, size, tensors, seconds, first_step)


def contenders(rule: str, parameters: list[Tensor]) -> dict[str, Callable[[], Any]]:
    ours = OPTIMIZERS[rule]
    steps: dict[str, Callable[[], Any]] = {
        "auto": ours(parameters, 1e-6).step,
        "eager": ours(parameters, 1e-6, path="eager").step,
    }
    if rule in REFERENCES:
        name, settings = REFERENCES[rule]
        for implementation, flags in IMPLEMENTATIONS.items():
            try:
                theirs = getattr(torch.optim, name)(parameters, lr=1e-6, **settings, **flags)
                theirs.step()
            except (TypeError, RuntimeError, NotImplementedError):
                continue  # PyTorch has no such implementation of this method
            steps[implementation] = theirs.step
    # A step reads parameter, gradient and state, and writes all but the gradient; a copy of half as
    # many numbers reads and writes as many.
    numbers = sum(p.numel() for p in parameters) * (3 + 2 * len(ours.rule.slots))
    source = torch.ones(numbers // 2, device=parameters[0].device)
    steps["copy"] = partial(torch.zeros_like(source).copy_, source)
    return steps


def seconds_of(step: Callable[[], Any], device: torch.device, repeats: int) -> float:
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    synchronize()
    return (time.perf_counter() - start) / repeats


def cold_build() -> float:
    """Seconds to compile a kernel that is not in the cache."""
    text = native.translate(OPTIMIZERS["adam"].rule, "float").text
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        build(text, Path(folder))
        return time.perf_counter() - start


def environment(device: torch.device) -> dict[str, Any]:
    host = processor().get("model name") or platform.processor()
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else host,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cold_build_seconds": cold_build() if device.type == "cpu" else None,
    }


COLUMNS = ["auto", "eager", "default", "foreach", "fused", "copy"]


def table(cells: Sequence[Cell]) -> str:
    """Markdown: microseconds a step, median and range over rounds, then the three ratios."""
    head = ["rule", "parameters", "tensors", *COLUMNS]
    head += ["auto / best of torch", "copy speed", f"{TRAINING:,} steps / default"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for cell in cells:
        times = [microseconds(cell.seconds.get(name)) for name in COLUMNS]
        best, training = cell.ratio("auto", list(IMPLEMENTATIONS)), cell.training
        rows.append(
            [
                *(cell.rule, cell.size, str(cell.tensors), *times),
                "" if best is None else f"{best:.2f}",
                f"{cell.bandwidth:.0%}",
                "" if training is None else f"{training:.2f}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def microseconds(seconds: Sequence[float] | None) -> str:
    if seconds is None:
        return ""
    low, middle, high = (
        f"{1e6 * value:,.0f}" for value in (min(seconds), statistics.median(seconds), max(seconds))
    )
    return f"{middle} ({low}-{high})"


def figure(cells: Sequence[Cell], target: Path) -> None:
    """A panel for each size: the time of a step by each contender, in the fewest tensors."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    cells = [cell for cell in cells if cell.tensors == min(c.tensors for c in cells)]
    sizes = list(dict.fromkeys(cell.size for cell in cells))
    styles = {
        "auto": ("#0072B2", "o"),
        "default": ("#999999", "s"),
        "foreach": ("#E69F00", "^"),
        "fused": ("#D55E00", "v"),
        "copy": ("black", "|"),
    }
    panels: Any
    fig, panels = plt.subplots(
        1, len(sizes), figsize=(1 + 3.2 * len(sizes), 4), sharey=True, squeeze=False
    )
    for panel, size in zip(panels[0], sizes, strict=True):
        shown = [cell for cell in cells if cell.size == size][::-1]
        for name, (colour, marker) in styles.items():
            points = [(i, c.median(name)) for i, c in enumerate(shown) if name in c.seconds]
            y, seconds = zip(*points, strict=True) if points else ((), ())
            panel.plot([1e6 * s for s in seconds], y, marker, color=colour, label=name)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set(title=f"{size} parameters", xlabel="µs a step")
        panel.set_yticks(range(len(shown)), [cell.rule for cell in shown])
        panel.grid(axis="both", alpha=0.3)
    fig.tight_layout(rect=(0, 0.06, 1, 1))
    handles, names = panels[0][0].get_legend_handles_labels()
    names = ["ours" if name == "auto" else name for name in names]
    fig.legend(handles, names, loc="lower center", ncols=len(names), frameon=False)
    fig.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark_optimizers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rules, 0.1 M and 2 M, 3 rounds")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--rules", nargs="+", choices=ELEMENTWISE, default=ELEMENTWISE)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("docs/results/optimizers"))
    options = parser.parse_args()
    rules, sizes, rounds = options.rules, list(SIZES), options.rounds
    if options.quick:
        rules, sizes, rounds = ["momentum", "adam"], sizes[:2], 3
    cells = []
    for size in sizes:
        for rule in rules:
            for tensors in TENSORS:
                cell = measure(rule, size, tensors, device=options.device, rounds=rounds)
                cells.append(cell)
                best = cell.ratio("auto", list(IMPLEMENTATIONS))
                print(
                    f"{size:>6} {rule:10} in {tensors:3}: {microseconds(cell.seconds['auto'])} µs",
                    f"{cell.bandwidth:.0%} of copy",
                    "" if best is None else f"{best:.2f} x best of torch",
                    flush=True,
                )
    where = environment(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    name = options.device.type
    summary = ", ".join(f"{key} {value}" for key, value in where.items() if value is not None)
    text = f"{summary}; microseconds a step, median (range) of {rounds} rounds\n\n{table(cells)}\n"
    print(f"\n{text}")
    (options.out / f"{name}.md").write_text(text)
    record = {"environment": where, "cells": [asdict(cell) for cell in cells]}
    (options.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure(cells, options.out / f"{name}.svg")


if __name__ == "__main__":
    main()
