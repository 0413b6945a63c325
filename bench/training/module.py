"""What every training shares: optimizer steps over tensors in memory, evaluation, and reporting."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite, nan
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from bench.data import Prepared, Split
from bench.training import resumption
from bench.training.capture import CapturedStep
from bench.training.executions import Executions, Slices, steps_per_execution
from bench.training.recorder import Recorder
from bench.workloads import FAMILIES

log = logging.getLogger(__name__)


@dataclass
class Member:
    """One run of a training: what is its own while it trains with K - 1 others (K is often 1).

    Attributes:
        config: its configuration.
        recorder: is told what happens; None where nothing is to be recorded.
        make_schedule: from the number of steps of the run to the multiplier of the learning rate
            at each of them.
        lr: the learning rate before its schedule.
        multipliers: of the learning rate, one a step.
        steps: optimizer steps that count; those after the run is over do not.
        diverged: its loss is not finite.
        stopped: its validation accuracy has not risen for ``trainer.patience`` validations.
        best: the highest validation accuracy so far.
        waited: validations since then.
    """

    config: Mapping[str, Any]
    recorder: Recorder | None
    make_schedule: Callable[[int], Sequence[float]]
    lr: float = nan
    multipliers: Sequence[float] = ()
    steps: int = 0
    diverged: bool = False
    stopped: bool = False
    best: float = -inf
    waited: int = 0

    @property
    def over(self) -> bool:
        return self.diverged or self.stopped

    def wait(self, accuracy: float, patience: int | None) -> None:
        """Stops the run if it has waited long enough for a better validation accuracy."""
        if accuracy > self.best:
            self.best, self.waited = accuracy, 0
        else:
            self.waited += 1
            self.stopped = self.waited == patience


class TrainingModule(pl.LightningModule):
    """Trains K runs by manual optimization, several optimizer steps in one ``training_step``.

    A subclass says how one step and one evaluation are made: `compute`, `prepare` and
    `apply_gradients` are the step, `evaluate` the other; and the `members` that are still in it.
    All members have the same workload and the same Trainer.

    Args:
        members: the runs.
        data: the splits, on the device this module trains on.
    """

    automatic_optimization: bool

    def __init__(self, members: Sequence[Member], data: Prepared) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.members = list(members)
        self.data = data
        self.workload: Mapping[str, Any] = members[0].config["workload"]
        self.options: Mapping[str, Any] = members[0].config["trainer"]
        self.diagnostics: bool = members[0].config["diagnostics"]
        self.train_seconds = 0.0
        self.eval_seconds = 0.0
        self.steps_done = 0
        self.validated_at: int | None = None
        self.resumed: dict[str, Any] | None = None  # what a checkpoint said, if one was loaded
        self.captured: CapturedStep | None = None
        self.acting_on_steps: Sequence[str] = ()  # callbacks for which each step is Lightning's
        self.evaluation_batch = FAMILIES[self.workload["model"]["family"]].evaluation_batch

    # -- what a subclass says ----------------------------------------------------------------

    def compute(self, indices: Tensor) -> Tensor:
        """Gradients on the samples ``indices`` [U, B] of a step, a row for each of the U seeds;
        returns the losses, [K], detached."""
        raise NotImplementedError

    def prepare(self, step: int) -> None:
        """Counts a step of the optimizer and sets its numbers; ``step`` were taken before."""
        raise NotImplementedError

    def apply_gradients(self) -> None:
        """Changes the parameters."""
        raise NotImplementedError

    def advance(self, step: int) -> None:
        """Both, one after the other."""
        self.prepare(step)
        self.apply_gradients()

    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Summed loss and number of correct answers on ``images`` [B, C, H, W], each [K]."""
        raise NotImplementedError

    @property
    def running(self) -> list[Member]:
        """The K members that `take_step` and `evaluate` answer for, in their order."""
        return self.members

    def leave(self) -> None:
        """Some members are over."""

    def norms(self) -> Mapping[str, float]:
        """Gradient and update norms of the last step, if they were asked for."""
        return {}

    def place(self, *, evaluated: bool) -> None:
        """Puts the weights where they are evaluated, or where they are trained."""

    # -- set-up ------------------------------------------------------------------------------

    def train_dataloader(self) -> Executions:
        trainer, workload = self.trainer, self.workload
        size = len(self.data.train)
        self.full_batch = workload["batch_size"] == "full"
        self.executions = Executions(
            size,
            batch_size=size if self.full_batch else workload["batch_size"],
            accumulate=self.options["accumulate_grad_batches"],
            sampling="sequential" if self.full_batch else workload["sampling"],
            drop_last=workload["drop_last"],
            seeds=sorted({member.config["seed"] for member in self.members}),
            steps=steps_per_execution(
                self._requested_steps(),
                self.options["val_check_interval"],
            ),
            steps_left=self._steps_left,
            rank=self.global_rank,
            world_size=trainer.world_size,
        )
        if self.resumed is not None:
            resumption.place(trainer, self.executions, steps=self.steps_done)
        for member in self.members:
            member.multipliers = member.make_schedule(self._total_steps())
        return self.executions

    def val_dataloader(self) -> Slices | list[Any]:
        return self._slices(self.data.val) if self.data.val is not None else []

    def test_dataloader(self) -> Slices:
        return self._slices(self.data.test)

    def _slices(self, split: Split) -> Slices:
        processes = self.trainer.world_size
        size = min(self.evaluation_batch, -(-len(split) // processes))  # a slice for each process
        return Slices(split, size, rank=self.global_rank, world_size=processes)

    @property
    def needs_lightning(self) -> bool:
        """Whether each step must go through Lightning's own wrappers."""
        return self.trainer.world_size > 1 or self.trainer.precision == "16-mixed"

    def _requested_steps(self) -> int | str:
        """How many steps an execution is to have, as far as it is known what must see each."""
        requested = self.options["steps_per_execution"]
        if requested == "auto" and self.acting_on_steps:
            log.info("steps are taken one by one, for %s", ", ".join(self.acting_on_steps))
            return 1
        return 1 if self.needs_lightning else requested

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

    # -- checkpoints -------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if len(self.members) == 1:
            checkpoint[resumption.KEY] = resumption.state(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.resumed = resumption.adopt(self, checkpoint)

    def on_train_start(self) -> None:
        if self.resumed is not None:
            resumption.set_random_state(self.resumed, self.device)

    # -- training ----------------------------------------------------------------------------

    def training_step(self, batches: list[Tensor], batch_idx: int) -> None:
        started = time.perf_counter()
        self.place(evaluated=False)
        first, members, values, norms = self.steps_done, self.running, [], []
        for step, indices in enumerate(batches, first):
            values.append(self.take_step(indices, step))
            norms.append(self.norms())
        self.steps_done += len(batches)
        # By which others' callbacks log; Lightning counts steps from 0, and executions as steps.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.steps_done - 1
        losses = self._mean_over_processes(torch.stack(values)).tolist()  # [S, K], waits for all
        self.train_seconds += time.perf_counter() - started
        for member, own in zip(members, zip(*losses, strict=True), strict=True):
            if not member.over:
                self._follow(member, first, own, norms)
        self._end_what_is_over()
        # Lightning counts executions, and would take the end of a run for that of an epoch.
        self.trainer.val_check_batch = 1 if self._validation_is_due() else sys.maxsize

    def _validation_is_due(self) -> bool:
        """Every so many steps from the start of each epoch; at its end if nothing else is said."""
        per_epoch = self.executions.steps_per_epoch
        in_epoch = (self.steps_done - 1) % per_epoch + 1
        return in_epoch % (self.options["val_check_interval"] or per_epoch) == 0

    def _follow(
        self,
        member: Member,
        first: int,
        losses: Sequence[float],
        norms: Sequence[Mapping[str, float]],
    ) -> None:
        """Reports the steps after ``first``, up to the one where the run diverges."""
        for step, (loss, measured) in enumerate(zip(losses, norms, strict=True), first + 1):
            member.steps = step
            if not isfinite(loss):
                self._diverge(member, "training loss")
                return
            if self.is_logged(step) and member.recorder is not None:
                lr = member.lr * member.multipliers[step - 1]
                member.recorder.trained(step, **self._progress(step), loss=loss, lr=lr, **measured)

    def take_step(self, indices: Tensor, step: int) -> Tensor:
        """One optimizer step after ``step`` others; returns the losses before it, [K], detached."""
        if self.captured is not None:
            losses = self.captured.step(indices, partial(self.prepare, step))
        else:
            losses = self.compute(indices)
            self.advance(step)
        self.count_step()
        return losses

    def capture_step(self) -> None:
        """Has steps taken by a CUDA graph from here on, where that is possible."""
        self.captured = (
            CapturedStep(self.compute, self.apply_gradients) if self.can_capture else None
        )

    @property
    def can_capture(self) -> bool:
        """Whether each step launches the same kernels, and the host adds only coefficients."""
        return (
            self.device.type == "cuda"
            and self.options["cuda_graph"] == "auto"
            and self.executions.steps > 1
            and not self.diagnostics  # which read the gradients of every step
            and not self.trainer.precision.endswith("-mixed")  # casts are made as they are needed
            and self.workload["model"]["dropout"] == 0  # draws other numbers in a graph
        )

    def count_step(self) -> None:
        """Keeps Lightning's ``global_step``, by which ``max_steps`` and checkpoints go."""
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()

    def is_logged(self, step: int) -> bool:
        return step == 1 or step % self.options["log_every_n_steps"] == 0

    def _diverge(self, member: Member, what: str) -> None:
        member.diverged = True
        if member.recorder is not None:
            member.recorder.diverged(member.steps, f"{what} is not finite")

    def _end_what_is_over(self) -> None:
        if any(member.over for member in self.running):
            self.leave()
        if all(member.over for member in self.members):
            self.trainer.should_stop = True

    def _mean_over_processes(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="mean")

    def _progress(self, step: int) -> dict[str, float]:
        return {
            "epoch": step / self.executions.steps_per_epoch,
            "seconds": self.train_seconds,
        }

    def mean_over_batches(
        self, indices: Tensor, gradients_of: Callable[[Tensor], tuple[Tensor, Sequence[Tensor]]]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Losses and gradients of a step: the mean over the batches it accumulates, each weighted
        by its samples, so that it is that of one batch of all of them, up to rounding."""
        first, *others = self.executions.micro_batches(indices)
        losses, gradients = gradients_of(first)
        if others:
            share = first.shape[1] / indices.shape[1]
            losses, gradients = losses * share, [gradient * share for gradient in gradients]
        for batch in others:
            share = batch.shape[1] / indices.shape[1]
            more, found = gradients_of(batch)
            losses.add_(more, alpha=share)
            for gradient, part in zip(gradients, found, strict=True):
                gradient.add_(part, alpha=share)
        return losses, gradients

    def timing(self, member: Member, *, runs_together: int) -> dict[str, float | None]:
        """Seconds of training and evaluation, which the runs of a stack spend together."""
        samples = member.steps * self.executions.batch_size
        return {
            "train_seconds": self.train_seconds,
            "eval_seconds": self.eval_seconds,
            "samples_per_second": samples / max(self.train_seconds, 1e-9),
            "runs_together": runs_together,
            **({} if self.resumed is None else {"resumed_at_step": self.resumed["steps"]}),
        }

    # -- evaluation --------------------------------------------------------------------------

    def on_validation_model_zero_grad(self) -> None:
        """Leaves gradients where they are: a captured step goes on writing to them."""

    def on_train_epoch_end(self) -> None:
        self.place(evaluated=True)  # for checkpoints, which come after

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._add(*batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._add(*batch)

    def on_validation_epoch_end(self) -> None:
        results = self._end_evaluation()
        self.validated_at = self.steps_done
        for member, (loss, accuracy) in zip(self.running, results, strict=True):
            if member.over:
                continue
            if not isfinite(loss):
                self._diverge(member, "validation loss")
                continue
            member.wait(accuracy, self.options["patience"])
            if member.recorder is not None:
                progress = self._progress(member.steps)
                member.recorder.validated(member.steps, **progress, loss=loss, accuracy=accuracy)
        if len(results) == 1:  # for the progress bar, and for callbacks that monitor a metric
            values = {"val/loss": results[0][0], "val/accuracy": results[0][1]}
            self.log_dict(values, logger=False, prog_bar=True)
        self._end_what_is_over()

    def on_test_epoch_end(self) -> None:
        results = self._end_evaluation()
        for member, (loss, accuracy) in zip(self.running, results, strict=True):
            if member.recorder is not None and not member.diverged:
                progress = self._progress(member.steps)
                member.recorder.tested(member.steps, **progress, loss=loss, accuracy=accuracy)

    def _start_evaluation(self) -> None:
        self._evaluation_started = time.perf_counter()
        self.place(evaluated=True)
        self._sums: list[Tensor] = []  # of each slice [3, K]: loss, correct answers, samples

    def _add(self, images: Tensor, labels: Tensor) -> None:
        loss, correct = self.evaluate(images, labels)
        count = torch.full_like(loss, len(labels))
        self._sums.append(torch.stack([loss, correct.to(loss.dtype), count]))

    def _end_evaluation(self) -> list[tuple[float, float]]:
        """Mean loss and accuracy of each running member, the shares of all processes together."""
        if self._sums:
            sums = torch.stack(self._sums).cpu().double().sum(0)  # not every device has float64
        else:  # more processes than slices
            sums = torch.zeros(3, len(self.running), dtype=torch.float64)
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum").cpu()
        loss, correct, count = sums
        self.eval_seconds += time.perf_counter() - self._evaluation_started
        return list(zip((loss / count).tolist(), (correct / count).tolist(), strict=True))
