"""A rule as a `torch.optim.Optimizer`.

`step()` groups parameters into batches that take one step together, and hands each batch's
tensors and coefficients to an execution path. Nothing here knows what a rule computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from . import eager
from .rule import OPTIONS, Hyperparameter, Rule, choice

PATHS: dict[str, Hyperparameter] = {"path": choice("auto", "eager", "compiled")}


@dataclass
class Batch:
    """Parameters of one group that share rule, dtype, device and count of steps."""

    rule: type[Rule]
    group: dict[str, Any]
    parameters: list[Tensor]
    state: list[dict[str, Any]]
    decays: bool

    def coefficients(self) -> dict[str, Any]:
        """Those of the last step that was counted."""
        h = SimpleNamespace(**self.group)
        if not self.decays:
            h.weight_decay = 0.0
        return self.rule.all_coefficients(h, self.state[0]["step"])

    def count_step(self) -> None:
        step = self.state[0]["step"] + 1
        for state in self.state:
            state["step"] = step

    def slots(self) -> list[list[Tensor]]:
        return [[state[slot] for slot in self.rule.slots] for state in self.state]


class Optimizer(torch.optim.Optimizer):
    """Base of all methods; takes `(params, lr, *, <hyperparameters and options by name>)`.

    The names, their defaults and what they accept are the rule's `hyperparameters` and `OPTIONS`.
    """

    rule: ClassVar[type[Rule]]

    def __init_subclass__(cls) -> None:
        cls.__doc__ = cls.rule.__doc__

    def __init__(self, params: ParamsT, lr: float | None = None, **hyperparameters: Any) -> None:
        if lr is not None:
            hyperparameters["lr"] = lr
        declared = self.declared()
        if unknown := hyperparameters.keys() - declared.keys():
            raise TypeError(
                f"{type(self).__name__} has no {', '.join(sorted(unknown))}: "
                f"it takes {', '.join(declared)}"
            )
        super().__init__(params, {k: d.default for k, d in declared.items()} | hyperparameters)

    @classmethod
    def declared(cls) -> dict[str, Hyperparameter]:
        """Everything that a param_group may set."""
        return {**cls.rule.hyperparameters, **OPTIONS, **PATHS}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        try:
            for name, declared in self.declared().items():
                declared.check(name, self.param_groups[-1][name])
            for p in self.param_groups[-1]["params"]:
                if not p.is_floating_point():
                    raise TypeError(f"a parameter is {p.dtype}: only real floats can be optimized")
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        batches = self._batches()
        for batch in batches:
            batch.count_step()
            coefficients = batch.coefficients()
            gradients = [p.grad for p in batch.parameters if p.grad is not None]
            eager.step(batch.rule, batch.parameters, gradients, batch.slots(), coefficients)
        return loss

    @contextmanager
    def iterates(self) -> Iterator[None]:
        """Inside, parameters are the method's iterates: other points only for `Nesterov`."""
        held = [(p, p.detach().clone()) for group in self.param_groups for p in group["params"]]
        with torch.no_grad():
            for batch in self._batches():
                c = SimpleNamespace(**batch.coefficients())
                for p, slots in zip(batch.parameters, batch.slots(), strict=True):
                    p.copy_(batch.rule.iterate(p, tuple(slots), c))
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in held:
                    p.copy_(value)

    def _batches(self) -> list[Batch]:
        batches: dict[Any, Batch] = {}
        for i, group in enumerate(self.param_groups):
            rule = self.rule.variant(SimpleNamespace(**group))
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p] or self._start(p, rule)
                decays = group["weight_decay_on"] == "all" or p.ndim > 1
                key = (i, p.dtype, p.device, decays, state["step"])
                batch = batches.setdefault(key, Batch(rule, group, [], [], decays))
                batch.parameters.append(p)
                batch.state.append(state)
        return list(batches.values())

    def _start(self, p: Tensor, rule: type[Rule]) -> dict[str, Any]:
        state = self.state[p]
        state["step"] = 0
        for slot in rule.slots:
            state[slot] = torch.zeros_like(p, dtype=eager.state_dtype(p))
        return state
