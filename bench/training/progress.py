"""Lightning's rich progress bar, counting optimizer steps."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class StepProgressBar(RichProgressBar):
    """Lightning counts what it calls batches; here each may hold several optimizer steps."""

    @property
    def total_train_batches(self) -> int:
        module: Any = self.trainer.lightning_module
        return module.executions.steps_per_epoch

    def _get_train_description(self, current_epoch: int) -> str:
        limit = self.trainer.max_epochs
        return f"Epoch {current_epoch + 1}" + (f"/{limit}" if limit not in (None, -1) else "")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        module: Any = pl_module
        in_epoch = module.steps_done - trainer.current_epoch * module.executions.steps_per_epoch
        super().on_train_batch_end(trainer, pl_module, outputs, batch, in_epoch - 1)
