"""PyTorch's words for our methods: names of hyperparameters, and state dicts in both directions.

`COUNTERPARTS` is the one table. What a constructor accepts or advises, which state dict of
`torch.optim` goes on here, and what ours becomes there, all follow from it.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from types import SimpleNamespace
from typing import Any, TypeGuard

import torch
from torch import Tensor

from . import rules
from .layouts import state_dtype
from .rule import OPTIONS, Rule, shown


@dataclass(frozen=True)
class Counterpart:
    """PyTorch's optimizer of the same method, where what only one of the two has is at this value.

    For `form` that is no condition: each form has the same steps as `heavy_ball`.
    """

    name: str
    slots: Mapping[str, str] = field(default_factory=dict)  # ours by theirs
    theirs: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)


HYPERPARAMETERS = {
    "alpha": "decay",
    "centered": "centred",
    "initial_accumulator_value": "initial_accumulator",
}
TUPLES = {"betas": ("beta1", "beta2"), "ns_coefficients": ("ns_a", "ns_b", "ns_c")}
# Of Keras, optax, Lightning and transformers; only ever advised.
ELSEWHERE = {
    "learning_rate": "lr",
    "eta": "lr",
    "rho": "decay",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "b1": "beta1",
    "b2": "beta2",
    "epsilon": "eps",
    "wd": "weight_decay",
    "global_clipnorm": "clip_norm",
    "gradient_clip_val": "clip_norm",
    "max_grad_norm": "clip_norm",
}
# What chooses how a step of PyTorch's is carried out. Here `path` does: they have no effect.
FLAGS = {"foreach", "fused", "capturable", "differentiable"}

MOMENTS = {"exp_avg": "m", "exp_avg_sq": "v"}
VELOCITY = {"momentum_buffer": "v"}
COUPLED = {"decoupled_weight_decay": False}
CORRECTED = {"bias_correction": True}
HEAVY_BALL = {"form": "heavy_ball"}
BESIDE = {name: d.default for name, d in rules.Muon.rest.hyperparameters.items()}

COUNTERPARTS: Mapping[type[Rule], Counterpart] = {
    rules.SGD: Counterpart("SGD", {}, {"momentum": 0, "dampening": 0, "nesterov": False}),
    rules.Momentum: Counterpart("SGD", VELOCITY, {"dampening": 0, "nesterov": False}, HEAVY_BALL),
    rules.Nesterov: Counterpart("SGD", VELOCITY, {"dampening": 0, "nesterov": True}, HEAVY_BALL),
    rules.AdaGrad: Counterpart("Adagrad", {"sum": "s"}, {"lr_decay": 0}),
    rules.RMSProp: Counterpart("RMSprop", {"square_avg": "s", "grad_avg": "mean", **VELOCITY}),
    rules.Adam: Counterpart("Adam", MOMENTS, {"amsgrad": False, **COUPLED}, CORRECTED),
    rules.AdamW: Counterpart(
        "AdamW", MOMENTS, {"amsgrad": False, "decoupled_weight_decay": True}, CORRECTED
    ),
    rules.AMSGrad: Counterpart(
        "Adam", {**MOMENTS, "max_exp_avg_sq": "v_max"}, {"amsgrad": True, **COUPLED}, CORRECTED
    ),
    rules.AdaMax: Counterpart("Adamax", {"exp_avg": "m", "exp_inf": "u"}),
    rules.NAdam: Counterpart("NAdam", MOMENTS, {"momentum_decay": 4e-3, **COUPLED}),
    rules.RAdam: Counterpart("RAdam", MOMENTS, COUPLED),
    rules.Muon: Counterpart(  # it takes matrices alone
        "Muon",
        {"momentum_buffer": "m"},
        ours={"exclude": "", **BESIDE},
    ),
}
THEIR_SLOTS = {name for other in COUNTERPARTS.values() for name in other.slots}


def names(rule: type[Rule]) -> set[str]:
    """What the groups of PyTorch's optimizer call its hyperparameters, but for `maximize`."""
    other = COUNTERPARTS[rule]
    theirs = {ours: name for name, ours in HYPERPARAMETERS.items()}
    theirs |= {part: name for name, parts in TUPLES.items() for part in parts}
    shared = rule.hyperparameters.keys() - other.ours.keys()
    return {theirs.get(name, name) for name in shared} | other.theirs.keys()


