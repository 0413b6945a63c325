"""Methods that are no rule: they ask for the loss at several points, or for its second derivatives.

They are here to be compared with. Each step needs a closure that returns the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.optimizer import ParamsT

from .loading import check_form, check_groups, hooked
from .rule import Hyperparameter, flag, nonnegative

# A Hessian of so many rows takes 32 MB in float64.
MOST_COORDINATES = 2_000


class Resumable(torch.optim.Optimizer):
    """Takes a state dict of its own method only."""

    hyperparameters: ClassVar[Mapping[str, Hyperparameter]]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "method": type(self).__name__}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_form(state_dict)
        with hooked(self, self._checked):
            super().load_state_dict(state_dict)

    def _checked(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        name = type(self).__name__
        if any(self.hyperparameters.keys() - group.keys() for group in state_dict["param_groups"]):
            state_dict = {"method": "another method", **state_dict}
        check_groups(name, self.hyperparameters, self.param_groups, state_dict)
        return dict(state_dict)


class RandomSearch(Resumable):
    """Draws a point and keeps it if the loss is lower there, on the same data.

    The point is normal about the present one with standard deviation lr, or if `local` is false
    about zero. The draw is a function of `seed` and the count of steps. The closure is called with
    autograd off.
    """

    hyperparameters: ClassVar = {
        "lr": nonnegative(0.1),
        "local": flag(True),
        "seed": Hyperparameter(0, "[0, inf)", kind=int),
    }

    def __init__(
        self, params: ParamsT, lr: float = 0.1, *, local: bool = True, seed: int = 0
    ) -> None:
        defaults = {"lr": lr, "local": local, "seed": seed}
        for name, declared in self.hyperparameters.items():
            declared.check(name, defaults[name])
        super().__init__(params, {**defaults, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        evaluate = given(closure)
        loss = evaluate()
        held = [(p, p.clone()) for group in self.param_groups for p in group["params"]]
        first = self.param_groups[0]
        generator = torch.Generator().manual_seed(first["seed"] * 1_000_003 + first["steps"])
        first["steps"] += 1
        for group in self.param_groups:
            for p in group["params"]:
                noise = torch.randn(p.shape, dtype=p.dtype, generator=generator).to(p.device)
                p.copy_(group["local"] * p + group["lr"] * noise)
        if not evaluate() < loss:
            for p, value in held:
                p.copy_(value)
        return loss


class Newton(Resumable):
    """`p ← p - lr·(H + damping·I)⁻¹ g`, over all parameters at once: exact on a quadratic.

    The closure returns the loss and leaves `backward` alone.
    """

    hyperparameters: ClassVar = {"lr": nonnegative(1.0), "damping": nonnegative(0.0)}

    def __init__(self, params: ParamsT, lr: float = 1.0, *, damping: float = 0.0) -> None:
        defaults = {"lr": lr, "damping": damping}
        for name, declared in self.hyperparameters.items():
            declared.check(name, defaults[name])
        super().__init__(params, defaults)
        count = sum(p.numel() for p in self._parameters())
        if count > MOST_COORDINATES or len(self.param_groups) > 1:
            raise ValueError(
                f"Newton takes one param_group of at most {MOST_COORDINATES} numbers, "
                f"not {len(self.param_groups)} of {count}"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        params, group = self._parameters(), self.param_groups[0]
        with torch.enable_grad():
            loss = given(closure)()
            parts = torch.autograd.grad(
                loss, params, create_graph=True, allow_unused=True, materialize_grads=True
            )
            g = torch.cat([part.reshape(-1) for part in parts])
            rows = torch.autograd.grad(
                g, params, torch.eye(len(g)).to(g), is_grads_batched=True, materialize_grads=True
            )
        hessian = torch.cat([row.reshape(len(g), -1) for row in rows], dim=1)
        hessian.diagonal().add_(group["damping"])
        direction = torch.linalg.solve(hessian, g.detach())
        vector_to_parameters(parameters_to_vector(params) - group["lr"] * direction, params)
        return loss.detach()

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


def given(closure: Callable[[], Any] | None) -> Callable[[], Any]:
    if closure is None:
        raise ValueError("step needs a closure that returns the loss")
    return closure
