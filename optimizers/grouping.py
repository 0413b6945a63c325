"""Which parameters step together, found again as soon as anything of it has changed.

Between two steps, people move, cast, replace and resize parameters, gradients and state. What is
kept from one step to the next is therefore verified before it is used: a step sees the tensors
that are there now, or raises an error before it touches memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter, is_
from types import SimpleNamespace
from typing import Any, NamedTuple

from torch import Tensor

from .checks import check_gradient, check_parameter, check_state
from .layouts import Layout, Memory, conform, fit, overlapping
from .paths import choose
from .paths.eager import Eager
from .paths.native import Native
from .rule import Rule

Path = Eager | Native

gradient_of = attrgetter("grad")


@dataclass
class Batch:
    """Parameters of one group that share rule, dtype, device and count of steps."""

    rule: type[Rule]
    group: int
    decays: bool
    where: list[int]  # their places among the parameters that have a gradient
    step: int
    path: Path
    gradients: Layout

    def own(self, of_all: list[Any]) -> list[Any]:
        return of_all if len(of_all) == len(self.where) else [of_all[i] for i in self.where]


def coefficients(rule: type[Rule], h: SimpleNamespace, decays: bool, step: int) -> dict[str, Any]:
    if not decays:
        h = SimpleNamespace(**{**vars(h), "weight_decay": 0.0})
    return rule.all_coefficients(h, step)


class Ready(NamedTuple):
    """A batch with all that its next step reads and writes."""

    batch: Batch
    h: SimpleNamespace
    parameters: list[Tensor]
    gradients: list[Tensor]
    states: list[dict[str, Any]]
    slots: list[list[Tensor]]  # of each slot, a tensor for each parameter
    alike: bool  # whether each gradient has its parameter's layout

    def prepare(self) -> None:
        """Counts a step and sets its coefficients."""
        self.batch.step += 1
        for state in self.states:
            state["step"] = self.batch.step
        self.renew()

    def renew(self) -> None:
        """Sets the coefficients of the last step that was counted."""
        batch = self.batch
        if batch.step:
            c = coefficients(batch.rule, self.h, batch.decays, batch.step)
            batch.path.prepare(c)

    def apply(self) -> None:
        gradients = self.gradients
        if not (self.alike or isinstance(self.batch.path, Eager)):
            gradients = conform(gradients, self.parameters)
            self.batch.path.locate(gradients)
        self.batch.path.apply(self.parameters, gradients, self.slots)


class Grouping:
    """The batches of an optimizer, as long as nothing that they depend on has changed.

    Args:
        rule: of the optimizer; its variant depends on a group's hyperparameters.
        hyperparameters: of each group.
        groups, state: the optimizer's own.

    Raises:
        TypeError, ValueError, RuntimeError: a parameter, gradient or state that no step can use;
            nothing was changed.
    """

    def __init__(
        self,
        rule: type[Rule],
        hyperparameters: Sequence[SimpleNamespace],
        groups: Sequence[Mapping[str, Any]],
        state: dict[Tensor, dict[str, Any]],
    ) -> None:
        parameters = parameters_of(groups)
        if strange := [p for p in parameters if not isinstance(p, Tensor)]:
            raise TypeError(f"a {type(strange[0]).__name__} stands among parameters: not a tensor")
        if len(set(parameters)) < len(parameters):
            raise ValueError("a parameter stands more than once in param_groups")
        self.ways = ways(rule, hyperparameters, groups)
        self.present = [p.grad is not None for p in parameters]
        self.complete = all(self.present)
        stepping: dict[Tensor, dict[str, Any]] = {}  # with their state
        tensors: list[Tensor] = []
        for i, (group, h) in enumerate(zip(groups, hyperparameters, strict=True)):
            slots = rule.variant(h).slots
            for j, p in enumerate(group["params"]):
                if p.grad is None:
                    continue
                what = f"parameter {j} of group {i}"
                check_parameter(p, what)
                check_gradient(p.grad, p, what)
                stepping[p] = state.setdefault(p, {})
                if not isinstance(stepping[p], dict):
                    raise TypeError(f"the state of {what} is {stepping[p]!r:.40}, not a dict")
                check_state(stepping[p], slots, p, what)
                tensors += [p, *(stepping[p][slot] for slot in slots)]
        others = {p: entry for p, entry in state.items() if p not in stepping}
        state.clear()
        state.update(stepping | others)  # in order, so that no look-up is needed later
        shared = overlapping(tensors)
        places = {p: place for place, p in enumerate(stepping)}
        self.batches = []
        for i, (group, h) in enumerate(zip(groups, hyperparameters, strict=True)):
            variant = rule.variant(h)
            members: dict[Any, list[Tensor]] = {}
            for p in filter(stepping.__contains__, group["params"]):
                decays = h.weight_decay_on == "all" or p.ndim > 1
                plain = fit([p], [[stepping[p][slot]] for slot in variant.slots]) and not shared
                turn = places[p] if shared else None  # then each goes by what the last one left
                key = decays, p.dtype, p.device, stepping[p]["step"], plain, turn
                members.setdefault(key, []).append(p)
            for (decays, _, _, step, plain, _), alike in members.items():
                of_slots = [[stepping[p][slot] for p in alike] for slot in variant.slots]
                self.batches.append(
                    Batch(
                        rule=variant,
                        group=i,
                        decays=decays,
                        where=[places[p] for p in alike],
                        step=step,
                        path=choose(h.path if plain else "eager", variant, alike, of_slots),
                        gradients=Layout([p.detach() for p in alike]),
                    )
                )
        tensors = list(stepping)
        for batch in self.batches:
            for slot in batch.rule.slots:
                tensors += [state[tensors[place]][slot] for place in batch.where]
        self.memory = Memory(tensors)

    def ready(
        self,
        rule: type[Rule],
        hyperparameters: Sequence[SimpleNamespace],
        groups: Sequence[Mapping[str, Any]],
        state: dict[Tensor, dict[str, Any]],
    ) -> list[Ready] | None:
        """The batches with the tensors of now; None where these are not the batches any more."""
        parameters = parameters_of(groups)
        try:
            gradients = list(map(gradient_of, parameters))
        except AttributeError:
            return None
        if ways(rule, hyperparameters, groups) != self.ways:
            return None
        if not self.complete:
            if [g is not None for g in gradients] != self.present:
                return None
            parameters = [p for p, has in zip(parameters, self.present, strict=True) if has]
            gradients = [g for g in gradients if g is not None]
        if not (len(state) >= len(parameters) and all(map(is_, parameters, state))):
            return None
        states = list(islice(state.values(), len(parameters)))
        found = []
        tensors = list(parameters)
        try:
            for batch in self.batches:
                own = batch.own(states)
                if [entry["step"] for entry in own].count(batch.step) < len(own):
                    return None
                slots = [[entry[name] for entry in own] for name in batch.rule.slots]
                tensors += chain.from_iterable(slots)
                found.append((batch, own, slots))
        except (KeyError, TypeError):
            return None
        if not self.memory.holds(tensors):
            return None
        ready = []
        for batch, own, slots in found:
            own_parameters, own_gradients = batch.own(parameters), batch.own(gradients)
            alike = batch.gradients.holds(own_gradients)
            if not alike:
                if any(g is None for g in own_gradients):
                    return None
                for i, (g, p) in enumerate(zip(own_gradients, own_parameters, strict=True)):
                    check_gradient(g, p, f"parameter {i}")
            batch.path.locate(own_gradients)
            h = hyperparameters[batch.group]
            ready.append(Ready(batch, h, own_parameters, own_gradients, own, slots, alike))
        return ready


def parameters_of(groups: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    return [p for group in groups for p in group["params"]]


def ways(
    rule: type[Rule],
    hyperparameters: Sequence[SimpleNamespace],
    groups: Sequence[Mapping[str, Any]],
) -> list[Any]:
    """What decides how a group is divided and carried out."""
    return [
        (len(group["params"]), h.path, h.weight_decay_on, rule.variant(h))
        for group, h in zip(groups, hyperparameters, strict=True)
    ]