def same_family(rule: type[Rule], group: Mapping[str, Any]) -> type[Rule] | None:
    """The rule beside this one that does what the values in PyTorch's words say."""
    for candidate in COUNTERPARTS:
        if names(candidate) == names(rule) and candidate is not rule:
            theirs = COUNTERPARTS[candidate].theirs
            if all(name in group and same(group[name], v) for name, v in theirs.items()):
                return candidate
    return None


def same(value: object, fixed: float) -> bool:
    return isinstance(value, int | float) and value == fixed


def in_our_words(
    rule: type[Rule], taken: Collection[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What is given, less what says in PyTorch's words what the rule does anyway.

    TypeError for every other name that is not among the `taken`, with what to use instead.
    """
    fixed = COUNTERPARTS[rule].theirs if rule in COUNTERPARTS else {}
    refused = [n for n in given if n not in taken and not (n in fixed and same(given[n], fixed[n]))]
    if refused:
        advices: dict[str, list[str]] = {}
        for name in refused:
            what = f"{name}={shown(given[name])}" if name in fixed else name
            advices.setdefault(advice(rule, taken, given, name), []).append(what)
        what = "; ".join(f"no {', '.join(some)}: {advice}" for advice, some in advices.items())
        raise TypeError(f"{rule.__name__} has {what}")
    return {name: value for name, value in given.items() if name in taken}


def advice(rule: type[Rule], taken: Collection[str], given: Mapping[str, Any], name: str) -> str:
    """What to use in place of a name that the rule does not take."""
    fixed = COUNTERPARTS[rule].theirs if rule in COUNTERPARTS else {}
    ours = (HYPERPARAMETERS | ELSEWHERE).get(name, name)
    if ours in taken:
        return f"use {ours}"
    if name in TUPLES and {*TUPLES[name]} <= {*taken}:
        return f"use {', '.join(TUPLES[name])}"
    if name in fixed:
        beside = same_family(rule, {**fixed, **given})
        return f"use {beside.__name__}" if beside else f"it is always {fixed[name]!r}"
    takes = f"it takes {', '.join(taken)}"
    if owners := [
        owner.__name__
        for owner in rules.RULES.values()
        if ours in owner.hyperparameters
        or (owner in COUNTERPARTS and COUNTERPARTS[owner].theirs.get(name) is True)
    ]:
        return f"{', '.join(owners)} {'have' if owners[1:] else 'has'} it; {takes}"
    if close := difflib.get_close_matches(name, taken, n=1):
        return f"did you mean {close[0]}? {takes[0].upper()}{takes[1:]}"
    return takes


@cache
def their_optimizers() -> dict[str, set[str]]:
    """The arguments of everything in `torch.optim`."""
    return {
        name: inspect.signature(optimizer).parameters.keys() - {"params"}
        for name, optimizer in vars(torch.optim).items()
        if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)
        if optimizer is not torch.optim.Optimizer
    }


def their_hyperparameters(group: Mapping[str, Any]) -> set[str]:
    """Leaving out what schedulers and people have written there."""
    known = set[str]().union(*their_optimizers().values()) - FLAGS - {"maximize"}
    return known & group.keys()


def is_ours(state_dict: Mapping[str, Any]) -> bool:
    """Whether it says so, or has names that PyTorch's never have."""
    ours = {"path", *OPTIONS}.union(*(rule.hyperparameters for rule in rules.RULES.values()))
    ours -= {"maximize"}.union(*their_optimizers().values())
    groups = state_dict["param_groups"]
    return "method" in state_dict or not groups or any(ours & group.keys() for group in groups)


def from_torch(rule: type[Rule], state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict that our optimizer of the same method would have; ValueError if none."""
    groups = [group_from_torch(rule, group) for group in state_dict["param_groups"]]
    slots = COUNTERPARTS[rule].slots
    needed = {theirs for theirs, ours in slots.items() if ours in rule.slots}
    state = dict(state_dict["state"])
    for group, theirs in zip(groups, state_dict["param_groups"], strict=True):
        for index in group["params"]:
            if not isinstance(entries := state.pop(index, {}), Mapping):
                state[index] = entries  # is refused with everything else that does not fit
                continue
            held = entries.keys() & THEIR_SLOTS
            if needed - held and held - {*slots}:  # an old RAdam's group looks like Adamax's
                raise ValueError(f"the state dict is {whose(theirs)}, not one of {rule.__name__}'s")
            if any(value is not None for value in entries.values()):
                state[index] = state_from_torch(rule, group, entries)
    return {"state": state, "param_groups": groups, "method": rule.__name__}


def group_from_torch(rule: type[Rule], theirs: Mapping[str, Any]) -> dict[str, Any]:
    given = their_hyperparameters(theirs)
    later = {"decoupled_weight_decay"}  # not in every version
    if rule not in COUNTERPARTS or not names(rule) - later <= given <= names(rule):
        raise ValueError(f"the state dict is {whose(theirs)}, not one of {rule.__name__}'s")
    other = COUNTERPARTS[rule]
    for name, accepted in other.theirs.items():
        if not same(theirs.get(name, accepted), accepted):
            beside = same_family(rule, theirs)
            hint = f": use {beside.__name__}" if beside else ""
            what = f"{name}={shown(theirs[name])}"
            raise ValueError(f"{what} has no counterpart in {rule.__name__}{hint}")
    ours = {
        HYPERPARAMETERS.get(name, name): value
        for name, value in theirs.items()
        if name not in {*TUPLES, *FLAGS, *other.theirs}
    }
    for name in TUPLES.keys() & given:
        parts, values = TUPLES[name], theirs[name]
        if not (isinstance(values, tuple | list) and len(values) == len(parts)):
            wanted = f"{'two' if len(parts) == 2 else 'three'} numbers"
            raise ValueError(f"{name}={shown(values)} is not accepted: it must be {wanted}")
        ours |= dict(zip(parts, values, strict=True))
    if rule is rules.Muon and ours["adjust_lr_fn"] is None:
        ours["adjust_lr_fn"] = "original"
    ours |= other.ours
    for name, declared in rule.hyperparameters.items():
        declared.check(name, ours[name])
    return ours


def whose(group: Mapping[str, Any]) -> str:
    """By the `torch.optim` class whose arguments a group's names are most like."""
    given = their_hyperparameters(group)
    arguments = {n: a - FLAGS - {"maximize"} for n, a in their_optimizers().items()}
    likest = min(arguments, key=lambda name: len(arguments[name] ^ given))
    if likest in ("Adam", "AdamW"):  # an old version's look the same
        likest = "AdamW" if group.get("decoupled_weight_decay") else "Adam"
    unlike = (arguments[likest] ^ given) - {"decoupled_weight_decay"}
    if not unlike or (FLAGS & group.keys() and unlike <= arguments[likest]):
        return f"torch.optim.{likest}'s"
    return f"of a method with {', '.join(n for n in group if n != 'params') or 'no names'}"


def state_from_torch(
    rule: type[Rule], group: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, Any]:
    ours = {"step": theirs.get("step", 1)}
    slots = COUNTERPARTS[rule].slots
    ours |= {own: theirs[name] for name, own in slots.items() if name in theirs}
    if rule is rules.AdaGrad and is_dense(s := ours.get("s")):
        ours["s"] = s - float(group["initial_accumulator"])
    return ours


def is_dense(value: object) -> TypeGuard[Tensor]:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.layout is torch.strided
        and not value.is_meta
    )


def to_torch(
    rule: type[Rule], state_dict: Mapping[str, Any], parameters: Iterable[Tensor]
) -> dict[str, Any]:
    """The state dict of PyTorch's optimizer that goes on alike; ValueError if there is none."""
    if rule not in COUNTERPARTS:
        raise ValueError(f"torch.optim has no {rule.__name__}")
    ours = state_dict["param_groups"]
    groups = [group_to_torch(rule, group) for group in ours]
    belongs = chain.from_iterable((group,) * len(group["params"]) for group in ours)
    indices = chain.from_iterable(group["params"] for group in ours)
    state = {}
    for index, group, p in zip(indices, belongs, parameters, strict=True):
        entries = state_dict["state"].get(index, {})
        if rule is rules.AdaGrad and "step" not in entries:  # PyTorch's has a state before a step
            entries = {"step": 0, "s": torch.zeros_like(p, dtype=state_dtype(p))}
        if rule is rules.Muon and p.ndim != 2:
            raise ValueError(f"torch.optim.Muon has no parameters of shape {list(p.shape)}")
        if theirs := state_to_torch(rule, group, entries):
            state[index] = theirs
    return {"state": state, "param_groups": groups}


def group_to_torch(rule: type[Rule], ours: Mapping[str, Any]) -> dict[str, Any]:
    other = COUNTERPARTS[rule]
    only_ours = {**other.ours, **{n: d.default for n, d in OPTIONS.items() if n != "maximize"}}
    without_effect = {"form", *BESIDE}
    if not ours["weight_decay"] or rule is rules.Muon:  # which decays matrices alone
        without_effect.add("weight_decay_on")
    for name, accepted in only_ours.items():
        if ours[name] != accepted and name not in without_effect:
            raise ValueError(
                f"{name}={ours[name]!r} has no counterpart in torch.optim.{other.name}"
            )
    theirs_for = {ours: name for name, ours in HYPERPARAMETERS.items()}
    ours_alone = {"path", *chain.from_iterable(TUPLES.values()), *only_ours, *FLAGS}
    theirs = {theirs_for.get(n, n): v for n, v in ours.items() if n not in ours_alone}
    for name, parts in TUPLES.items():
        if parts[0] in rule.hyperparameters:
            theirs[name] = tuple(ours[part] for part in parts)
    if ours.get("form") == "average_ahead":
        raise ValueError(f"form='average_ahead' has no counterpart in torch.optim.{other.name}")
    if issubclass(rule, rules.Momentum):
        unit = momentum(rule, {**ours, "lr": 1.0})
        theirs |= {
            name: value * -unit.move * unit.force
            for name, value in theirs.items()
            if name == "lr" or (name.endswith("_lr") and isinstance(value, float))
        }
    defaults = getattr(torch.optim, other.name)([torch.empty(0, 0)]).defaults
    if "maximize" not in defaults and theirs.pop("maximize"):
        raise ValueError(f"maximize=True has no counterpart in torch.optim.{other.name}")
    return {**defaults, **other.theirs, **theirs}


def momentum(rule: type[Rule], group: Mapping[str, Any]) -> SimpleNamespace:
    """A step adds `force·g` to v and `move·v` to p: with `v / force` and `lr = -move·force`, so
    does one of `heavy_ball`."""
    return SimpleNamespace(**rule.coefficients(SimpleNamespace(**group), 1))


def state_to_torch(
    rule: type[Rule], group: Mapping[str, Any], ours: Mapping[str, Any]
) -> dict[str, Any]:
    if "step" not in ours:
        return {}
    other, h, step = COUNTERPARTS[rule], SimpleNamespace(**group), ours["step"]
    slots = rule.variant(h).slots
    theirs = {
        name: ours[own].clone() if own in ours else torch.zeros_like(ours["s"])
        for name, own in other.slots.items()
        if own in slots
    }
    if rule is rules.AdaGrad:
        theirs["sum"] += h.initial_accumulator
    if issubclass(rule, rules.Momentum):
        force = momentum(rule, group).force
        if force == 0:
            raise ValueError(f"form={h.form!r} at lr=0 has no counterpart in torch.optim.SGD")
        theirs["momentum_buffer"] /= force
    scalar = torch.promote_types(torch.get_default_dtype(), torch.float32)
    if rule is rules.NAdam:
        product = float(rules.nadam_product(step) * h.beta1**step)
        theirs["mu_product"] = torch.tensor(product, dtype=scalar)
    if other.name not in ("SGD", "Muon"):
        theirs["step"] = torch.tensor(float(step), dtype=scalar)
    return theirs
