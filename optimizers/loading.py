"""What may be loaded into an optimizer: the state of the same method, whole, for its parameters.

A state dict says its `method`; one that does not is known by the names in it. Everything is
checked before anything of the optimizer changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from .interop import from_torch, is_ours
from .rule import Hyperparameter, Rule
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
    if not is_ours(state_dict):
        state_dict = from_torch(rule, state_dict)
    if "method" not in state_dict:
        check_names(rule, state_dict)
    check_groups(rule.__name__, declared, groups, state_dict)
    return {**state_dict, "state": checked_state(rule, groups, state_dict)}


def check_form(state_dict: object) -> None:
    """ValueError for what is no optimizer's state dict: a whole checkpoint, a model's."""
    parts: dict[str, type] = {"state": Mapping, "param_groups": list}
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"a state dict is needed, not {type(state_dict).__name__}")
    if not all(isinstance(state_dict.get(name), kind) for name, kind in parts.items()):
        has = ", ".join(map(str, [*state_dict][:4])) or "nothing"
        raise ValueError(f"no optimizer's state dict has {has}: it has state and param_groups")


def check_groups(
    name: str,
    declared: Mapping[str, Hyperparameter],
    groups: list[dict[str, Any]],
    state_dict: Mapping[str, Any],
) -> None:
    """ValueError if it is of another method than `name`, for other groups, or has wrong values."""
    if (method := state_dict.get("method", name)) != name:
        raise ValueError(f"the state dict is {method}'s, not {name}'s")
    saved = state_dict["param_groups"]
    sizes, own = ([len(group.get("params", ())) for group in some] for some in (saved, groups))
    if sizes != own:
        raise ValueError(
            f"the state dict is for param_groups of {sizes} parameters, the optimizer has {own}"
        )
    for theirs, ours in zip(saved, groups, strict=True):
        for key in declared.keys() & theirs.keys():
            declared[key].check(key, theirs[key])
        old, new = theirs.get("param_names"), ours.get("param_names")
        if old and new and old != new and sorted(old) == sorted(new):
            raise ValueError(
                f"the state dict has the same parameters in another order: {old}, not {new}"
            )


def check_names(rule: type[Rule], state_dict: Mapping[str, Any]) -> None:
    """ValueError if its names are another rule's: exactly, or but for newer hyperparameters."""
    fitting = [r for r in {rule: 0, **dict.fromkeys(RULES.values())} if fits(r, state_dict)]
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
    """Itself, and what its `variant` may return."""
    return [rule, *(v for v in rule.__subclasses__() if v not in RULES.values())]


def slots_of(*some: type[Rule]) -> set[str]:
    """Those of all variants."""
    return {slot for rule in some for variant in variants(rule) for slot in variant.slots}


def checked_state(
    rule: type[Rule], groups: list[dict[str, Any]], state_dict: Mapping[str, Any]
) -> dict[Any, Any]:
    saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
    params = chain.from_iterable(group["params"] for group in groups)
    state = dict(state_dict["state"])
    slots = slots_of(rule)
    for index, p in zip(saved, params, strict=True):
        entries = state.get(index, {})
        if not isinstance(entries, Mapping):
            raise ValueError(f"the state of parameter {index} is {entries!r}, no dict")
        if not (held := {"step", *slots} & entries.keys()):
            continue
        if missing := {"step", *rule.slots} - held:
            raise ValueError(f"the state of parameter {index} lacks {', '.join(sorted(missing))}")
        for slot in held - {"step"}:
            if not is_dense(value := entries[slot]):
                what = repr(value)
                if isinstance(value, Tensor):
                    what = f"{value.layout} {value.dtype} on {value.device}"
                raise ValueError(f"{slot} of parameter {index} is {what}: no tensor of real floats")
            if value.shape != p.shape:
                raise ValueError(
                    f"{slot} of parameter {index} has shape {list(value.shape)}, "
                    f"the parameter {list(p.shape)}"
                )
        state[index] = {**entries, "step": count(entries["step"], index)}
    return state


def is_dense(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.layout is torch.strided
        and not value.is_meta
    )


def count(value: Any, index: Any) -> int:
    single = isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta
    if single or (isinstance(value, int | float) and not isinstance(value, bool)):
        number = float(value)
        if number >= 0 and number.is_integer():
            return int(number)
    raise ValueError(f"step of parameter {index} is {value!r}: it must be a whole number from 0")
