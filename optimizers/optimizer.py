"""A rule as a `torch.optim.Optimizer`.

`step()` groups parameters into batches that take one step together, and hands each batch's
tensors and coefficients to a path. Nothing here knows what a rule computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.optimizer import ParamsT

from .eager import state_dtype
from .interop import from_torch, is_from_torch
from .numeric import numeric_gradients
from .paths import PATH, choose, clip_factor
from .rule import OPTIONS, Hyperparameter, Rule


class Batch:
    """Parameters of one group that share rule, dtype, device and count of steps."""

    def __init__(self, rule: type[Rule], group: dict[str, Any], decays: bool) -> None:
        self.rule, self.group, self.decays = rule, group, decays
        self.parameters: list[Tensor] = []
        self.states: list[dict[str, Any]] = []
        self.path: Any = None

    def seal(self) -> Batch:
        self.path = choose(self.group["path"], self.rule, self.parameters, self.slots)
        return self

    @property
    def slots(self) -> list[list[Tensor]]:
        return [[state[slot] for slot in self.rule.slots] for state in self.states]

    def coefficients(self) -> dict[str, Any]:
        """Those of the last step that was counted."""
        h = SimpleNamespace(**self.group)
        if not self.decays:
            h.weight_decay = 0.0
        return self.rule.all_coefficients(h, self.states[0]["step"])

    def prepare(self) -> None:
        step = self.states[0]["step"] + 1
        for state in self.states:
            state["step"] = step
        self.path.prepare(self.coefficients())


class Optimizer(torch.optim.Optimizer):
    """Base of all methods; takes `(params, lr, *, <hyperparameters and options by name>)`.

    Their defaults and what they accept are the rule's `hyperparameters`, `OPTIONS` and `PATH`.
    With `gradient="numeric"`, the closure is called with autograd off, and must leave `backward`
    alone then.

    In a CUDA graph: take one step as usual, capture `step()` (only its kernels are recorded), and
    call `prepare()` before each replay: it counts the step and writes its coefficients to the
    device, so that schedules and bias corrections go on.
    """

    rule: ClassVar[type[Rule]]

    def __init_subclass__(cls) -> None:
        cls.__doc__ = cls.__doc__ or cls.rule.__doc__

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

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._key: list[int] | None = None

    @classmethod
    def declared(cls) -> dict[str, Hyperparameter]:
        """Everything that a param_group may set."""
        return {**cls.rule.hyperparameters, **OPTIONS, "path": PATH}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self._key = None
        group = self.param_groups[-1]
        try:
            for name, declared in self.declared().items():
                declared.check(name, group[name])
            for p in group["params"]:
                if not p.is_floating_point():
                    raise TypeError(f"a parameter is {p.dtype}: only real floats can be optimized")
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None and any(g["gradient"] == "numeric" for g in self.param_groups):
            raise ValueError("gradient='numeric' needs a closure that returns the loss")
        loss = None if closure is None else self._evaluate(closure)
        batches = self._batches()
        if not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
            for batch in batches:
                batch.prepare()
        gradients = [[cast(Tensor, p.grad) for p in batch.parameters] for batch in batches]
        if any(group["clip_norm"] for group in self.param_groups):
            self._clip(batches, gradients)
        for batch, gradient in zip(batches, gradients, strict=True):
            batch.path.apply(gradient)
        return loss

    def prepare(self) -> None:
        """Count the step that a replay of a captured graph is about to take."""
        for batch in self._batches():
            batch.prepare()

    @contextmanager
    def iterates(self) -> Iterator[None]:
        """Inside, parameters are the method's iterates: other points only for `Nesterov`."""
        with torch.no_grad():
            held = [
                (p, p.clone())
                for group in self.param_groups
                for p in group["params"]
                if p in self.state
            ]
            for batch in self._group([p for p, _ in held]):
                c = SimpleNamespace(**batch.coefficients())
                for p, slots in zip(batch.parameters, batch.slots, strict=True):
                    p.copy_(batch.rule.iterate(p, tuple(slots), c))
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in held:
                    p.copy_(value)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Also takes the state dict of PyTorch's optimizer of the same method."""
        if is_from_torch(state_dict):
            state_dict = from_torch(self.rule, state_dict)
        groups = [{**self.defaults, **group} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups})
        # PyTorch has cast the state to the parameter's dtype; ours has its own.
        saved = chain.from_iterable(group["params"] for group in groups)
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for index, p in zip(saved, params, strict=True):
            for name, value in state_dict["state"].get(index, {}).items():
                if isinstance(value, Tensor):
                    self.state[p][name] = self._slot(p).copy_(value)

    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        """The loss; without autograd for groups whose gradient is numeric."""
        numeric = [group for group in self.param_groups if group["gradient"] == "numeric"]
        with torch.set_grad_enabled(len(numeric) < len(self.param_groups)):
            loss = closure()
        params = [p for group in numeric for p in group["params"]]
        for p, gradient in zip(params, numeric_gradients(closure, params), strict=True):
            p.grad = gradient
        return loss

    def _clip(self, batches: list[Batch], gradients: list[list[Tensor]]) -> None:
        """By the joint norm of all gradients, each group to its own `clip_norm`."""
        norm = get_total_norm(chain.from_iterable(gradients))
        for batch in batches:
            if (clip_norm := batch.group["clip_norm"]) is not None:
                factor = clip_factor(norm, clip_norm)
                batch.path.rescale(factor.to(batch.parameters[0].device))

    def _batches(self) -> list[Batch]:
        """The batches of all parameters that have a gradient, kept while these are the same."""
        params = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        key = [p.data_ptr() for p in params]
        if key != self._key:
            if any(cast(Tensor, p.grad).layout is not torch.strided for p in params):
                raise TypeError("a gradient is sparse: only dense gradients can be used")
            self._kept, self._key = self._group(params), key
        return self._kept

    def _group(self, params: list[Tensor]) -> list[Batch]:
        wanted = set(params)
        batches: dict[Any, Batch] = {}
        for i, group in enumerate(self.param_groups):
            rule = self.rule.variant(SimpleNamespace(**group))
            for p in filter(wanted.__contains__, group["params"]):
                state = self.state[p]
                state.setdefault("step", 0)
                for slot in rule.slots:
                    if slot not in state:
                        state[slot] = self._slot(p)
                decays = group["weight_decay_on"] == "all" or p.ndim > 1
                key = (i, p.dtype, p.device, decays, state["step"])
                batch = batches.setdefault(key, Batch(rule, group, decays))
                batch.parameters.append(p)
                batch.states.append(state)
        return [batch.seal() for batch in batches.values()]

    @staticmethod
    def _slot(p: Tensor) -> Tensor:
        return torch.zeros_like(p, dtype=state_dtype(p))
