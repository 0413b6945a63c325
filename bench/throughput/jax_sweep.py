"""JAX's sweep, from the shell: how many runs it should vmap, and what it then takes."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.throughput.commands import python
from bench.throughput.problem import Problem

RATES = [1e-4 * 2**i for i in range(8)]
TOGETHER = (1, 8, 16, 64)  # runs in a stack
LONGEST = 300  # seconds of a sweep that is made as a whole


class Peer:
    """Makes sweeps of a problem, all of `RATES` times so many seeds.

    Attributes:
        chosen: how many runs are in a stack, and of each number that was tried, what a whole sweep
            would take by it, in seconds.
    """

    def __init__(self, config: Mapping[str, Any], device: str, steps: int, seeds: int) -> None:
        self.problem, self.device = Problem.of(config), device
        self.steps, self.seeds = steps, seeds
        expected: dict[int, float] = {}
        for together in TOGETHER:
            expected[together] = self.probe(together)
            if expected[together] > 1.5 * min(expected.values()):
                break
        together = min(expected, key=lambda k: expected[k])
        self.chosen: dict[str, Any] = {"together": together, "expected_seconds": expected}

    @property
    def total(self) -> int:
        """Optimizer steps of a sweep."""
        return self.steps * self.seeds * len(RATES)

    def probe(self, together: int) -> float:
        """Seconds of a sweep by one stack's compilation and a few steps of it."""
        seeds = -(-together // len(RATES))
        steps = 5 if self.problem.channels else 100
        found = self.command(together, steps, seeds, RATES[:together], "--train-only")
        step = found["train_seconds"] / found["steps"]
        return found["compile_seconds"] + step * self.total

    def sweep(self) -> dict[str, float]:
        """Seconds, and optimizer steps a second, of the whole command. Of a sweep that takes very
        long some seeds are made, the others extrapolated."""
        together = self.chosen["together"]
        seeds = self.seeds
        if self.chosen["expected_seconds"][together] > LONGEST:
            seeds = max(1, together // len(RATES))
        found = self.command(together, self.steps, seeds, RATES)
        seconds = found["seconds"] + found["stack_seconds"] * (self.seeds / seeds - 1)
        return {
            "seeds_made": seeds,
            "compile_seconds": found["compile_seconds"],
            "train_seconds": found["train_seconds"] * self.seeds / seeds,
            "seconds": seconds,
            "rate": self.total / seconds,
            "peak_bytes": found["peak_bytes"],
        }

    def command(
        self, together: int, steps: int, seeds: int, rates: Sequence[float], *more: str
    ) -> dict[str, Any]:
        """What `jax_peer` tells of a sweep, with the seconds and memory of the process."""
        with tempfile.TemporaryDirectory() as directory:
            out = Path(directory) / "sweep.json"
            seconds, peak_bytes = python(
                *("-m", "bench.throughput.jax_peer", json.dumps(asdict(self.problem))),
                *("--device", self.device, "--steps", str(steps), "--seeds", str(seeds)),
                *("--together", str(together), "--out", str(out)),
                *("--rates", *map(str, rates), *more),
            )
            found = json.loads(out.read_text("utf-8"))
        return {**found, "seconds": seconds, "peak_bytes": peak_bytes}
