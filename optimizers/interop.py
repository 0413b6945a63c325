"""State dicts of `torch.optim`, for going on with a training that PyTorch's optimizer began."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .rule import Decoupled, Rule
from .rules import AMSGrad, Nesterov

SLOTS = {
    "exp_avg": "m",
    "exp_avg_sq": "v",
    "max_exp_avg_sq": "v_max",
    "exp_inf": "u",
    "square_avg": "s",
    "sum": "s",
    "grad_avg": "mean",
    "momentum_buffer": "v",
}
HYPERPARAMETERS = {
    "alpha": "decay",
    "centered": "centred",
    "initial_accumulator_value": "initial_accumulator",
}


def is_from_torch(state_dict: dict[str, Any]) -> bool:
    return any("foreach" in group for group in state_dict["param_groups"])


def from_torch(rule: type[Rule], state_dict: dict[str, Any]) -> dict[str, Any]:
    """The state dict that our optimizer of the same method would have; ValueError if none."""
    groups = [group_from_torch(rule, group) for group in state_dict["param_groups"]]
    state = {}
    for group in groups:
        for index in group["params"]:
            if entries := state_dict["state"].get(index):
                state[index] = state_from_torch(rule, group, entries)
    return {"state": state, "param_groups": groups}


def group_from_torch(rule: type[Rule], theirs: dict[str, Any]) -> dict[str, Any]:
    only_counterpart = {
        "dampening": 0,
        "lr_decay": 0,
        "momentum_decay": 4e-3,
        "nesterov": issubclass(rule, Nesterov),
        "amsgrad": issubclass(rule, AMSGrad),
        "decoupled_weight_decay": issubclass(rule, Decoupled),
    }
    for name, accepted in only_counterpart.items():
        if theirs.get(name, accepted) != accepted:
            raise ValueError(f"{name}={theirs[name]} has no counterpart in {rule.__name__}")
    ours = {HYPERPARAMETERS.get(name, name): value for name, value in theirs.items()}
    ours |= dict(zip(("beta1", "beta2"), theirs.get("betas", ()), strict=False))
    if "form" in rule.hyperparameters:
        ours["form"] = "heavy_ball"
    return {k: v for k, v in ours.items() if k in {"params", "maximize", *rule.hyperparameters}}


def state_from_torch(
    rule: type[Rule], group: dict[str, Any], theirs: dict[str, Any]
) -> dict[str, Any]:
    ours: dict[str, Any] = {"step": int(theirs.get("step", 1))}
    for name, value in theirs.items():
        if name in SLOTS and isinstance(value, Tensor):
            ours[SLOTS[name]] = value
    if "initial_accumulator" in group:
        ours["s"] = ours["s"] - group["initial_accumulator"]
    return ours
