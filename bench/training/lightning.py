"""What leans on Lightning's inner workings, in one place.

Lightning calls an item of a data loader a batch and counts such batches; here an item may hold many
optimizer steps. Its public ``global_step``, by which ``max_steps``, checkpoints and loggers go, is
kept in optimizer steps all the same.
"""

import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from bench.processes import is_one_of_several, start_others


def processes_of_a_run(options: Mapping[str, Any]) -> ClusterEnvironment:
    """Who makes a run, by the ``trainer`` section of its configuration: this process alone, others
    that Lightning starts, or those of torchrun. Left to itself, Lightning takes a scheduler's tasks
    for them, and what a scheduler numbers other than 0 logs nothing."""
    alone = options["devices"] == 1 and options["strategy"] in (None, "auto")
    if is_one_of_several() and not alone:
        torchrun = TorchElasticEnvironment.detect()
        return TorchElasticEnvironment() if torchrun else LightningEnvironment()
    if not alone:
        start_others()
    environment = LightningEnvironment()
    environment.set_global_rank(0)
    return environment


def count_steps(trainer: pl.Trainer, steps: int) -> None:
    """Adds to ``global_step``."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for counted in (progress.total, progress.current):
        counted.ready += steps
        counted.completed += steps


def name_step(trainer: pl.Trainer, steps: int) -> None:
    """By which others' callbacks log: so many were taken, and Lightning counts from 0."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = steps - 1


def validate_after_this(trainer: pl.Trainer, due: bool) -> None:
    """Lightning counts executions, and would take the end of a run for that of an epoch."""
    trainer.val_check_batch = 1 if due else sys.maxsize


def validate_within_epochs(trainer: pl.Trainer) -> None:
    """Tells others' callbacks, which would else wait for the end of an epoch: `EarlyStopping` and
    `ModelCheckpoint` ask whether this is 1. When validation comes is ours to say, as above."""
    trainer.val_check_interval = 0.5


def go_on(trainer: pl.Trainer, *, epochs: int, steps: int) -> None:
    """Has Lightning begin after so many whole epochs, and optimizer steps."""
    loop = trainer.fit_loop
    done = dict.fromkeys(("ready", "started", "processed", "completed"), epochs)
    loop.epoch_progress.load_state_dict({"total": done, "current": done})
    taken = dict.fromkeys(("ready", "completed"), steps)
    progress = loop.epoch_loop.manual_optimization.optim_step_progress
    progress.load_state_dict({"total": taken, "current": taken})


def leave_to_us(trainer: pl.Trainer, checkpoint: dict[str, Any], *, same_run: bool) -> None:
    """Takes out of a checkpoint what Lightning is not to restore, and casts the module before its
    weights come, as they would be cast otherwise."""
    trainer.precision_plugin.convert_module(trainer.lightning_module)
    del checkpoint["loops"]
    for name in [name for name in checkpoint["callbacks"] if "Checkpoint{" in name]:
        if not same_run:
            del checkpoint["callbacks"][name]  # where files of the other run lie


def checkpoint(trainer: pl.Trainer) -> dict[str, Any]:
    """What Lightning would write, for us to write."""
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


@contextmanager
def known_checkpoints() -> Iterator[None]:
    """Lightning's own are beside those that a run goes on with, and no reason for a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        yield


def leave_signals(trainer: pl.Trainer) -> None:
    """To whoever has the process: Lightning would answer SIGTERM with an exception of its own, in a
    job of Slurm's SIGUSR1 by queueing the job again, and put handlers back that are not its."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def end_others(trainer: pl.Trainer) -> None:
    """The processes that Lightning has started for this run."""
    if isinstance(launcher := trainer.strategy.launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGKILL)


class StepProgressBar(RichProgressBar):
    """Lightning's rich progress bar, counting optimizer steps."""

    @property
    def total_train_batches(self) -> int:
        module: Any = self.trainer.lightning_module
        return module.plan.steps_per_epoch

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
        in_epoch = module.steps_done - trainer.current_epoch * module.plan.steps_per_epoch
        super().on_train_batch_end(trainer, pl_module, outputs, batch, in_epoch - 1)
