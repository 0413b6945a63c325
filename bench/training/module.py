"""The LightningModule of one run: optimizer steps over tensors in memory, and its evaluation."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf, isfinite
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from bench.data import Prepared, Split
from bench.training.executions import Executions, Slices, steps_per_execution
from bench.training.recorder import Recorder
from bench.workloads import objective

EVALUATION_BATCH = 1000


class RunModule(pl.LightningModule):
    """Trains ``model`` by manual optimization, several optimizer steps in one ``training_step``.

    With one step to an execution it goes through Lightning's own backward and optimizer wrappers
    (mixed precision with a gradient scaler and several processes need them); with more it calls
    the optimizer directly and keeps Lightning's step counter itself. Both give the same numbers.

    Args:
        model: images ``[B, C, H, W]`` to logits ``[B, classes]``.
        data: the splits, on the device this module trains on.
        workload: the workload's configuration (``batch_size``, ``sampling``, ``l2``, ...).
        seed: decides the order of the samples.
        make_optimizer: from parameters to their optimizer.
        make_schedule: from the number of steps of the run to the multiplier of every group's
            learning rate at each of them.
        recorder: is told what happens; None where another process records.
        requested_steps: ``trainer.steps_per_execution``.
        log_every_n_steps: how often training values are reported, in optimizer steps.
        diagnostics: also report gradient and update norms at each logged step.
    """

    automatic_optimization: bool

    def __init__(
        self,
        model: nn.Module,
        data: Prepared,
        *,
        workload: Mapping[str, Any],
        seed: int,
        make_optimizer: Callable[[Any], torch.optim.Optimizer],
        make_schedule: Callable[[int], Sequence[float]],
        recorder: Recorder | None,
        requested_steps: int | str,
        log_every_n_steps: int,
        diagnostics: bool,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.data = data
        self.workload = workload
        self.seed = seed
        self.make_optimizer = make_optimizer
        self.make_schedule = make_schedule
        self.recorder = recorder
        self.requested_steps = requested_steps
        self.log_every_n_steps = log_every_n_steps
        self.diagnostics = diagnostics
        self.train_seconds = 0.0
        self.eval_seconds = 0.0
        self.steps_done = 0
        self.has_diverged = False
        self.validated_at: int | None = None
        self._norms: dict[str, float] = {}
        self._sums = (0.0, 0, 0)

    # -- set-up ------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.optimizer = self.make_optimizer(self.model.parameters())
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        return self.optimizer

    def train_dataloader(self) -> Executions:
        trainer, workload = self.trainer, self.workload
        size = len(self.data.train.labels)
        self.full_batch = workload["batch_size"] == "full"
        validation = trainer.val_check_interval
        self.executions = Executions(
            size,
            batch_size=size if self.full_batch else workload["batch_size"],
            sampling="sequential" if self.full_batch else workload["sampling"],
            drop_last=workload["drop_last"],
            seed=self.seed,
            steps=steps_per_execution(
                1 if self._needs_lightning else self.requested_steps,
                validation if isinstance(validation, int) else None,
            ),
            steps_left=self._steps_left,
            rank=self.global_rank,
            world_size=trainer.world_size,
        )
        if isinstance(validation, int):  # Lightning counts executions
            trainer.val_check_interval = validation // self.executions.steps
        self.multipliers = self.make_schedule(self._total_steps())
        return self.executions

    def val_dataloader(self) -> Slices | list[Any]:
        return self._slices(self.data.val) if self.data.val is not None else []

    def test_dataloader(self) -> Slices:
        return self._slices(self.data.test)

    def _slices(self, split: Split) -> Slices:
        return Slices(
            split, EVALUATION_BATCH, rank=self.global_rank, world_size=self.trainer.world_size
        )

    @property
    def _needs_lightning(self) -> bool:
        return self.trainer.world_size > 1 or self.trainer.precision == "16-mixed"

    def _total_steps(self) -> int:
        trainer, per_epoch = self.trainer, self.executions.steps_per_epoch
        limits = []
        if trainer.max_steps != -1:
            limits.append(trainer.max_steps)
        if trainer.max_epochs not in (None, -1):
            limits.append(trainer.max_epochs * per_epoch)
        return min(limits)

    def _steps_left(self) -> int | None:
        limit = self.trainer.max_steps
        return None if limit == -1 else limit - self.steps_done

    @property
    def epochs_done(self) -> float:
        return self.steps_done / self.executions.steps_per_epoch

    # -- training ----------------------------------------------------------------------------

    def training_step(self, batches: list[Tensor], batch_idx: int) -> None:
        started = time.perf_counter()
        first = self.steps_done
        values, rates, norms = [], [], []
        for indices in batches:
            rates.append(self._set_learning_rate())
            values.append(self._optimizer_step(indices))
            norms.append(self._norms)
        losses: list[float] = self._mean_over_processes(torch.stack(values)).tolist()
        self.train_seconds += time.perf_counter() - started
        for offset, loss in enumerate(losses):
            step = first + offset + 1
            if not isfinite(loss):
                self._diverge(step, "training loss")
                return
            if self._is_logged(step):
                self._report(step, loss=loss, lr=rates[offset], **norms[offset])

    def _set_learning_rate(self) -> float:
        multiplier = self.multipliers[self.steps_done]
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * multiplier
        return self.base_lrs[0] * multiplier

    def _optimizer_step(self, indices: Tensor) -> Tensor:
        """One step on the samples ``indices`` [B]; returns the loss before it, detached."""
        train = self.data.train
        if self.full_batch:
            images, labels = train.images, train.labels
        else:
            images, labels = train.batch(indices)
        closure = partial(self._loss_and_gradient, images, labels)
        measured = self.diagnostics and self._is_logged(self.steps_done + 1)
        before = [p.detach().clone() for p in self.model.parameters()] if measured else []
        if self.executions.steps > 1:
            loss = self.optimizer.step(closure)  # type: ignore[arg-type]
            self._count_step()
        else:
            loss = self.optimizers().step(closure=closure)  # type: ignore[union-attr]
        self.steps_done += 1
        if measured:
            self._norms = self._measure_norms(before)
        return cast(Tensor, loss).detach()

    def _loss_and_gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        parameters = dict(self.model.named_parameters())
        loss = objective(self.model(images), labels, parameters, self.workload["l2"])
        if torch.is_grad_enabled():
            if self.executions.steps > 1:
                loss.backward()
            else:
                self.manual_backward(loss)
        return loss

    def _count_step(self) -> None:
        # Lightning's `global_step`, which `max_steps` and checkpoints go by.
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()

    def _measure_norms(self, before: Sequence[Tensor]) -> dict[str, float]:
        """Euclidean norms over all parameters: of the gradient, and of what the step changed."""
        parameters = list(self.model.parameters())
        gradients = [p.grad for p in parameters if p.grad is not None]
        changes = [p.detach() - old for p, old in zip(parameters, before, strict=True)]
        return {
            "grad_norm": float(get_total_norm(gradients)),
            "update_norm": float(get_total_norm(changes)),
        }

    def _is_logged(self, step: int) -> bool:
        return step == 1 or step % self.log_every_n_steps == 0

    def _report(self, step: int, **values: float) -> None:
        if self.recorder is not None:
            epoch = step / self.executions.steps_per_epoch
            self.recorder.trained(step, epoch=epoch, seconds=self.train_seconds, **values)

    def _diverge(self, step: int, what: str) -> None:
        self.steps_done = step
        self.has_diverged = True
        self.trainer.should_stop = True
        if self.recorder is not None:
            self.recorder.diverged(step, f"{what} is not finite")

    def _mean_over_processes(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="mean")

    # -- evaluation --------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(*batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(*batch)

    def on_validation_epoch_end(self) -> None:
        loss, accuracy = self._end_evaluation()
        self.validated_at = self.steps_done
        self.log_dict({"val/loss": loss, "val/accuracy": accuracy}, logger=False, prog_bar=True)
        if not self.has_diverged and not isfinite(loss):
            self._diverge(self.steps_done, "validation loss")
        if self.recorder is not None and not self.has_diverged:
            self.recorder.validated(self.steps_done, **self._progress, loss=loss, accuracy=accuracy)

    def on_test_epoch_end(self) -> None:
        loss, accuracy = self._end_evaluation()
        if self.recorder is not None:
            self.recorder.tested(self.steps_done, **self._progress, loss=loss, accuracy=accuracy)

    @property
    def _progress(self) -> dict[str, float]:
        return {"epoch": self.epochs_done, "seconds": self.train_seconds}

    def _start_evaluation(self) -> None:
        self._evaluation_started = time.perf_counter()
        self._sums = (0.0, 0, 0)

    def _evaluate(self, images: Tensor, labels: Tensor) -> None:
        logits = self.model(images)  # [B, classes]
        loss, correct, count = self._sums
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(1) == labels).sum())
        self._sums = (loss, correct, count + len(labels))

    def _end_evaluation(self) -> tuple[float, float]:
        """Mean loss and accuracy over the split, the shares of all processes put together."""
        sums = torch.tensor(self._sums, dtype=torch.float64, device=self.device)
        loss, correct, count = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        self.eval_seconds += time.perf_counter() - self._evaluation_started
        return (loss if isfinite(loss) else inf) / count, correct / count
