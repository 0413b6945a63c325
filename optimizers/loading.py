"""What may be loaded into an optimizer: the state of the same method, whole, for its parameters.

A state dict says its `method`; one that does not is known by the names in it. Everything is
checked before anything of the optimizer changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .groups import names_of
from .interop import from_torch, is_dense, is_ours
from .rule import Hyperparameter, Matrixwise, Rule, shown
from .rules import RULES


@contextmanager
def hooked(
    optimizer: torch.optim.Optimizer,
    before: Callable[[Mapping[str, Any]], dict[str, Any]],
    after: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Inside, `load_state_dict` takes what `before` returns, within a person's own hooks."""
    handles = [
        optimizer.register_load_state_dict_pre_hook(lambda _, given: before(given)),
        optimizer.register_load_state_dict_post_hook(lambda _: after(), prepend=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def loadable(
    rule: type[Rule],
    declared: Mapping[str, Hyperparameter],
    groups: list[dict[str, Any]],
    state_dict: Mapping[str, Any],
) -> dict[str, Any]:
    """The state dict in our words, counts of steps as integers; ValueError if it does not fit."""
    state_dict = {**state_dict, "state": numbered(state_dict)}
    if not is_ours(state_dict):
        state_dict = from_torch(rule, state_dict)
    if "method" not in state_dict:
        check_names(rule, state_dict)
    check_groups(rule.__name__, declared, groups, state_dict)
    return {**state_dict, "state": checked_state(rule, groups, state_dict)}


def numbered(state_dict: Mapping[str, Any]) -> dict[Any, Any]:
    """The state, where JSON or a distributed checkpoint made text of the numbers of parameters."""
    state = dict(state_dict["state"])
    for index in chain.from_iterable(group["params"] for group in state_dict["param_groups"]):
        before, text = state.get(index, {}), state.get(str(index))
        if isinstance(index, int) and isinstance(before, Mapping) and isinstance(text, Mapping):
            state[index] = {**before, **text}
            del state[str(index)]
    return state


def check_form(state_dict: object) -> None:
    """ValueError for what is no optimizer's state dict: a whole checkpoint, a model's."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"a state dict is needed, not {type(state_dict).__name__}")
    groups = state_dict.get("param_groups")
    if not (
        isinstance(state_dict.get("state"), Mapping)
        and isinstance(groups, list)
        and all(isinstance(group, Mapping) and is_group(group) for group in groups)
    ):
        has = ", ".join(map(str, [*state_dict][:4])) or "nothing"
        raise ValueError(
            f"this is no optimizer's state dict, which is state and param_groups with params: "
            f"it has {has}"
        )


def is_group(group: Mapping[Any, Any]) -> bool:
    params = group.get("params")
    return (
        isinstance(params, list | tuple)
        and all(isinstance(index, int | str) for index in params)
        and all(isinstance(name, str) for name in group)
    )


def check_groups(
    name: str,
    declared: Mapping[str, Hyperparameter],
    groups: list[dict[str, Any]],
    state_dict: Mapping[str, Any],
) -> None:
    """ValueError if it is of another method than `name`, for other groups, or has wrong values."""
    if (method := state_dict.get("method", name)) != name:
        method = shown(method).strip("'")
        raise ValueError(f"the state dict is {method}'s, not {name}'s")
    saved = state_dict["param_groups"]
    sizes, own = ([len(group["params"]) for group in some] for some in (saved, groups))
    if sizes != own:
        raise ValueError(
            f"the state dict is for param_groups of {sizes} parameters, the optimizer has {own}"
        )
    for theirs, ours in zip(saved, groups, strict=True):
        for key in declared.keys() & theirs.keys():
            declared[key].check(key, theirs[key])
        old, new = theirs.get("param_names"), ours.get("param_names")
        if isinstance(old, list) and new and old != new and sorted(map(str, old)) == sorted(new):
            raise ValueError(
                "the state dict has the same parameters in another order: "
                f"{shown(old)}, not {shown(new)}"
            )


def check_names(rule: type[Rule], state_dict: Mapping[str, Any]) -> None:
    """ValueError if its names are another rule's: exactly, or but for newer hyperparameters."""
    fitting = [r for r in dict.fromkeys([rule, *RULES.values()]) if fits(r, state_dict)]
    exact = [r for r in fitting if fits(r, state_dict, exactly=True)]
    if rule not in (candidates := exact or fitting):
        others = " or ".join(candidate.__name__ for candidate in candidates) or "another method"
        raise ValueError(f"the state dict is {others}'s, not {rule.__name__}'s")


def fits(rule: type[Rule], state_dict: Mapping[str, Any], exactly: bool = False) -> bool:
    every = set(rule.hyperparameters).union(*(r.hyperparameters for r in RULES.values()))
    given = [every & group.keys() for group in state_dict["param_groups"]]
    slots = slots_of(rule, *RULES.values())
    held = [
        slots & entries.keys()
        for entries in state_dict["state"].values()
        if isinstance(entries, Mapping) and "step" in entries
    ]
    return (
        all(names <= rule.hyperparameters.keys() for names in given)
        and all(names in [set(variant.slots) for variant in variants(rule)] for names in held)
        and not (exactly and any(names != set(rule.hyperparameters) for names in given))
    )


def variants(rule: type[Rule]) -> list[type[Rule]]:
    """Itself, what its `variant` may return, and what carries the parameters that it does not."""
    beside = [rule.rest] if issubclass(rule, Matrixwise) else []
    return [rule, *(v for v in rule.__subclasses__() if v not in RULES.values()), *beside]


def slots_of(*some: type[Rule]) -> set[str]:
    """Those of all variants."""
    return {slot for rule in some for variant in variants(rule) for slot in variant.slots}


def checked_state(
    rule: type[Rule], groups: list[dict[str, Any]], state_dict: Mapping[str, Any]
) -> dict[Any, Any]:
    saved = list(chain.from_iterable(group["params"] for group in state_dict["param_groups"]))
    carriers = chain.from_iterable(map(partial(carried, rule), groups, state_dict["param_groups"]))
    state = dict(state_dict["state"])
    known = {"step", *slots_of(rule)}
    for index in state.keys() - set(saved):
        if isinstance(state[index], Mapping) and known & state[index].keys():
            raise ValueError(f"there is state for {shown(index)}, which is in no param_group")
    if len({*saved}) < len(saved):
        raise ValueError(f"a parameter is in the param_groups twice: {shown(saved)}")
    for index, (p, own) in zip(saved, carriers, strict=True):
        entries = state.get(index, {})
        if not isinstance(entries, Mapping):
            raise ValueError(f"the state of parameter {index} is {shown(entries)}, no dict")
        if not (held := known & entries.keys()):
            continue
        if missing := {"step", *own.slots} - held:
            raise ValueError(f"the state of parameter {index} lacks {', '.join(sorted(missing))}")
        for slot in sorted(held - {"step"}):
            if not is_dense(value := entries[slot]):
                what = shown(value)
                if isinstance(value, Tensor):
                    what = f"a tensor of {value.layout} {value.dtype} on {value.device}"
                raise ValueError(f"{slot} of parameter {index} is {what}: no tensor of real floats")
            if value.shape != p.shape:
                raise ValueError(
                    f"{slot} of parameter {index} has shape {list(value.shape)}, "
                    f"the parameter {list(p.shape)}"
                )
        state[index] = {**entries, "step": count(entries["step"], index)}
    return state


def carried(
    rule: type[Rule], group: Mapping[str, Any], saved: Mapping[str, Any]
) -> list[tuple[Tensor, type[Rule]]]:
    """Each parameter of a group with what it goes by, once the group says what was saved."""
    h = SimpleNamespace(**{name: saved.get(name, group[name]) for name in rule.hyperparameters})
    names: Sequence[str | None] = names_of(group) or [None] * len(group["params"])
    return [(p, rule.of(h, p.shape, name)) for p, name in zip(group["params"], names, strict=True)]


def count(value: Any, index: Any) -> int:
    single = isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta
    number = value.item() if single else value
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**63:
        return number
    raise ValueError(
        f"step of parameter {index} is {shown(number)}: it must be a whole number from 0"
    )
