"""One run alone."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from bench.data import Prepared
from bench.training.module import Member, TrainingModule
from bench.workloads import objective


class SoloModule(TrainingModule):
    """Trains ``model`` with any ``torch.optim.Optimizer``.

    With one step to an execution it goes through Lightning's own backward and optimizer wrappers
    (mixed precision with a gradient scaler and several processes need them); with more it calls
    the optimizer directly. Both give the same numbers.

    Args:
        model: images ``[B, C, H, W]`` to logits ``[B, classes]``.
        make_optimizer: from parameters to their optimizer.
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
        self.weights = list(model.parameters())
        self.make_optimizer = make_optimizer
        self._norms: Mapping[str, float] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.optimizer = self.make_optimizer(self.model.parameters())
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.members[0].lr = self.base_lrs[0]
        return self.optimizer

    def take_step(self, indices: Tensor) -> Tensor:
        train = self.data.train
        batch = (train.images, train.labels) if self.full_batch else train.batch(indices[0])
        multiplier = self.members[0].multipliers[self.steps_done]
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * multiplier
        closure = partial(self._loss_and_gradient, *batch)
        if not (self.diagnostics and self.is_logged(self.steps_done + 1)):
            return self._optimize(closure)
        before = [p.detach().clone() for p in self.weights]
        loss = self._optimize(closure)
        self._norms = self._measure_norms(before)
        return loss

    def _optimize(self, closure: Callable[[], Tensor]) -> Tensor:
        if self.executions.steps > 1:
            loss = self.optimizer.step(closure)  # type: ignore[arg-type]
            self.count_step()
        else:
            loss = self.optimizers().step(closure=closure)  # type: ignore[union-attr]
        return cast(Tensor, loss).detach().reshape(1)

    def _loss_and_gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        for p in self.weights:  # zero_grad, without what it costs
            p.grad = None
        loss = objective(self.model(images), labels, self.weights, self.workload["l2"])
        if torch.is_grad_enabled():
            if self.executions.steps > 1:
                loss.backward()
            else:
                self.manual_backward(loss)
        return loss

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
        logits = self.model(images)  # [B, classes]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        return loss.reshape(1), (logits.argmax(1) == labels).sum().reshape(1)
