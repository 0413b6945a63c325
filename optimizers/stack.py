"""K runs that differ only in numbers, trained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .checks import check_gradient, check_parameter, check_slot, new_slot
from .grouping import Path
from .layouts import Memory, conform, fit, overlapping
from .paths import PATH, choose, clip_factor
from .rule import OPTIONS, Rule
from .rules import RULES


class Batch(NamedTuple):
    members: list[int]
    decays: bool
    path: Path


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
        self.slots = [[new_slot(p) for p in self.parameters] for _ in self.variant.slots]
        self._choose_paths()

    def step(self, gradients: Sequence[Tensor] | None = None, **changes: Any) -> None:
        self.prepare(**changes)
        self.apply(gradients)

    def prepare(self, **changes: Any) -> None:
        """Count a step and write its coefficients to the device."""
        self._set(changes)
        if changes.keys() - {"lr"} and self._variant() is not self.variant:
            raise ValueError(f"{', '.join(changes)}: needs state that the stack did not start with")
        self._verify()
        self.steps += 1
        self._set_coefficients()

    @torch.no_grad()
    def apply(self, gradients: Sequence[Tensor] | None = None) -> None:
        """Take the step that was prepared; nothing here waits for the device."""
        if gradients is None:
            gradients = [cast(Tensor, p.grad) for p in self.parameters]
        self._verify()
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            check_gradient(g, p, f"parameter {i}")
        if np.isfinite(self.hyperparameters["clip_norm"]).any():
            norms = torch.stack([g.reshape(self.runs, -1).norm(dim=1) for g in gradients]).norm(
                dim=0
            )  # [K]
            factor = clip_factor(norms, self.limits)
            for batch in self.batches:
                batch.path.rescale(factor)
        for batch in self.batches:
            parameters = [self.parameters[i] for i in batch.members]
            own = conform([gradients[i] for i in batch.members], parameters)
            batch.path.locate(own)
            batch.path.apply(parameters, own, self._slots(batch.members))

    @torch.no_grad()
    def keep(self, rows: Sequence[int] | Tensor) -> list[Tensor]:
        """Drop all other runs; returns the parameters that are left."""
        index = torch.as_tensor(rows, device=self.parameters[0].device)
        for i, p in enumerate(self.parameters):
            self.parameters[i] = p[index].requires_grad_(p.requires_grad)
        self.slots = [[x[index] for x in slot] for slot in self.slots]
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

    def _slots(self, members: Sequence[int]) -> list[list[Tensor]]:
        return [[slot[i] for i in members] for slot in self.slots]

    def _verify(self) -> None:
        """Parameters and state may have been changed since the last step."""
        if not self.memory.holds([*self.parameters, *chain.from_iterable(self.slots)]):
            self._choose_paths()
            if self.steps:
                self._set_coefficients()

    def _set_coefficients(self) -> None:
        for batch in self.batches:
            h = SimpleNamespace(**self.hyperparameters)
            if not batch.decays:
                h.weight_decay = np.zeros(self.runs)
            batch.path.prepare(self.variant.all_coefficients(h, self.steps))

    def _choose_paths(self) -> None:
        everywhere = self.hyperparameters["weight_decay_on"] == "all"
        members: dict[bool, list[int]] = {}
        for i, p in enumerate(self.parameters):
            check_parameter(p, f"parameter {i}")
            for name, slot in zip(self.variant.slots, self.slots, strict=True):
                check_slot(slot[i], p, f"state {name!r} of parameter {i}")
            members.setdefault(everywhere or p.ndim > 2, []).append(i)
        tensors = [*self.parameters, *chain.from_iterable(self.slots)]
        plain = not overlapping(tensors)
        self.batches = []
        for decays, indices in members.items():
            parameters, slots = [self.parameters[i] for i in indices], self._slots(indices)
            path = self.path if plain and fit(parameters, slots) else "eager"
            chosen = choose(path, self.variant, parameters, slots, self.runs)
            self.batches.append(Batch(indices, decays, chosen))
        self.memory = Memory(tensors)
