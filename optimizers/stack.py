"""K runs that differ only in numbers, trained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .eager import Eager, state_dtype
from .native import Native
from .paths import PATH, choose, clip_factor
from .rule import OPTIONS, Rule
from .rules import RULES


class Batch(NamedTuple):
    members: list[int]
    decays: bool
    path: Eager | Native


class Stack:
    """One rule over parameters `[K, ...]`; row k gives what run k alone would give.

    A hyperparameter is a number for all runs or `[K]` of them. `step` takes gradients as
    `torch.func.vmap` returns them, or reads `.grad`; its keywords change hyperparameters from now
    on, as in `stack.step(gradients, lr=base * schedule(t))`.

    In a CUDA graph: take one step as usual, capture `apply(gradients)`, and call
    `prepare(lr=...)` before each replay. `keep` ends a graph's life: capture again.
    """

    def __init__(
        self,
        rule: type[Rule] | str,
        parameters: Sequence[Tensor],
        hyperparameters: Mapping[str, Any] | None = None,
        *,
        path: str = "auto",
    ) -> None:
        self.rule = RULES[rule] if isinstance(rule, str) else rule
        self.parameters = list(parameters)
        self.runs = self.parameters[0].shape[0]
        self.steps = 0
        PATH.check("path", path)
        self.path = path
        self.declared = {**self.rule.hyperparameters, **OPTIONS}
        self.hyperparameters: dict[str, Any] = {}
        self.limits: Tensor  # of gradient norms, [K], on the device
        self._set({name: d.default for name, d in self.declared.items()})
        self._set(hyperparameters or {})
        if self.hyperparameters["gradient"] != "autograd":
            raise ValueError("a stack takes gradients that autograd has computed")
        self.variant = self._variant()
        self.slots = [
            [torch.zeros_like(p, dtype=state_dtype(p)) for _ in self.variant.slots]
            for p in self.parameters
        ]
        self._choose_paths()

    def step(self, gradients: Sequence[Tensor] | None = None, **changes: Any) -> None:
        self.prepare(**changes)
        self.apply(gradients)

    def prepare(self, **changes: Any) -> None:
        """Count a step and write its coefficients to the device."""
        self._set(changes)
        if changes.keys() - {"lr"} and self._variant() is not self.variant:
            raise ValueError(f"{', '.join(changes)}: needs state that the stack did not start with")
        self.steps += 1
        for batch in self.batches:
            h = SimpleNamespace(**self.hyperparameters)
            if not batch.decays:
                h.weight_decay = np.zeros(self.runs)
            batch.path.prepare(self.variant.all_coefficients(h, self.steps))

    @torch.no_grad()
    def apply(self, gradients: Sequence[Tensor] | None = None) -> None:
        """Take the step that was prepared; nothing here waits for the device."""
        if gradients is None:
            gradients = [cast(Tensor, p.grad) for p in self.parameters]
        if np.isfinite(self.hyperparameters["clip_norm"]).any():
            norms = torch.stack([g.reshape(self.runs, -1).norm(dim=1) for g in gradients]).norm(
                dim=0
            )  # [K]
            factor = clip_factor(norms, self.limits)
            for batch in self.batches:
                batch.path.rescale(factor)
        for batch in self.batches:
            batch.path.apply([gradients[i] for i in batch.members])

    @torch.no_grad()
    def keep(self, rows: Sequence[int] | Tensor) -> list[Tensor]:
        """Drop all other runs; returns the parameters that are left."""
        index = torch.as_tensor(rows, device=self.parameters[0].device)
        for i, p in enumerate(self.parameters):
            self.parameters[i] = p[index].requires_grad_(p.requires_grad)
            self.slots[i] = [slot[index] for slot in self.slots[i]]
        self.hyperparameters = {
            name: value[index.cpu().numpy()] if isinstance(value, np.ndarray) else value
            for name, value in self.hyperparameters.items()
        }
        self.runs = self.parameters[0].shape[0]
        self.limits = self.limits[index]
        self._choose_paths()
        return self.parameters

    def _set(self, changes: Mapping[str, Any]) -> None:
        for name, value in changes.items():
            declared = self.declared.get(name)
            if declared is None:
                raise TypeError(
                    f"{self.rule.__name__} has no {name}: it takes {', '.join(self.declared)}"
                )
            if isinstance(value, str):
                declared.check(name, value)
                if self.steps:
                    raise ValueError(f"{name} cannot change while a stack trains")
                self.hyperparameters[name] = value
                continue
            values = np.asarray(value, np.float64)
            if values.shape not in ((), (self.runs,)):
                raise ValueError(f"{name} has {values.size} values for {self.runs} runs")
            if declared.default is None:  # of clip_norm, None is no limit
                values = np.nan_to_num(values, nan=np.inf)
            bounded = values[np.isfinite(values)] if declared.default is None else values
            for extreme in (bounded.min(), bounded.max()) if bounded.size else ():
                declared.check(name, declared.kind(extreme))
            self.hyperparameters[name] = np.broadcast_to(values, self.runs)
        if "clip_norm" in changes:
            limits = torch.tensor(self.hyperparameters["clip_norm"])
            self.limits = limits.to(self.parameters[0].device)

    def _variant(self) -> type[Rule]:
        numbers = {k: v for k, v in self.hyperparameters.items() if isinstance(v, np.ndarray)}
        return self.rule.variant(SimpleNamespace(**{k: v.max() for k, v in numbers.items()}))

    def _choose_paths(self) -> None:
        everywhere = self.hyperparameters["weight_decay_on"] == "all"
        members: dict[bool, list[int]] = {}
        for i, p in enumerate(self.parameters):
            members.setdefault(everywhere or p.ndim > 2, []).append(i)
        self.batches = [
            Batch(
                indices,
                decays,
                choose(
                    self.path,
                    self.variant,
                    [self.parameters[i] for i in indices],
                    [self.slots[i] for i in indices],
                    self.runs,
                ),
            )
            for decays, indices in members.items()
        ]
