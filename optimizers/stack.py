"""K runs that differ only in numbers, trained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .grouping import Grouping, Now, Ready, clip, gradients_of
from .paths import check_path
from .rule import OPTIONS, Rule
from .rules import RULES


class Stack:
    """One rule over parameters `[K, ...]`; row k gives what run k alone would give.

    A hyperparameter is a number for all runs or `[K]` of them. `step` takes gradients as
    `torch.func.vmap` returns them, or reads `.grad`; its keywords change hyperparameters from now
    on, as in `stack.step(gradients, lr=base * schedule(t))`. Some rules go by `names`.

    In a CUDA graph: take one step as usual, capture `apply(gradients)`, and call
    `prepare(lr=...)` before each replay. `keep` ends a graph's life: capture again.
    """

    def __init__(
        self,
        rule: type[Rule] | str,
        parameters: Sequence[Tensor],
        hyperparameters: Mapping[str, Any] | None = None,
        *,
        names: Sequence[str] | None = None,
        path: str = "auto",
    ) -> None:
        self.names = None if names is None else list(names)
        self.rule = RULES[rule] if isinstance(rule, str) else rule
        self.parameters = list(parameters)
        shapes = [list(p.shape) for p in self.parameters]
        if len({tuple(shape[:1]) for shape in shapes}) != 1 or not shapes[0]:
            raise ValueError(f"a stack's parameters are [K, ...], K the same for all, not {shapes}")
        self.runs = shapes[0][0]
        self.steps = 0
        check_path(path, self.rule)
        self.declared = {**self.rule.hyperparameters, **OPTIONS}
        self.hyperparameters: dict[str, Any] = {}
        self.h = SimpleNamespace()  # the same, limits of norms where they are used: on the device
        self.structure = SimpleNamespace(path=path)  # the largest number of each
        self._set({name: d.default for name, d in self.declared.items()})
        self._set(hyperparameters or {})
        if self.hyperparameters["gradient"] != "autograd":
            raise ValueError("a stack takes gradients that autograd has computed")
        self.slots = self.rule.variant(self.structure).slots
        self._start([{} for _ in self.parameters])

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor] | None = None, **changes: Any) -> None:
        self._change(changes)
        given = self._given(gradients)
        ready = self._ready(given)
        self._count(ready)
        self._take(ready, given)

    def prepare(self, **changes: Any) -> None:
        """Count a step and write its coefficients to the device."""
        self._change(changes)
        self._count(self._ready(None))

    @torch.no_grad()
    def apply(self, gradients: Sequence[Tensor] | None = None) -> None:
        """Take the step that was prepared; nothing here waits for the device."""
        given = self._given(gradients)
        self._take(self._ready(given), given)

    @torch.no_grad()
    def keep(self, rows: Sequence[int] | Tensor) -> list[Tensor]:
        """Drop all other runs; returns the parameters that are left."""
        index = torch.as_tensor(rows, device=self.parameters[0].device)
        states = [
            {k: x[index] if isinstance(x, Tensor) else x for k, x in self.state[p].items()}
            for p in self.parameters
        ]
        self.parameters = [p[index].requires_grad_(p.requires_grad) for p in self.parameters]
        self.runs = self.parameters[0].shape[0]
        for name, value in self.hyperparameters.items():
            if isinstance(value, np.ndarray):
                self._write(name, value[index.cpu().numpy()])
        self._start(states)
        return self.parameters

    def state_dict(self) -> dict[str, Any]:
        """All but the parameters: plain numbers, words and tensors, which are not copied."""
        return {
            "steps": self.steps,
            "hyperparameters": {
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in self.hyperparameters.items()
            },
            "structure": {
                name: float(value) if isinstance(value, np.floating) else value
                for name, value in vars(self.structure).items()
            },
            "state": [dict(self.state[p]) for p in self.parameters],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave of a stack of the same rule with these parameters."""
        self.steps = saved["steps"]
        for name, value in saved["hyperparameters"].items():
            self._write(name, np.array(value, np.float64) if isinstance(value, list) else value)
        for name, value in saved["structure"].items():
            setattr(self.structure, name, np.float64(value) if isinstance(value, float) else value)
        self.slots = self.rule.variant(self.structure).slots
        device = self.parameters[0].device
        self._start(
            [
                {k: x.to(device).clone() if isinstance(x, Tensor) else x for k, x in entry.items()}
                for entry in saved["state"]
            ]
        )

    def _start(self, states: Sequence[dict[str, Any]]) -> None:
        """With these parameters, and nothing kept from earlier steps."""
        self.state = dict(zip(self.parameters, states, strict=True))
        self._grouping = Grouping(self.rule, self.runs)
        self._ready(None)

    def _ready(self, gradients: Sequence[Tensor | None] | None) -> list[Ready]:
        parameters, h, structure = self.parameters, [self.h], [self.structure]
        groups = [{"params": parameters, "param_names": self.names}]
        now = Now(groups, parameters, self.state, h, structure, gradients)
        return self._grouping.ready(now)

    def _given(self, gradients: Sequence[Tensor] | None) -> list[Tensor]:
        given = gradients_of(self.parameters) if gradients is None else list(gradients)
        if len(given) != len(self.parameters) or any(g is None for g in given):
            raise ValueError(
                f"{sum(g is not None for g in given)} gradients for {len(self.parameters)} "
                "parameters: a stack needs that of each"
            )
        return cast(list[Tensor], given)

    def _count(self, ready: Sequence[Ready]) -> None:
        self.steps += 1
        for batch in ready:
            batch.prepare()

    def _take(self, ready: Sequence[Ready], gradients: Sequence[Tensor]) -> None:
        if self.h.clip_norm is not None:
            clip(ready, gradients, self.runs)
        for batch in ready:
            batch.apply()

    def _change(self, changes: Mapping[str, Any]) -> None:
        self._set(changes)
        if changes.keys() - {"lr"} and self.rule.variant(self.structure).slots != self.slots:
            raise ValueError(f"{', '.join(changes)}: needs state that the stack did not start with")

    def _set(self, changes: Mapping[str, Any]) -> None:
        for name, value in changes.items():
            if np.array_equal(value, self.hyperparameters.get(name, self)):
                continue
            declared = self.declared.get(name)
            if declared is None:
                raise TypeError(
                    f"{self.rule.__name__} has no {name}: it takes {', '.join(self.declared)}"
                )
            if isinstance(value, str) or declared.kind is str:
                declared.check(name, value)
                if self.steps:
                    raise ValueError(f"{name} cannot change while a stack trains")
                self._write(name, value)
                setattr(self.structure, name, value)
                continue
            values = np.asarray(value, np.float64)
            if values.shape not in ((), (self.runs,)):
                raise ValueError(f"{name} has {values.size} values for {self.runs} runs")
            if declared.default is None:  # of clip_norm, None is no limit
                values = np.nan_to_num(values, nan=np.inf)
            bounded = values[np.isfinite(values)] if declared.default is None else values
            if bounded.size:
                extremes = [float(bounded.min()), float(bounded.max())]
                for one in extremes if declared.kind is float else set(bounded.ravel().tolist()):
                    truth = declared.kind is bool and one in (0, 1)
                    declared.check(name, bool(one) if truth else one)
                setattr(self.structure, name, bounded.max())
            self._write(name, np.broadcast_to(values, self.runs))

    def _write(self, name: str, value: Any) -> None:
        self.hyperparameters[name] = value
        if name == "clip_norm":
            limits = torch.tensor(value).to(self.parameters[0].device)
            value = limits if np.isfinite(value).any() else None
        setattr(self.h, name, value)
