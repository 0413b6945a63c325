"""Which parameters step together, found again as soon as anything of it has changed.

Between two steps, people move, cast, replace and resize parameters, gradients and state. What is
kept from one step to the next is therefore verified before it is used: a step sees the tensors
that are there now, or raises an error before it touches memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from operator import attrgetter, is_
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

try:
    from torch._C._dynamo.guards import TensorGuards
except ImportError:  # they are PyTorch's own; without them steps of many tensors are slower
    TensorGuards = None  # type: ignore[assignment,misc]

from .eager import Eager, state_dtype
from .native import Native
from .paths import choose
from .rule import Rule

Path = Eager | Native
PLAIN = (Tensor, torch.nn.Parameter)

gradient_of = attrgetter("grad")


class Layout:
    """What some tensors look like: their types, dtypes, devices, shapes and strides."""

    def __init__(self, tensors: Sequence[Any]) -> None:
        self.looks = [look(t) for t in tensors]
        self.unchanged = guard(tensors)

    def holds(self, tensors: Sequence[Any]) -> bool:
        """Whether these look the same."""
        if self.unchanged(*tensors):
            return True
        if len(tensors) != len(self.looks) or [look(t) for t in tensors] != self.looks:
            return False
        # A guard is quick, but also goes by what matters to no step, such as autocast.
        self.unchanged = guard(tensors)
        return True


def look(x: Any) -> tuple[Any, ...]:
    if not isinstance(x, Tensor):
        return (type(x),)
    strides = x.stride() if x.layout is torch.strided else None
    return type(x), x.layout, x.dtype, x.device, x.shape, strides


def guard(tensors: Sequence[Any]) -> Any:
    """A function of as many tensors: True only if they look like these."""
    if TensorGuards is None or not all(
        isinstance(t, Tensor) and t.layout is torch.strided for t in tensors
    ):
        return lambda *_: False
    shapes: Any = [list(t.shape) for t in tensors]
    strides: Any = [list(t.stride()) for t in tensors]
    return TensorGuards(*tensors, dynamic_dims_sizes=shapes, dynamic_dims_strides=strides).check


class Memory(Layout):
    """What tensors look like, and where they lie."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__(tensors)
        self.pointers = pointers(tensors)

    def holds(self, tensors: Sequence[Any]) -> bool:
        return super().holds(tensors) and pointers(tensors) == self.pointers


def pointers(tensors: Sequence[Tensor]) -> list[int]:
    return list(map(Tensor.data_ptr, tensors))


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
        except KeyError:
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


def check_parameter(p: Any, what: str) -> None:
    if not isinstance(p, Tensor):
        raise TypeError(f"{what} is a {type(p).__name__}, not a tensor")
    if not p.is_floating_point():
        raise TypeError(f"{what} is {p.dtype}: only real floats can be optimized")
    check_memory(p, what)


def check_gradient(g: Tensor, p: Tensor, what: str) -> None:
    if g.layout is not torch.strided:
        raise TypeError(f"the gradient of {what} is sparse: only dense gradients can be used")
    for name in ("shape", "device"):
        mine, its = getattr(p, name), getattr(g, name)
        if mine != its:
            raise RuntimeError(
                f"{what} has {name} {readable(mine)}, but its gradient {readable(its)}: the "
                "parameter was changed after backward; call zero_grad, then backward again"
            )
    if not g.is_floating_point():
        raise TypeError(f"the gradient of {what} is {g.dtype}: only real floats can be used")
    check_memory(g, f"the gradient of {what}")


def check_state(entry: dict[str, Any], slots: Sequence[str], p: Tensor, what: str) -> None:
    """Also fills in what is not there yet: zero."""
    step = entry.get("step", 0)
    try:
        whole = int(step)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        whole = -1
    if whole != step or whole < 0:
        raise ValueError(f"the state of {what} has step {step!r}: it must be a whole number from 0")
    for slot in slots:
        if slot in entry:
            check_slot(entry[slot], p, f"state {slot!r} of {what}")
    entry["step"] = whole
    for slot in slots:
        if slot not in entry:
            entry[slot] = new_slot(p)


def check_slot(slot: Any, p: Tensor, what: str) -> None:
    if not isinstance(slot, Tensor) or not slot.is_floating_point():
        kind = slot.dtype if isinstance(slot, Tensor) else type(slot).__name__
        raise TypeError(f"{what} is {kind}, not a tensor of real floats")
    for name in ("shape", "device"):
        its, wanted = getattr(slot, name), getattr(p, name)
        if its != wanted:
            raise RuntimeError(
                f"{what} has {name} {readable(its)}, but its parameter {readable(wanted)}: after "
                "such a change, clear its state or make a new optimizer"
            )
    check_memory(slot, what)


def check_memory(x: Tensor, what: str) -> None:
    """PyTorch's own operators would read and write where it has none."""
    if type(x) not in PLAIN or x.layout is not torch.strided or x.numel() == 0 or x.is_meta:
        return
    if (x.storage_offset() + extent(x)) * x.element_size() > x.untyped_storage().nbytes():
        raise RuntimeError(f"{what} lies outside its storage, which was resized")


def extent(x: Tensor) -> int:
    """How many elements of its storage it spans."""
    return 1 + sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))


def readable(value: Any) -> str:
    return str(list(value)) if isinstance(value, torch.Size) else str(value)


def new_slot(p: Tensor) -> Tensor:
    return torch.zeros_like(p, dtype=state_dtype(p))


def fit(parameters: Sequence[Tensor], slots: Sequence[Sequence[Tensor]]) -> bool:
    """Whether all is plain memory, and each parameter's state is laid out as itself."""
    together = [*parameters, *chain.from_iterable(slots)]
    return all(type(x) in PLAIN and not x.is_inference() for x in together) and all(
        x.layout is torch.strided and x.stride() == p.stride() and x.dtype == state_dtype(p)
        for slot in slots
        for x, p in zip(slot, parameters, strict=True)
    )


def overlapping(tensors: Sequence[Tensor]) -> bool:
    """Whether two of them share memory: then the order of operators matters."""
    spans = sorted(
        (x.data_ptr(), x.data_ptr() + extent(x) * x.element_size())
        for x in tensors
        if type(x) in PLAIN and x.numel()
    )
    return any(end > start for (_, end), (start, _) in pairwise(spans))


@torch.no_grad()
def conform(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Each gradient in the layout and dtype of its parameter."""
    return [
        g if g.stride() == p.stride() and g.dtype == p.dtype else torch.empty_like(p).copy_(g)
        for g, p in zip(gradients, parameters, strict=True)
    ]
