"""What every training shares: the loop over steps, evaluation, and reporting."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from bench import interruption
from bench.training import lightning, resumption
from bench.training.evaluation import Evaluation, Slices
from bench.training.executions import Executions
from bench.training.plan import Plan
from bench.training.recorder import Recorder
from bench.training.step import Captured, Step
from bench.training.ways import Way, is_kept
from bench.workloads.workload import Batch, Workload


@dataclass
class Member:
    """One run of a training: what is its own while it trains with K - 1 others (K is often 1).

    Attributes:
        config: its configuration.
        recorder: is told what happens; None where nothing is to be recorded.
        multipliers: of the learning rate, one a step.
        lr: the learning rate before its schedule.
        steps: optimizer steps that count; those after the run is over do not.
        loss, averaged: the mean loss of the steps since the last one that was logged, and how many
            those are. Steps weigh the same, whatever the size of their batches.
        diverged: its loss is not finite.
        stopped: its metric was not better than before for ``trainer.patience`` validations.
        best: the best value of the metric so far, times its sign, so that more is better.
        waited: validations since then.
        way: where it has been, of a workload that has one to keep.
        dropped: a sweep goes on without it.
    """

    config: Mapping[str, Any]
    recorder: Recorder | None
    multipliers: Sequence[float]
    lr: float = nan
    steps: int = 0
    loss: float = 0.0
    averaged: int = 0
    diverged: bool = False
    stopped: bool = False
    best: float = -inf
    waited: int = 0
    way: Way | None = None
    dropped: bool = False

    @property
    def over(self) -> bool:
        return self.diverged or self.stopped or self.dropped

    def count(self, loss: float) -> None:
        """Takes a step's loss into the mean."""
        self.averaged += 1
        self.loss += (loss - self.loss) / self.averaged

    def logged(self) -> float:
        """The mean loss, which starts anew."""
        loss, self.loss, self.averaged = self.loss, 0.0, 0
        return loss

    def wait(self, value: float, patience: int | None) -> None:
        """Stops the run if it has waited long enough for a better ``value``; more is better."""
        if value > self.best:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
            self.stopped = self.waited == patience


