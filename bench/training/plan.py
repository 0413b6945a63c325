"""How a training goes through its examples: everything that is known before it starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bench.data.tensors import Sampling
from bench.settings.measured import curvature_steps
from bench.settings.schema import evaluation_steps, steps_per_epoch, total_steps
from bench.training.executions import DEFAULT_STEPS, Executions
from bench.workloads.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    Attributes:
        steps_per_epoch, total_steps: optimizer steps; the latter if nothing ends the run early.
        per_execution: of them, how many Lightning takes for one, at most.
        curved: after which steps its curvature is measured.
        evaluations: after which steps a run is validated, if ``trainer.evaluations`` says it.
        validate_every: steps, counted from the start of each epoch, if it does not.
        samples: examples a step, over all processes.
        full_batch: whether a step sees all examples, in their order.
        by_lightning: whether each step must go through Lightning's own wrappers.
        processes: that share each batch.
        reason: why Lightning takes each step, if nobody asked for that.
    """

    steps_per_epoch: int
    total_steps: int
    per_execution: int
    evaluations: frozenset[int]
    curved: frozenset[int]
    validate_every: int | None
    samples: int
    full_batch: bool
    by_lightning: bool
    processes: int
    max_steps: int | None
    reason: str | None
    make_executions: Callable[..., Executions]

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        workload: Workload,
        *,
        seeds: Sequence[int],
        processes: int = 1,
        acting_on_steps: Sequence[str] = (),
    ) -> Plan:
        """
        Args:
            config: of the run, or of one of those in a stack.
            acting_on_steps: the names of callbacks for which each step is Lightning's.
        """
        options = config["trainer"]
        size, full = workload.train_size, workload.batch_size == "full"
        requested, reason = options["steps_per_execution"], None
        if processes > 1 or options["precision"] == "16-mixed":
            requested = 1
        elif requested == "auto" and acting_on_steps:
            requested, reason = 1, f"steps are taken one by one, for {', '.join(acting_on_steps)}"
        per_execution = DEFAULT_STEPS if requested == "auto" else int(requested)
        epoch, chosen = steps_per_epoch(config), evaluation_steps(config)
        every = None if chosen else options["val_check_interval"] or epoch
        ends_in: dict[int, list[int]] = {}
        for step in chosen or ():
            ends_in.setdefault((step - 1) // epoch, []).append((step - 1) % epoch + 1)

        def make_executions(steps_left: Callable[[], int | None], rank: int) -> Executions:
            return Executions(
                size,
                batch_size=size if full else int(workload.batch_size),
                accumulate=options["accumulate_grad_batches"],
                sampling="sequential" if full else cast(Sampling, workload.sampling),
                drop_last=workload.drop_last,
                seeds=sorted(set(seeds)),
                steps=per_execution,
                steps_left=steps_left,
                ends=range(every, epoch, every) if every else (),
                ends_in=ends_in,
                rank=rank,
                world_size=processes,
            )

        usual = make_executions(lambda: None, 0)
        return cls(
            steps_per_epoch=usual.steps_per_epoch,
            total_steps=total_steps(config),
            per_execution=per_execution,
            evaluations=frozenset(chosen or ()),
            curved=frozenset(curvature_steps(config)),
            validate_every=every,
            samples=usual.batch_size,
            full_batch=full,
            by_lightning=per_execution == 1,
            processes=processes,
            max_steps=None if options["max_steps"] == -1 else options["max_steps"],
            reason=reason,
            make_executions=make_executions,
        )

    def executions(self, steps_done: Callable[[], int], *, rank: int) -> Executions:
        """The batches, for the process of this rank."""

        def left() -> int | None:
            return None if self.max_steps is None else self.max_steps - steps_done()

        return self.make_executions(left, rank)

    def validates_after(self, steps: int) -> bool:
        """Whether a validation is due once so many steps were taken: at some that were chosen, or
        every so many from the start of each epoch; at its end if nothing else is said."""
        if self.validate_every is None:
            return steps in self.evaluations
        return ((steps - 1) % self.steps_per_epoch + 1) % self.validate_every == 0
