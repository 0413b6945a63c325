"""Which parameters step together, found again as soon as anything of it has changed: for a single
run, and for a stack of K, where parameters, gradients and state are `[K, ...]`.

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

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from .checks import check_gradient, check_parameter, check_state
from .groups import names_of
from .layouts import Layout, Memory, conform, fit, overlapping
from .paths import choose, clip_factor
from .paths.eager import Eager
from .paths.native import Native
from .rule import Rule

Path = Eager | Native

gradient_of = attrgetter("grad")


class Now(NamedTuple):
    """All that the next step goes by."""

    groups: Sequence[Mapping[str, Any]]
    parameters: list[Tensor]  # of all groups
    state: dict[Tensor, dict[str, Any]]
    hyperparameters: Sequence[SimpleNamespace]  # of each group; numbers, or in a stack [K]
    structure: Sequence[SimpleNamespace]  # the same as numbers: in a stack, the largest of each
    gradients: Sequence[Tensor | None] | None  # of each parameter; None where all are to come


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
    found = rule.all_coefficients(h, step)
    return found if decays else {**found, "weight_decay": 0.0, "lr_weight_decay": 0.0}


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

    def following(self, lr: Any) -> Ready | None:
        """The same for the step after, at a learning rate; None where gradients look otherwise."""
        gradients = list(map(gradient_of, self.parameters))
        if not (self.alike and self.batch.gradients.holds(gradients)):
            return None
        self.batch.path.locate(gradients)
        if lr == self.h.lr:
            return self._replace(gradients=gradients)
        return self._replace(gradients=gradients, h=SimpleNamespace(**{**vars(self.h), "lr": lr}))

    def apply(self) -> None:
        gradients = self.gradients
        if not (self.alike or isinstance(self.batch.path, Eager)):
            gradients = conform(gradients, self.parameters)
            self.batch.path.locate(gradients)
        self.batch.path.apply(self.parameters, gradients, self.slots)


@torch.no_grad()
def clip(ready: Sequence[Ready], gradients: Sequence[Tensor], rows: int | None) -> None:
    """By the joint norm of all gradients, in a stack of each run's, each group to its own limit."""
    if rows is None:
        norm = get_total_norm(gradients)
    else:
        norm = torch.stack([g.reshape(rows, -1).norm(dim=1) for g in gradients]).norm(dim=0)  # [K]
    for batch in ready:
        if (limit := batch.h.clip_norm) is not None:
            factor = clip_factor(norm, limit)
            batch.batch.path.rescale(factor.to(batch.parameters[0].device))


class Grouping:
    """The batches of an optimizer, or of a stack of so many rows."""

    def __init__(self, rule: type[Rule], rows: int | None = None) -> None:
        self.rule, self.rows = rule, rows
        self.division: Division | None = None

    def ready(self, now: Now) -> list[Ready]:
        """All of them, with the tensors of now.

        Raises:
            TypeError, ValueError, RuntimeError: a parameter, gradient or state that no step can
                use; nothing was changed.
        """
        ready = None if self.division is None else self.division.ready(now)
        if ready is None:
            self.division = None  # also where the next line raises
            self.division = Division(self.rule, self.rows, now)
            ready = self.division.ready(now)
            assert ready is not None
            for batch in ready:
                batch.renew()
        return ready

    def following(self, ready: Sequence[Ready], rates: Sequence[Any]) -> list[Ready] | None:
        """The batches of a step after that of ``ready``, at the learning rate of each group, where
        nobody has changed what groups and state hold; None where memory or gradients did."""
        division = self.division
        if division is None or not division.complete:  # a gradient may have come
            return None
        if not division.memory.holds(division.tensors):
            return None
        found = [batch.following(rates[batch.batch.group]) for batch in ready]
        return [batch for batch in found if batch] if all(found) else None


