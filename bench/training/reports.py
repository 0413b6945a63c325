"""Tells another process how far a training is."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class Report(Callback):
    """Reports after each execution and each validation.

    Args:
        tell: is given the optimizer steps done, and how many of the runs have diverged.
    """

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self.tell = tell

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        self._report(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report(pl_module)

    def _report(self, module: Any) -> None:
        recorded = (member for member in module.members if member.recorder is not None)
        self.tell(module.steps_done, sum(member.diverged for member in recorded))
