"""A run as this project makes it: through Lightning, with its records, logs and checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from bench.throughput.clock import Clock, Timing
from bench.training import Run


class ClockCallback(pl.Callback):
    """Tells a clock of Lightning's events."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.clock.stepped(trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.clock.trained(trainer.global_step)

    def on_validation_start(self, *_: Any) -> None:
        self.clock.validation_starts()

    def on_validation_end(self, *_: Any) -> None:
        self.clock.validation_ends()


class Ours:
    def __init__(self, config: Mapping[str, Any], device: str) -> None:
        self.config = config
        Run([config], [Path()])  # its data stay in memory for the next ones

    def run(self, directory: Path, *, steps: int, lr: float, seed: int) -> Timing:
        changes: dict[str, Any] = {
            "seed": seed,
            "optimizer": self.config["optimizer"] | {"lr": lr},
            "trainer": self.config["trainer"] | {"max_steps": steps, "max_epochs": None},
        }
        clock = Clock()
        run = Run([{**self.config, **changes}], [directory])
        run.trainer.callbacks.append(ClockCallback(clock))  # type: ignore[attr-defined]
        run.train()
        return clock.stop()
