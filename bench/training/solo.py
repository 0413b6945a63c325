"""One run alone."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.data import Prepared
from bench.training.module import Member, TrainingModule
from bench.training.tracing import Tracer, by_autograd
from bench.workloads import objective
from optimizers.optimizer import Optimizer


class SoloModule(TrainingModule):
    """Trains ``model`` with any ``torch.optim.Optimizer``.

    With one step to an execution it goes through Lightning's own backward and optimizer wrappers
    (mixed precision with a gradient scaler and several processes need them); with more it calls
    the optimizer itself, and one of ours without the wrapper that PyTorch puts around `step`, on
    gradients that are traced where that is faster. All ways give the same numbers.

    Args:
        model: images ``[B, C, H, W]`` to logits ``[B, classes]``.
        make_optimizer: from named parameters to their optimizer.
    """

    def __init__(
        self,
        member: Member,
        data: Prepared,
        model: nn.Module,
        make_optimizer: Callable[[Any], torch.optim.Optimizer],
    ) -> None:
        super().__init__([member], data)
        self.model = model
        self.names, self.weights = zip(*model.named_parameters(), strict=True)
        self.tracer: Tracer | None = None
        self.make_optimizer = make_optimizer
        self._norms: Mapping[str, float] = {}
        self.evaluated: bool | None = None  # whether the weights are placed so; None at the start
        decay = self.options["ema_decay"]
        self.averaged = None if decay is None else deepcopy(model).requires_grad_(False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.optimizer = self.make_optimizer(self.model.named_parameters())
        groups = self.optimizer.param_groups
        self.base_lrs = [group["lr"] for group in groups]
        self.members[0].lr = self.base_lrs[0]
        self.is_ours = isinstance(self.optimizer, Optimizer) and all(
            group["gradient"] == "autograd" for group in groups
        )
        return self.optimizer

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.executions.steps > 1 and self.trainer.precision in ("32-true", "64-true"):
            parts = [self.workload[part] for part in ("dataset", "model", "l2", "label_smoothing")]
            self.tracer = Tracer(self._losses, json.dumps(parts))
        if self.is_ours:
            self.capture_step()

    def take_step(self, indices: Tensor, step: int) -> Tensor:
        measured = self.diagnostics and self.is_logged(step + 1)
        before = [p.detach().clone() for p in self.weights] if measured else []
        loss = self._optimize(indices, step)
        if measured:
            self._norms = self._measure_norms(before)
        if self.averaged is not None:
            self._average(self.averaged, step)
        return loss

    def _average(self, averaged: nn.Module, step: int) -> None:
        """As `torch.optim.swa_utils.AveragedModel` does, which asks the device how often it did:
        from the weights after the first step on. Buffers are the model's."""
        decay = 0.0 if step == 0 else self.options["ema_decay"]
        get_ema_multi_avg_fn(decay)(list(averaged.parameters()), list(self.weights), step)
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

    def _optimize(self, indices: Tensor, step: int) -> Tensor:
        if self.executions.steps > 1 and self.is_ours:
            return super().take_step(indices, step)
        self._set_learning_rate(step)
        closure: Any = partial(self.compute, indices)
        if self.executions.steps == 1:
            return cast(Tensor, self.optimizers().step(closure=closure))  # type: ignore[union-attr]
        loss = self.optimizer.step(closure)
        self.count_step()
        return cast(Tensor, loss)

    def _set_learning_rate(self, step: int) -> None:
        multiplier = self.members[0].multipliers[step]
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * multiplier

    def compute(self, indices: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # the gradient is numeric
            loss, _ = self.mean_over_batches(indices, lambda batch: (self._loss(batch), []))
            return loss.reshape(1)
        gradients_of = self._by_lightning if self.executions.steps == 1 else self._gradients
        loss, gradients = self.mean_over_batches(indices, gradients_of)
        for p, gradient in zip(self.weights, gradients, strict=True):
            p.grad = gradient
        return loss.reshape(1)

    def _data(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        train = self.data.train
        return (train.images, train.labels) if self.full_batch else train.batch(indices[0])

    def _by_lightning(self, indices: Tensor) -> tuple[Tensor, Sequence[Any]]:
        for p in self.weights:  # zero_grad, without what it costs
            p.grad = None
        loss = self._loss(indices)
        self.manual_backward(loss)
        return loss.detach(), [p.grad for p in self.weights]

    def _gradients(self, indices: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        data = self._data(indices)
        traced = None if self.tracer is None else self.tracer.find(self.weights, *data)
        return (traced or by_autograd(self._losses))(self.weights, *data)

    def _loss(self, indices: Tensor) -> Tensor:
        images, labels = self._data(indices)
        return self._objective(self.model(images), labels, self.weights)

    def _losses(self, parameters: Sequence[Tensor], images: Tensor, labels: Tensor) -> Tensor:
        """The same as a function of the parameters."""
        named = dict(zip(self.names, parameters, strict=True))
        logits = functional_call(self.model, named, (images,))
        return self._objective(logits, labels, parameters)

    def _objective(self, logits: Tensor, labels: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        chosen = {key: self.workload[key] for key in ("l2", "label_smoothing")}
        return objective(logits, labels, parameters, **chosen)

    def prepare(self, step: int) -> None:
        self._set_learning_rate(step)
        self.optimizer.prepare()  # type: ignore[attr-defined]

    def apply_gradients(self) -> None:
        self.optimizer.apply()  # type: ignore[attr-defined]

    def advance(self, step: int) -> None:
        self._set_learning_rate(step)
        self.optimizer.step()

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

    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        model = self.model if self.averaged is None else self.averaged
        logits = model(images)  # [B, classes]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        return loss.reshape(1), (logits.argmax(1) == labels).sum().reshape(1)