class TrainingModule(pl.LightningModule):
    """Trains K runs by manual optimization, several optimizer steps in one ``training_step``.

    A subclass says how one step and one evaluation are made, `make_step` and `sums`, and which
    members are still in it. All members have the same Trainer, and data and model of one shape.

    Args:
        members: the runs.
        workload: theirs, with its data on the device this module trains on.
        plan: how they go through it.

    Attributes:
        runs, made, environment: what a checkpoint is recognised by, as `Run` has it.
        checkpoints: when there is one; None where several processes would have to agree.
        spare_core: whether training leaves one that this process may use.
        evaluated: whether the weights are placed so; None at the start.
        resumed_at: the steps of the shorter run that this one went on from.
        interruptions: how often it went on by itself.
        model: that of a member; only its buffers are used where weights are given.
        resumed: where random numbers go on, until they do.
    """

    automatic_optimization: bool
    model: nn.Module

    def __init__(self, members: Sequence[Member], workload: Workload, plan: Plan) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.members = list(members)
        self.workload = workload
        self.plan = plan
        self.options: Mapping[str, Any] = members[0].config["trainer"]
        self.diagnostics: bool = members[0].config["diagnostics"]
        self.evaluation = Evaluation(workload)
        self.evaluation_batch = workload.evaluation_batch
        self.train_seconds = 0.0
        self.steps_done = 0
        self.validated_at: int | None = None
        self.runs: list[str] = []
        self.made: list[bool] = []
        self.environment: Mapping[str, Any] = {}
        self.checkpoints: resumption.Checkpoints | None = None
        self.spare_core = False
        self.evaluated: bool | None = None
        self.resumed_at: int | None = None
        self.interruptions = 0
        self.resumed: Mapping[str, Any] | None = None
        self.keeps_way = False

    # -- what a subclass says ----------------------------------------------------------------

    def make_step(self) -> Step:
        """How steps are taken from here on."""
        raise NotImplementedError

    def sums(self, batch: Batch) -> Mapping[str, Tensor]:
        """What `Workload.sums` gives for each running member, each [K]."""
        raise NotImplementedError

    @property
    def running(self) -> list[Member]:
        """The K members that steps and `sums` answer for, in their order."""
        return self.members

    def leave(self) -> None:
        """Some members are over."""

    def weights_now(self) -> Iterator[tuple[Member, Sequence[Tensor]]]:
        """Each running member, with the weights that its next gradient is taken at."""
        raise NotImplementedError

    def norms(self) -> Mapping[str, float]:
        """Gradient and update norms of the last step, if they were asked for."""
        return {}

    def place(self, *, evaluated: bool) -> None:
        """Puts the weights where they are evaluated, or where they are trained."""

    def whereabouts(self) -> Tensor:
        """The parameter that the workload's `way` names, for each running member, [K, d]."""
        raise NotImplementedError

    # -- set-up ------------------------------------------------------------------------------

    def train_dataloader(self) -> Executions:
        executions = self.plan.executions(lambda: self.steps_done, rank=self.global_rank)
        if self.steps_done:
            epochs, executions.taken = divmod(self.steps_done, self.plan.steps_per_epoch)
            lightning.go_on(self.trainer, epochs=epochs, steps=self.steps_done)
        self.executions = executions
        return executions

    def val_dataloader(self) -> Slices | list[Any]:
        return self._slices("val") if self.workload.validates else []

    def test_dataloader(self) -> Slices:
        return self._slices("test")

    def _slices(self, split: str) -> Slices:
        return Slices(
            self.workload,
            split,
            self.evaluation_batch,
            rank=self.global_rank,
            processes=self.plan.processes,
        )

    # -- checkpoints -------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if len(self.members) == 1:
            checkpoint[resumption.KEY] = resumption.state(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint[resumption.KEY]
        resumption.adopt(self, saved)
        same_run = resumption.is_of(self.runs, saved)
        lightning.leave_to_us(self.trainer, checkpoint, same_run=same_run)

    def checkpoint(self) -> dict[str, Any]:
        """All that it takes to go on from here."""
        raise NotImplementedError

    def on_train_start(self) -> None:
        if self.resumed is not None:
            resumption.set_random_state(self.resumed, self.device)
        self.choose_step()
        if self.workload.way:
            self._keep_ways(self.whereabouts())

    def _keep_ways(self, starts: Tensor) -> None:
        self.keeps_way = is_kept(starts.shape[1], self.plan.total_steps)
        for member, start in zip(self.running, starts, strict=True):
            if not self.steps_done or not self.keeps_way:
                member.way = Way.of(start) if self.keeps_way else None

    def choose_step(self) -> None:
        """Once, and again for a stack that has shrunk."""
        step = self.make_step()
        self.step = Captured(step) if self.can_capture(step) else step

    def can_capture(self, step: Step) -> bool:
        """Whether each step launches the same kernels, and the host adds only coefficients."""
        return (
            step.capturable
            and self.device.type == "cuda"
            and self.options["cuda_graph"] == "auto"
            and not self.plan.by_lightning
            and not self.diagnostics  # which read the gradients of every step
            and not self.trainer.precision.endswith("-mixed")  # casts are made as they are needed
            and self.workload.stacks() is None  # what is random draws other numbers in a graph
        )

    # -- training ----------------------------------------------------------------------------

    def training_step(self, batches: list[Tensor], batch_idx: int) -> None:
        if self.resumed is not None and self.interruptions:
            resumption.set_random_state(self.resumed, self.device)  # it was saved here
        self.resumed = None
        if self.checkpoints is not None:
            self.checkpoints.pass_by(self)
        started = time.perf_counter()
        self.place(evaluated=False)
        first, members, values, norms = self.steps_done, self.running, [], []
        been: list[Tensor] = []
        self.step.expect(batches)
        for step, indices in enumerate(batches, first):
            values.append(self.take_step(indices, step))
            norms.append(self.norms())
            if self.keeps_way:
                been.append(self.whereabouts().detach().clone())
            if self.checkpoints is not None and interruption.asked() is not None:
                break
        self.steps_done += len(values)
        if not self.step.counted:
            lightning.count_steps(self.trainer, len(values))
        lightning.name_step(self.trainer, self.steps_done)
        losses = self._mean_over_processes(torch.stack(values)).tolist()  # [S, K], waits for all
        self.train_seconds += time.perf_counter() - started
        ways = torch.stack(been, 1).cpu() if been else [None] * len(members)  # [K, S, d]
        for member, own, way in zip(members, zip(*losses, strict=True), ways, strict=True):
            if not member.over:
                self._follow(member, first, own, norms)
                if member.way is not None and way is not None:
                    member.way.go(way[: member.steps - first])
        self._end_what_is_over()
        if self.steps_done in self.plan.curved:
            self._measure_curvature()
        due = self.plan.validates_after(self.steps_done)
        lightning.validate_after_this(self.trainer, due)
        if len(values) < len(batches) and not self.trainer.should_stop:
            assert self.checkpoints is not None
            self.checkpoints.pass_by(self)  # the steps left out come when the run goes on

    def _measure_curvature(self) -> None:
        from bench.training.curvature import measure  # with what few runs need

        started = time.perf_counter()
        for member, weights in self.weights_now():
            if member.recorder is not None and not member.over:
                values = measure(self.workload, self.model, weights, seed=member.config["seed"])
                member.recorder.curved(member.steps, values, **self._progress(member.steps))
        self.evaluation.seconds += time.perf_counter() - started

    def take_step(self, indices: Tensor, step: int) -> Tensor:
        """One optimizer step after ``step`` others; returns the losses before it, [K], detached."""
        return self.step.take(indices, step)

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
            member.count(loss)
            if self.is_logged(step):
                mean, lr = member.logged(), member.lr * member.multipliers[step - 1]
                if member.recorder is not None:
                    progress = self._progress(step)
                    member.recorder.trained(step, **progress, loss=mean, lr=lr, **measured)

    def is_logged(self, step: int) -> bool:
        often = step == 1 or step % self.options["log_every_n_steps"] == 0
        return often or step in self.plan.evaluations

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
        return {"epoch": step / self.plan.steps_per_epoch, "seconds": self.train_seconds}

    def timing(self, member: Member, *, runs_together: int) -> dict[str, float | None]:
        """Seconds of training and evaluation, which the runs of a stack spend together."""
        samples = member.steps * self.plan.samples
        return {
            "train_seconds": self.train_seconds,
            "eval_seconds": self.evaluation.seconds,
            "samples_per_second": samples / max(self.train_seconds, 1e-9),
            "runs_together": runs_together,
            **({} if self.resumed_at is None else {"resumed_at_step": self.resumed_at}),
            **({"interruptions": self.interruptions} if self.interruptions else {}),
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

    def _start_evaluation(self) -> None:
        self.evaluation.start()
        self.place(evaluated=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluation.add(self.sums(batch))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluation.add(self.sums(batch))

    def on_validation_epoch_end(self) -> None:
        results = self.evaluation.end(self.trainer)
        self.validated_at = self.steps_done
        metric = self.workload.metric
        for member, values in zip(self.running, results, strict=True):
            if member.over:
                continue
            if wrong := [name for name in ("loss", metric.name) if not isfinite(values[name])]:
                self._diverge(member, f"validation {wrong[0]}")
                continue
            member.wait(metric.sign * values[metric.name], self.options["patience"])
            if member.recorder is not None:
                member.recorder.validated(member.steps, values, **self._progress(member.steps))
        if len(results) == 1:  # for the progress bar, and for callbacks that monitor a metric
            named = {f"val/{name}": value for name, value in results[0].items()}
            self.log_dict(named, logger=False, prog_bar=True)
        self._end_what_is_over()

    def on_test_epoch_end(self) -> None:
        results = self.evaluation.end(self.trainer)
        for member, values in zip(self.running, results, strict=True):
            if member.recorder is not None and not member.diverged:
                member.recorder.tested(member.steps, values, **self._progress(member.steps))

    def trained_models(self) -> Iterator[tuple[Member, nn.Module]]:
        """Each run that was tested, with its model as it was scored. One at a time: a model may
        be the same object as the last one."""
        raise NotImplementedError

    def remark(self) -> None:
        """Records what only the workload can say of the trained models."""
        if type(self.workload).remarks is Workload.remarks:
            return
        for member, model in self.trained_models():
            with torch.no_grad():
                values = self.workload.remarks(model.eval())
            if member.recorder is not None:
                member.recorder.remarked(member.steps, values, **self._progress(member.steps))