class Division:
    """Batches, as long as nothing that they depend on has changed.

    Attributes:
        tensors: parameters and state that were last found to lie where they lay.
    """

    def __init__(self, rule: type[Rule], rows: int | None, now: Now) -> None:
        groups, parameters, state, *_ = now
        check_parameters(parameters)
        gradients = [None] * len(parameters) if now.gradients is None else now.gradients
        rule.check_names([(h, names_of(g)) for g, h in zip(groups, now.structure, strict=True)])
        self.rule = rule
        self.ways = ways(rule, groups, now.structure)
        self.present = [now.gradients is None or g is not None for g in gradients]
        self.complete = all(self.present)
        self.called: list[str] = []
        stepping: dict[Tensor, type[Rule]] = {}
        tensors: list[Tensor] = []
        places = iter(zip(gradients, self.present, strict=True))
        for i, (group, h) in enumerate(zip(groups, now.structure, strict=True)):
            names: Sequence[str | None] = names_of(group) or [None] * len(group["params"])
            for j, (p, name) in enumerate(zip(group["params"], names, strict=True)):
                g, present = next(places)
                if not present:
                    continue
                what = f"parameter {j}" if rows else f"parameter {j} of group {i}"
                check_parameter(p, what)
                if g is not None:
                    check_gradient(g, p, what)
                own = rule.of(h, p.shape if rows is None else p.shape[1:], name).variant(h)
                if not isinstance(state.setdefault(p, {}), dict):
                    raise TypeError(f"the state of {what} is {state[p]!r:.40}, not a dict")
                check_state(state[p], own.slots, p, what)
                stepping[p] = own
                tensors += [p, *(state[p][slot] for slot in own.slots)]
                self.called.append(what)
        others = {p: entry for p, entry in state.items() if p not in stepping}
        own_states = {p: state[p] for p in stepping}
        state.clear()
        state.update(own_states | others)  # in order, so that no look-up is needed later
        shared = overlapping(tensors)
        place_of = {p: place for place, p in enumerate(stepping)}
        self.batches: list[Batch] = []
        for i, (group, h) in enumerate(zip(groups, now.structure, strict=True)):
            members: dict[Any, list[Tensor]] = {}
            for p in filter(stepping.__contains__, group["params"]):
                decays = h.weight_decay_on == "all" or p.ndim - (rows is not None) > 1
                slots = [[state[p][slot]] for slot in stepping[p].slots]
                plain = fit([p], slots) and not shared
                turn = place_of[p] if shared else None  # then each goes by what the last one left
                key = stepping[p], decays, p.dtype, p.device, state[p]["step"], plain, turn
                members.setdefault(key, []).append(p)
            for (own, decays, _, _, step, plain, _), alike in members.items():
                of_slots = [[state[p][slot] for p in alike] for slot in own.slots]
                self.batches.append(
                    Batch(
                        rule=own,
                        group=i,
                        decays=decays,
                        where=[place_of[p] for p in alike],
                        step=step,
                        path=choose(h.path if plain else "eager", own, alike, of_slots, rows),
                        gradients=Layout([p.detach() for p in alike]),
                    )
                )
        tensors = list(stepping)
        for batch in self.batches:
            for slot in batch.rule.slots:
                tensors += [state[tensors[place]][slot] for place in batch.where]
        self.memory, self.tensors = Memory(tensors), tensors

    def ready(self, now: Now) -> list[Ready] | None:
        """The batches with the tensors of now; None where these are not the batches any more."""
        groups, parameters, state, hyperparameters, structure, given = now
        gradients: Any = given
        if ways(self.rule, groups, structure) != self.ways:
            return None
        if not self.complete:
            if gradients is None or [g is not None for g in gradients] != self.present:
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
                slots = [[entry[slot] for entry in own] for slot in batch.rule.slots]
                tensors += chain.from_iterable(slots)
                found.append((batch, own, slots))
        except (KeyError, TypeError):
            return None
        if not self.memory.holds(tensors):
            return None
        self.tensors = tensors
        ready = []
        for batch, own, slots in found:
            own_parameters = batch.own(parameters)
            own_gradients: list[Tensor] = []
            alike = False
            if gradients is not None:
                own_gradients = batch.own(gradients)
                alike = batch.gradients.holds(own_gradients)
                if not alike:
                    if any(g is None for g in own_gradients):
                        return None
                    for place, g, p in zip(batch.where, own_gradients, own_parameters, strict=True):
                        check_gradient(g, p, self.called[place])
                batch.path.locate(own_gradients)
            h = hyperparameters[batch.group]
            ready.append(Ready(batch, h, own_parameters, own_gradients, own, slots, alike))
        return ready


def parameters_of(groups: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    return [p for group in groups for p in group["params"]]


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor | None]:
    try:
        return list(map(gradient_of, parameters))
    except AttributeError:
        check_parameters(parameters)
        raise


def check_parameters(parameters: Sequence[Any]) -> None:
    if strange := [p for p in parameters if not isinstance(p, Tensor)]:
        raise TypeError(f"a {type(strange[0]).__name__} stands among parameters: not a tensor")
    if len(set(parameters)) < len(parameters):
        raise ValueError("a parameter stands more than once in param_groups")


def ways(
    rule: type[Rule], groups: Sequence[Mapping[str, Any]], structure: Sequence[SimpleNamespace]
) -> list[Any]:
    """What decides how a group is divided and carried out."""
    return [
        (len(group["params"]), h.path, h.weight_decay_on, rule.division(h))
        for group, h in zip(groups, structure, strict=True)
    ]
