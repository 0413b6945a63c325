"""A rule as a `torch.optim.Optimizer`.

`step()` groups parameters into batches that take one step together, and hands each batch's
tensors and coefficients to a path. Nothing here knows what a rule computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature
from itertools import chain
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.optimizer import ParamsT

from .eager import state_dtype
from .interop import in_our_words, to_torch
from .loading import check_form, hooked, loadable, slots_of
from .numeric import numeric_gradients
from .paths import PATH, choose, clip_factor
from .rule import OPTIONS, Hyperparameter, Rule


class Batch:
    """Parameters of one group that share rule, dtype, device and count of steps."""

    def __init__(
        self,
        rule: type[Rule],
        group: dict[str, Any],
        decays: bool,
        members: Sequence[tuple[Tensor, dict[str, Any]]],
    ) -> None:
        self.rule, self.group, self.decays = rule, group, decays
        self.parameters = [p for p, _ in members]
        self.states = [state for _, state in members]
        self.slots = [[state[slot] for slot in rule.slots] for state in self.states]
        self.path = choose(group["path"], rule, self.parameters, self.slots)

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

    `step()` is `prepare()`, then `apply()`. In a CUDA graph: take one step as usual, capture
    `apply()` or `step()` (which then leaves `prepare` out), and call `prepare()` before each
    replay, so that schedules and bias corrections go on.
    """

    rule: ClassVar[type[Rule]]
    _key: Any = None

    def __init_subclass__(cls) -> None:
        cls.__doc__ = cls.__doc__ or cls.rule.__doc__
        named = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=declared.default)
            for name, declared in cls.declared().items()
        ]
        params = Parameter("params", Parameter.POSITIONAL_OR_KEYWORD)
        lr = next(p for p in named if p.name == "lr")
        named.remove(lr)
        lr = lr.replace(kind=Parameter.POSITIONAL_OR_KEYWORD)
        cls.__signature__ = Signature([params, lr, *named])  # type: ignore[attr-defined]

    def __init__(self, params: ParamsT, lr: float | None = None, **hyperparameters: Any) -> None:
        if lr is not None:
            hyperparameters["lr"] = lr
        declared = self.declared()
        hyperparameters = in_our_words(self.rule, declared, hyperparameters)
        super().__init__(params, {k: d.default for k, d in declared.items()} | hyperparameters)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._key = None

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
        if not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
            self.prepare()
        self.apply()
        return loss

    def prepare(self) -> None:
        """Count a step and write its coefficients to the device."""
        for batch in self._batches():
            batch.prepare()

    @torch.no_grad()
    def apply(self) -> None:
        """Take the step that was prepared; nothing here waits for the device."""
        batches = self._batches()
        gradients = [[cast(Tensor, p.grad) for p in batch.parameters] for batch in batches]
        if any(group["clip_norm"] for group in self.param_groups):
            self._clip(batches, gradients)
        for batch, gradient in zip(batches, gradients, strict=True):
            batch.path.apply(gradient)

    @contextmanager
    def iterates(self) -> Iterator[None]:
        """Inside, parameters are the method's iterates: other points only for `Nesterov`."""
        moves = self.rule.iterate is not Rule.iterate
        params = [p for g in self.param_groups for p in g["params"] if moves and p in self.state]
        with torch.no_grad():
            held = [p.clone() for p in params]
            for batch in self._group(params):
                c = SimpleNamespace(**batch.coefficients())
                for p, slots in zip(batch.parameters, batch.slots, strict=True):
                    p.copy_(batch.rule.iterate(p, tuple(slots), c))
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(params, held, strict=True):
                    p.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "method": self.rule.__name__}

    def torch_state_dict(self) -> dict[str, Any]:
        """The state dict of PyTorch's optimizer of this method, which goes on alike; a copy.

        ValueError for what PyTorch's cannot do. Its momentum is in the form `heavy_ball`, which
        goes on as `velocity` does while lr stays, and as `average` does while momentum stays.
        """
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        return to_torch(self.rule, self.state_dict(), params)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Also takes the state dict of PyTorch's optimizer of the same method.

        ValueError, before anything changes, for one of another method or of other parameters.
        """
        check_form(state_dict)
        loaded: dict[str, Any] = {}

        def translate(given: Mapping[str, Any]) -> dict[str, Any]:
            loaded.update(loadable(self.rule, self.declared(), self.param_groups, given))
            newer = {name: self.defaults[name] for name in self.declared()}
            groups = [{**newer, **group} for group in loaded["param_groups"]]
            return {**loaded, "param_groups": groups}

        def restore() -> None:
            """PyTorch has cast the state to the parameter's dtype; ours has its own."""
            saved = chain.from_iterable(group["params"] for group in loaded["param_groups"])
            params = chain.from_iterable(group["params"] for group in self.param_groups)
            slots = slots_of(self.rule)
            for index, p in zip(saved, params, strict=True):
                for name, value in loaded["state"].get(index, {}).items():
                    if name in slots:
                        self.state[p][name] = self._slot(p).copy_(value.detach())

        with hooked(self, translate, restore):
            super().load_state_dict(state_dict)

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
        """The batches of all parameters that have a gradient, kept while nothing else changes."""
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        ways = [
            (group["path"], group["weight_decay_on"], self._variant(group))
            for group in self.param_groups
        ]
        key = ([p.data_ptr() for p in params], ways)
        if key != self._key:
            if any(cast(Tensor, p.grad).layout is not torch.strided for p in params):
                raise TypeError("a gradient is sparse: only dense gradients can be used")
            self._kept, self._key = self._group(params), key
        return self._kept

    def _group(self, params: Sequence[Tensor]) -> list[Batch]:
        """Parameters that start, or had no gradient at times, have counted other steps."""
        wanted = set(params)
        members: dict[Any, list[tuple[Tensor, dict[str, Any]]]] = {}
        for i, group in enumerate(self.param_groups):
            for p in filter(wanted.__contains__, group["params"]):
                state = self._state(p, self._variant(group))
                decays = group["weight_decay_on"] == "all" or p.ndim > 1
                key = (i, decays, p.dtype, p.device, state["step"])
                members.setdefault(key, []).append((p, state))
        return [
            Batch(self._variant(self.param_groups[i]), self.param_groups[i], decays, alike)
            for (i, decays, *_), alike in members.items()
        ]

    def _variant(self, group: dict[str, Any]) -> type[Rule]:
        return self.rule.variant(SimpleNamespace(**group))

    def _state(self, p: Tensor, rule: type[Rule]) -> dict[str, Any]:
        """What is kept for a parameter; zero where nothing is yet."""
        state = self.state[p]
        state.setdefault("step", 0)
        for slot in rule.slots:
            if slot not in state:
                state[slot] = self._slot(p)
        return state

    @staticmethod
    def _slot(p: Tensor) -> Tensor:
        return torch.zeros_like(p, dtype=state_dtype(p))
