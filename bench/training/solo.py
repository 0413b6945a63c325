"""One run alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.kernels import crew
from bench.kernels.crew import Crew
from bench.training import dense, lightning
from bench.training.ahead import Ahead, split_of
from bench.training.module import Member, TrainingModule
from bench.training.plan import Plan
from bench.training.step import Step, mean_over_batches, penalised
from bench.training.tracing import Tracer, by_autograd, has_buffers
from bench.workloads.workload import Batch, Workload
from optimizers.optimizer import Optimizer


class SoloModule(TrainingModule):
    """Trains ``model`` with any ``torch.optim.Optimizer``.

    With one step to an execution it goes through Lightning's own backward and optimizer wrappers
    (mixed precision with a gradient scaler and several processes need them); with more it calls
    the optimizer itself, and one of ours without the wrapper that PyTorch puts around `step`, on
    gradients that are traced where that is faster. All ways give the same numbers.

    Args:
        model: the workload's.
        make_optimizer: from parameters, with their names, to their optimizer.
    """

    def __init__(
        self,
        member: Member,
        workload: Workload,
        plan: Plan,
        model: nn.Module,
        make_optimizer: Callable[[Any], torch.optim.Optimizer],
    ) -> None:
        super().__init__([member], workload, plan)
        self.model = model
        self.weights = list(model.parameters())
        self.make_optimizer = make_optimizer
        self._norms: Mapping[str, float] = {}
        decay = self.options["ema_decay"]
        self.averaged = None if decay is None else deepcopy(model).requires_grad_(False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.optimizer = self.make_optimizer(self.model.named_parameters())
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.members[0].lr = self.base_lrs[0]
        return self.optimizer

    def checkpoint(self) -> dict[str, Any]:
        return lightning.checkpoint(self.trainer)

    def on_train_end(self) -> None:
        if self.checkpoints is not None and self.checkpoints.path is not None:
            self.checkpoints.write(self)

    def make_step(self) -> Step:
        ours = isinstance(self.optimizer, Optimizer) and all(
            group["gradient"] == "autograd" for group in self.optimizer.param_groups
        )
        kind = ByLightning if self.plan.by_lightning else Direct if ours else ByClosure
        return kind(self)

    def take_step(self, indices: Tensor, step: int) -> Tensor:
        measured = self.diagnostics and self.is_logged(step + 1)
        before = [p.detach().clone() for p in self.weights] if measured else []
        losses = self.step.take(indices, step)
        if measured:
            self._norms = self._measure_norms(before)
        if self.averaged is not None:
            self._average(self.averaged, step)
        return losses

    def set_learning_rate(self, step: int) -> None:
        multiplier = self.members[0].multipliers[step]
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * multiplier

    def weights_now(self) -> Iterator[tuple[Member, Sequence[Tensor]]]:
        yield self.members[0], self.weights

    def whereabouts(self) -> Tensor:
        return self._at.reshape(1, -1)

    @cached_property
    def _at(self) -> Tensor:
        return self.model.get_parameter(self.workload.way)

    def norms(self) -> Mapping[str, float]:
        return self._norms

    def _measure_norms(self, before: Sequence[Tensor]) -> dict[str, float]:
        """Euclidean norms over all parameters: of the gradient, and of what the step changed."""
        gradients = [p.grad for p in self.weights if p.grad is not None]
        changes = [p.detach() - old for p, old in zip(self.weights, before, strict=True)]
        return {
            "grad_norm": float(get_total_norm(gradients)),
            "update_norm": float(get_total_norm(changes)),
        }

    def _average(self, averaged: nn.Module, step: int) -> None:
        """As `torch.optim.swa_utils.AveragedModel` does, which asks the device how often it did:
        from the weights after the first step on. Buffers are the model's."""
        decay = 0.0 if step == 0 else self.options["ema_decay"]
        get_ema_multi_avg_fn(decay)(list(averaged.parameters()), self.weights, step)
        for own, current in zip(averaged.buffers(), self.model.buffers(), strict=True):
            own.copy_(current)

    def place(self, *, evaluated: bool) -> None:
        """By `train` and `eval` of an optimizer that has both, as schedule-free methods do: their
        gradients are taken at other points than those that they answer with."""
        if self.evaluated is evaluated:
            return
        self.evaluated = evaluated
        train, evaluate = (getattr(self.optimizer, name, None) for name in ("train", "eval"))
        if callable(train) and callable(evaluate):
            with torch.inference_mode(False), torch.no_grad():
                (evaluate if evaluated else train)()

    def answering(self) -> nn.Module:
        """The model that is evaluated."""
        return self.model if self.averaged is None else self.averaged

    def sums(self, batch: Batch) -> Mapping[str, Tensor]:
        output = self.workload.call(self.answering(), batch)
        sums = self.workload.sums(output, batch)
        return {name: value.reshape(1) for name, value in sums.items()}

    def trained_models(self) -> Iterator[tuple[Member, nn.Module]]:
        if not self.members[0].diverged:
            yield self.members[0], self.answering()


