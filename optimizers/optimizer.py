"""A rule as a `torch.optim.Optimizer`.

`step()` reads the param_groups, groups parameters into batches that take one step together, and
hands each batch's tensors and coefficients to a path. Nothing here knows what a rule computes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature
from itertools import chain
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import (
    ParamsT,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)

from .checks import check_parameter, new_slot
from .grouping import Grouping, Now, Ready, clip, coefficients, gradients_of, parameters_of
from .groups import Groups, names_of, number
from .interop import FLAGS, in_our_words, to_torch
from .loading import check_form, hooked, loadable, slots_of
from .numeric import numeric_gradients
from .paths import PATH
from .paths.native import Native, Share
from .rule import OPTIONS, Hyperparameter, Rule


def refuse_a_set(params: object) -> None:
    if isinstance(params, set | frozenset):
        raise TypeError("the parameters are a set, whose order is random: give them as a list")


class Optimizer(torch.optim.Optimizer):
    """Base of all methods; takes `(params, lr, *, <hyperparameters and options by name>)`.

    Their defaults and what they accept are the rule's `hyperparameters`, `OPTIONS` and `PATH`.
    PyTorch's `betas` may stand for beta1 and beta2; its flags, such as `fused`, have no effect.
    A step goes by what parameters, gradients, `state` and `param_groups` hold when it is taken.
    With `gradient="numeric"`, the closure is called with autograd off, and must leave `backward`
    alone then.

    `step()` is `prepare()`, then `apply()`. In a CUDA graph: take one step as usual, capture
    `apply()` or `step()` (which then leaves `prepare` out), and call `prepare()` before each
    replay, so that schedules and bias corrections go on.
    """

    rule: ClassVar[type[Rule]]
    _groups: Groups
    _grouping: Grouping

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
        theirs = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None)
            for name in (*["betas"] * ("beta1" in cls.declared()), *FLAGS)
        ]
        cls.__signature__ = Signature([params, lr, *named, *theirs])  # type: ignore[attr-defined]

    def __init__(
        self, params: ParamsT, lr: float | None = None, *unnamed: Any, **hyperparameters: Any
    ) -> None:
        if unnamed:
            raise TypeError(
                f"{type(self).__name__} takes all but params and lr by name, not {unnamed[0]!r}"
            )
        refuse_a_set(params)
        if lr is not None:
            hyperparameters["lr"] = lr
        self._start()
        given = {name: value for name, value in hyperparameters.items() if name not in FLAGS}
        if given.get("betas", ...) is None:
            del given["betas"]
        defaults = self._groups.defaults()
        given = in_our_words(self.rule, defaults, given)
        super().__init__(params, self._groups.complete(given, defaults))
        names = map(names_of, self.param_groups)
        self.rule.check_names([*zip(self._groups.read(self.param_groups), names, strict=True)])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start()

    def _start(self) -> None:
        """With nothing kept from earlier steps."""
        self._groups = Groups(self.rule, self.declared())
        self._grouping = Grouping(self.rule)

    @classmethod
    def declared(cls) -> dict[str, Hyperparameter]:
        """Everything that a param_group may set."""
        return {**cls.rule.hyperparameters, **OPTIONS, "path": PATH}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if isinstance(param_group, dict):
            refuse_a_set(param_group.get("params"))
            self._groups.complete(param_group, self.defaults)
        super().add_param_group(param_group)
        try:
            self._groups.read(self.param_groups)
            for j, p in enumerate(self.param_groups[-1]["params"]):
                check_parameter(p, f"parameter {j} of group {len(self.param_groups) - 1}")
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return (self._watched_step if self._is_watched else self._step)(closure)

    # PyTorch would wrap `step` in hooks and a label for profilers, at 20 microseconds a step.
    step.hooked = True  # type: ignore[attr-defined]

    @property
    def _is_watched(self) -> bool:
        """Whether anybody would notice PyTorch's wrapper."""
        return bool(
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
            or torch.autograd._profiler_enabled()
        )

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None and any(g.get("gradient") == "numeric" for g in self.param_groups):
            raise ValueError("gradient='numeric' needs a closure that returns the loss")
        loss = None if closure is None else self._evaluate(closure)
        ready = self._ready()
        if not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
            for batch in ready:
                batch.prepare()
        self._apply(ready)
        return loss

    _watched_step = torch.optim.Optimizer.profile_hook_step(_step)

    def prepare(self) -> None:
        """Count a step and write its coefficients to the device."""
        for batch in self._ready():
            batch.prepare()

    def apply(self) -> None:
        """Take the step that was prepared; nothing here waits for the device."""
        self._apply(self._ready())

    def in_a_row(self, share: Share | None = None) -> Callable[[], None]:
        """What takes steps as `step` does, but quicker, for whoever lets nobody change groups
        and state in between: it looks for gradients, the groups' ``lr`` and memory alone.

        Args:
            share: has parts of a large step done by several threads.
        """
        ready: list[Ready] = []
        checked: list[Any] = []

        def step() -> None:
            nonlocal ready, checked
            rates = [number(group["lr"]) for group in self.param_groups]
            following = None
            if ready and not self._is_watched:
                following = self._grouping.following(ready, rates)
            if following is None:
                self.step()
                ready = self._ready()
                for batch in ready:
                    if isinstance(batch.batch.path, Native):
                        batch.batch.path.share = share
                return
            if rates != checked:
                for rate in rates:
                    self.declared()["lr"].check("lr", rate)
                checked = rates
            ready = following
            for batch in ready:
                batch.prepare()
            self._apply(ready)

        return step

    @contextmanager
    def iterates(self) -> Iterator[None]:
        """Inside, parameters are the method's iterates: other points only for `Nesterov`."""
        moved: list[tuple[Tensor, Tensor]] = []
        if self.rule.iterate is not Rule.iterate:
            with torch.no_grad():
                for group, h in zip(
                    self.param_groups, self._groups.read(self.param_groups), strict=True
                ):
                    moved += [(p, self._iterate(p, h)) for p in group["params"] if p in self.state]
        held = [p.detach().clone() for p, _ in moved]
        try:
            with torch.no_grad():
                for p, iterate in moved:
                    p.copy_(iterate)
            yield
        finally:
            with torch.no_grad():
                for (p, _), value in zip(moved, held, strict=True):
                    p.copy_(value)

    def _iterate(self, p: Tensor, h: SimpleNamespace) -> Tensor:
        rule, state = self.rule.variant(h), self.state[p]
        c = coefficients(rule, h, True, state["step"])
        return rule.iterate(p, tuple(state[slot] for slot in rule.slots), SimpleNamespace(**c))

    def state_dict(self) -> dict[str, Any]:
        """With the method's name, and without the state of parameters that are in no group now."""
        held, present = self.state, set(parameters_of(self.param_groups))
        self.state = defaultdict(dict, {p: s for p, s in held.items() if p in present})
        try:
            return {**super().state_dict(), "method": self.rule.__name__}
        finally:
            self.state = held

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
            groups = [
                self._groups.complete(dict(group), self.defaults)
                for group in loaded["param_groups"]
            ]
            try:
                self._groups.read(groups)
            except TypeError as error:
                raise ValueError(str(error)) from None
            return {**loaded, "param_groups": groups}

        def restore() -> None:
            """PyTorch has cast the state to the parameter's dtype; ours has its own."""
            saved = chain.from_iterable(group["params"] for group in loaded["param_groups"])
            params = chain.from_iterable(group["params"] for group in self.param_groups)
            slots = slots_of(self.rule)
            for index, p in zip(saved, params, strict=True):
                for name, value in loaded["state"].get(index, {}).items():
                    if name in slots:
                        self.state[p][name] = new_slot(p).copy_(value.detach())

        with hooked(self, translate, restore):
            super().load_state_dict(state_dict)

    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        """The loss; without autograd for groups whose gradient is numeric."""
        numeric = [group for group in self.param_groups if group.get("gradient") == "numeric"]
        with torch.set_grad_enabled(len(numeric) < len(self.param_groups)):
            loss = closure()
        params = [p for group in numeric for p in group["params"]]
        for p, gradient in zip(params, numeric_gradients(closure, params), strict=True):
            p.grad = gradient
        return loss

    def _ready(self) -> list[Ready]:
        """The batches of all parameters that have a gradient."""
        hyperparameters = self._groups.read(self.param_groups)
        if not isinstance(self.state, dict):
            raise TypeError(f"the optimizer's state is {type(self.state).__name__}, not a dict")
        groups, parameters = self.param_groups, parameters_of(self.param_groups)
        gradients = gradients_of(parameters)
        now = Now(groups, parameters, self.state, hyperparameters, hyperparameters, gradients)
        return self._grouping.ready(now)

    def _apply(self, ready: Sequence[Ready]) -> None:
        if any(batch.h.clip_norm for batch in ready):
            clip(ready, list(chain.from_iterable(batch.gradients for batch in ready)), None)
        for batch in ready:
            batch.apply()
