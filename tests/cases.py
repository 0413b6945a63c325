"""The oracle table: optimizers and the PyTorch methods that they must equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

import optimizers

# Relative error, in norm, after a whole path of steps.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


@dataclass(frozen=True)
class Case:
    name: str
    settings: dict[str, Any]
    reference: str
    reference_settings: dict[str, Any]

    def optimizer(self, params: Any, **more: Any) -> optimizers.Optimizer:
        return optimizers.OPTIMIZERS[self.name](params, **self.settings, **more)

    def oracle(self, params: Any, **more: Any) -> torch.optim.Optimizer:
        return getattr(torch.optim, self.reference)(params, **self.reference_settings, **more)

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.settings.items())])


# Names that PyTorch does not have.
OURS = {"beta1", "beta2", "decay", "centred", "form", "initial_accumulator"}
OURS |= {"ns_a", "ns_b", "ns_c"}


def same(name: str, reference: str, settings: dict[str, Any], **theirs: Any) -> Case:
    """`theirs` are hyperparameters that only PyTorch's name, or name differently."""
    shared = {k: v for k, v in settings.items() if k not in OURS}
    return Case(name, settings, reference, {**shared, **theirs})


CASES = [
    same("sgd", "SGD", {"lr": 0.1}),
    same("sgd", "SGD", {"lr": 0.1, "weight_decay": 0.1}),
    same("sgd", "SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    same("momentum", "SGD", {"lr": 0.1, "momentum": 0.9, "form": "heavy_ball"}),
    same("momentum", "SGD", {"lr": 0.1, "momentum": 0.5, "form": "velocity", "weight_decay": 0.1}),
    same("momentum", "SGD", {"lr": 0.1, "momentum": 0.0, "form": "average"}),
    Case(
        "momentum",
        {"lr": 0.1, "momentum": 0.75, "form": "average"},
        "SGD",
        {"lr": 0.025, "momentum": 0.75},
    ),
    same("nesterov", "SGD", {"lr": 0.1, "momentum": 0.9, "form": "heavy_ball"}, nesterov=True),
    same(
        "nesterov",
        "SGD",
        {"lr": 0.1, "momentum": 0.5, "form": "velocity", "weight_decay": 0.1},
        nesterov=True,
    ),
    same("adagrad", "Adagrad", {}),
    same("adagrad", "Adagrad", {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.1}),
    same("adagrad", "Adagrad", {"initial_accumulator": 0.5}, initial_accumulator_value=0.5),
    same("rmsprop", "RMSprop", {}),
    same("rmsprop", "RMSprop", {"lr": 0.1, "decay": 0.9, "eps": 1e-3}, alpha=0.9),
    same("rmsprop", "RMSprop", {"momentum": 0.9, "weight_decay": 0.1}),
    same("rmsprop", "RMSprop", {"centred": True}, centered=True),
    same("rmsprop", "RMSprop", {"centred": True, "momentum": 0.5}, centered=True),
    same("adam", "Adam", {}),
    same("adam", "Adam", {"lr": 0.1, "beta1": 0.5, "beta2": 0.9}, betas=(0.5, 0.9)),
    same("adam", "Adam", {"eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    same("adam", "Adam", {"beta1": 0.0}, betas=(0.0, 0.999)),
    same("adamw", "AdamW", {}),
    same("adamw", "AdamW", {"lr": 0.1, "weight_decay": 0.3, "beta2": 0.9}, betas=(0.9, 0.9)),
    same("amsgrad", "Adam", {"lr": 0.01, "weight_decay": 0.1}, amsgrad=True),
    same("adamax", "Adamax", {}),
    same("adamax", "Adamax", {"lr": 0.1, "beta2": 0.5, "weight_decay": 0.1}, betas=(0.9, 0.5)),
    same("nadam", "NAdam", {}),
    same("nadam", "NAdam", {"lr": 0.1, "beta1": 0.5, "weight_decay": 0.1}, betas=(0.5, 0.999)),
    same("radam", "RAdam", {}),
    same("radam", "RAdam", {"lr": 0.1, "beta2": 0.9, "weight_decay": 0.1}, betas=(0.9, 0.9)),
    same("radam", "RAdam", {"beta2": 0.6}, betas=(0.9, 0.6)),
]

# Rules on matrices, for parameters that are all matrices of two axes.
MATRIX_CASES = [
    same("muon", "Muon", {}),
    same("muon", "Muon", {"lr": 0.02, "weight_decay": 0.0, "nesterov": False}),
    same("muon", "Muon", {"momentum": 0.8, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw"}),
    same(
        "muon",
        "Muon",
        {"lr": 0.1, "ns_a": 2.0, "ns_b": -1.5, "ns_c": 0.5, "eps": 0.5},
        ns_coefficients=(2.0, -1.5, 0.5),
    ),
]