class SoloStep(Step):
    """What the ways of taking a step share: where the gradients come from."""

    def __init__(self, module: SoloModule) -> None:
        self.module = module
        self.workload, self.model = module.workload, module.model
        self.optimizer = module.optimizer
        self.names, self.weights = zip(*module.model.named_parameters(), strict=True)
        self.tracer: Tracer | None = None
        self.listed = False  # whether the last gradients came from a list of operators
        exact = module.trainer.precision in ("32-true", "64-true")
        if exact and not module.plan.by_lightning and not has_buffers(module.model):
            self.tracer = self.make_tracer()

    def make_tracer(self) -> Tracer:
        return Tracer(self.losses, self.workload)

    def compute(self, indices: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # the gradient is numeric
            return self._mean(indices, lambda batch: (self.loss(batch), []))[0].reshape(1)
        losses, gradients = self._mean(indices, self.gradients)
        for p, gradient in zip(self.weights, gradients, strict=True):
            p.grad = gradient
        return losses.reshape(1)

    def _mean(self, indices: Tensor, gradients_of: Callable[..., Any]) -> Any:
        return mean_over_batches(self.module.executions, indices, gradients_of)

    def batch(self, indices: Tensor) -> Batch:
        return self.workload.batch(slice(None) if self.module.plan.full_batch else indices[0])

    def gradients(self, indices: Tensor) -> tuple[Tensor, Sequence[Any]]:
        batch = self.batch(indices)
        traced = None if self.tracer is None else self.tracer.find(self.weights, batch)
        self.listed = traced is not None
        return (traced or by_autograd(self.losses))(self.weights, batch)

    def loss(self, indices: Tensor) -> Tensor:
        return self.loss_and_output(indices)[0]

    def loss_and_output(self, indices: Tensor) -> tuple[Tensor, Any]:
        batch = self.batch(indices)
        output = self.workload.call(self.model, batch)
        objective = self.workload.objective(output, batch)
        return penalised(objective, self.weights, self.workload.l2), output

    def closure(self, indices: Tensor) -> Callable[[], Any]:
        """What an optimizer is handed: the loss, with gradients where they are wanted. One that
        differentiates itself says what it `wants`, the ``loss`` or its ``output``, too, with their
        graph; it takes all samples of a step at once."""
        wanted = {"loss": self.loss, "output": self.loss_and_output}
        wants = getattr(self.optimizer, "wants", "gradients")
        return partial(wanted.get(wants, self.compute), indices)

    def losses(self, parameters: Sequence[Tensor], batch: Batch) -> Tensor:
        """The same as a function of the parameters."""
        named = dict(zip(self.names, parameters, strict=True))
        output = self.workload.call(lambda *x: functional_call(self.model, named, x), batch)
        return penalised(self.workload.objective(output, batch), parameters, self.workload.l2)


class Direct(SoloStep):
    """One of our optimizers, without PyTorch's wrapper around `step`."""

    optimizer: Optimizer

    def __init__(self, module: SoloModule) -> None:
        super().__init__(module)
        split = None if module.plan.full_batch else split_of(self.workload)
        self.ahead = None if self.crew is None or split is None else Ahead(split, self.crew)

    @cached_property
    def crew(self) -> Crew | None:
        return Crew(1) if self.module.spare_core and crew.kernel() is not None else None

    def expect(self, indices: Sequence[Tensor]) -> None:
        if self.ahead is not None:
            self.ahead.reuses = self.listed  # nobody else has seen batches who could keep them
            self.ahead.expect(indices)
        self.in_a_row: Callable[[], None] | None = None

    def batch(self, indices: Tensor) -> Batch:
        return super().batch(indices) if self.ahead is None else self.ahead.take(indices)

    def make_tracer(self) -> Tracer:
        """Ours keep no gradient beyond a step."""
        kernel = partial(dense.in_place_of, self.workload, self.model, self.crew)
        return Tracer(self.losses, self.workload, "solo, ours", faster=kernel)

    def prepare(self, step: int) -> None:
        self.module.set_learning_rate(step)
        self.optimizer.prepare()

    def apply(self) -> None:
        self.optimizer.apply()

    def take(self, indices: Tensor, step: int) -> Tensor:
        losses = self.compute(indices)
        self.module.set_learning_rate(step)
        if self.listed:  # then nobody's code runs between steps
            self.in_a_row = self.in_a_row or self.optimizer.in_a_row(
                None if self.crew is None else self.crew.do
            )
            self.in_a_row()
        else:
            self.in_a_row = None
            self.optimizer.step()
        return losses


class ByClosure(SoloStep):
    """Any optimizer, which is handed the loss as a function, to call as often as it likes."""

    capturable = False

    def take(self, indices: Tensor, step: int) -> Tensor:
        self.module.set_learning_rate(step)
        closure: Any = self.closure(indices)
        return cast(Tensor, self.optimizer.step(closure)).reshape(1)


class ByLightning(SoloStep):
    """Lightning's wrappers around backward and the optimizer's step."""

    counted = True
    capturable = False

    def take(self, indices: Tensor, step: int) -> Tensor:
        self.module.set_learning_rate(step)
        closure: Any = self.closure(indices)
        loss = self.module.optimizers().step(closure=closure)  # type: ignore[union-attr]
        return cast(Tensor, loss).reshape(1)

    def gradients(self, indices: Tensor) -> tuple[Tensor, Sequence[Any]]:
        for p in self.weights:  # zero_grad, without what it costs
            p.grad = None
        loss = self.loss(indices)
        self.module.manual_backward(loss)
        return loss.detach(), [p.grad for p in self.weights]
