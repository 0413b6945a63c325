"""Methods that are no rule: they ask for the loss at several points, or for its second derivatives.

They are here to be compared with. Each step needs a closure that returns the loss; what it is to
return besides, a class says in `wants`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.optimizer import ParamsT

from .loading import check_form, check_groups, hooked
from .rule import Hyperparameter
from .without_rules import METHODS, MOST_COORDINATES

# Second derivatives are taken so many rows at a time, and so many numbers of the model's output.
ROWS = 128
NUMBERS = 2**24


class Resumable(torch.optim.Optimizer):
    """Takes a state dict of its own method only."""

    hyperparameters: ClassVar[Mapping[str, Hyperparameter]]

    def _checked_defaults(self, **given: Any) -> dict[str, Any]:
        for name, declared in self.hyperparameters.items():
            declared.check(name, given[name])
        return given

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
    about zero. The draw is a function of `seed` and the count of steps; the seed is that of
    PyTorch's global generator where none is given. The closure is called with autograd off.
    """

    hyperparameters: ClassVar = METHODS["random_search"].hyperparameters

    def __init__(
        self, params: ParamsT, lr: float = 0.1, *, local: bool = True, seed: int | None = None
    ) -> None:
        defaults = self._checked_defaults(lr=lr, local=local, seed=seed)
        if seed is None:
            defaults["seed"] = torch.initial_seed()
        super().__init__(params, {**defaults, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        evaluate = given(closure)
        loss = evaluate()
        held = [(p, p.clone()) for group in self.param_groups for p in group["params"]]
        first = self.param_groups[0]
        drawn = (first["seed"] * 1_000_003 + first["steps"]) % 2**63
        generator = torch.Generator().manual_seed(drawn)
        first["steps"] += 1
        for group in self.param_groups:
            for p in group["params"]:
                noise = torch.randn(p.shape, dtype=p.dtype, generator=generator).to(p.device)
                p.copy_(group["local"] * p + group["lr"] * noise)
        if not evaluate() < loss:
            for p, value in held:
                p.copy_(value)
        return loss


class SecondOrder(Resumable):
    """`p ← p - lr·(M + damping·I)⁻¹ g`, over all parameters at once, with a matrix M of theirs.

    Solved in float64.
    """

    def __init__(self, params: ParamsT, lr: float = 1.0, *, damping: float = 0.0) -> None:
        super().__init__(params, self._checked_defaults(lr=lr, damping=damping))
        count = sum(p.numel() for p in self._parameters())
        if count > MOST_COORDINATES or len(self.param_groups) > 1:
            raise ValueError(
                f"{type(self).__name__} takes one param_group of at most {MOST_COORDINATES} "
                f"numbers, not {len(self.param_groups)} of {count}"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        params, group = self._parameters(), self.param_groups[0]
        with torch.enable_grad():
            loss, gradient, matrix = self._measure(given(closure), params)
        for p, part in zip(params, gradient, strict=True):
            p.grad = part.detach()
        g = flat(gradient).detach()
        matrix.diagonal().add_(group["damping"])
        direction, wrong = torch.linalg.solve_ex(matrix, g.double())
        if wrong and matrix.isfinite().all():
            raise ValueError(
                f"damping={group['damping']}: the matrix of {type(self).__name__} is singular; "
                "give a larger damping"
            )
        step = group["lr"] * direction.to(g.dtype)
        vector_to_parameters(parameters_to_vector(params) - step, params)
        return loss.detach()

    def _measure(
        self, closure: Callable[[], Any], params: list[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        """The loss, its gradient, and M ``[P, P]``, float64."""
        raise NotImplementedError

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


class Newton(SecondOrder):
    """`p ← p - lr·(H + damping·I)⁻¹ g` with the Hessian H: exact on a quadratic.

    The closure returns the loss and leaves `backward` alone. Where H has negative eigenvalues a
    step goes uphill along them, to a saddle or a maximum.
    """

    hyperparameters: ClassVar = METHODS["newton"].hyperparameters
    wants: ClassVar = "loss"

    def _measure(
        self, closure: Callable[[], Any], params: list[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        loss = closure()
        gradient = derivative(loss, params, create_graph=True)
        g = flat(gradient)
        matrix = g.new_zeros(len(g), len(g), dtype=torch.float64)
        for at, rows in unit_rows(g, ROWS) if g.requires_grad else ():  # a linear loss has none
            matrix[at] = flat_rows(derivative(g, params, rows)).double()
        return loss, gradient, matrix


class GaussNewton(SecondOrder):
    """Newton with `JᵀLJ` for the Hessian: J of the model's output, L the loss's in the output.

    Where the loss is convex in the output, as a square or cross-entropy is, that has no negative
    eigenvalue; where the output is linear in the parameters, it is the Hessian (Schraudolph, 2002,
    Neural Computation 14). The closure returns the loss and the output, with their graph. What of
    the loss does not go by way of the output, such as a penalty, counts in the gradient alone.
    """

    hyperparameters: ClassVar = METHODS["gauss_newton"].hyperparameters
    wants: ClassVar = "output"

    def _measure(
        self, closure: Callable[[], Any], params: list[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        loss, output = closure()
        if not isinstance(output, Tensor):
            raise TypeError(f"GaussNewton: the output is a {type(output).__name__}, not a tensor")
        gradient = derivative(loss, params, retain_graph=True)
        (slope,) = derivative(loss, [output], create_graph=True)
        g = flat(gradient)
        matrix = g.new_zeros(len(g), len(g), dtype=torch.float64)
        if not slope.requires_grad:
            return loss, gradient, matrix
        along = torch.zeros_like(output, requires_grad=True)
        pulled = flat(derivative(output, params, along, create_graph=True))  # Jᵀ along
        for at, rows in unit_rows(g, max(1, min(ROWS, NUMBERS // output.numel()))):
            (pushed,) = derivative(pulled, [along], rows)  # [n, *output], rows of Jᵀ
            (bent,) = derivative(slope, [output], pushed)
            matrix[at] = flat_rows(derivative(output, params, bent)).double()
        return loss, gradient, matrix


def derivative(
    of: Tensor, by: Sequence[Tensor], along: Tensor | None = None, **options: bool
) -> Sequence[Tensor]:
    """Of `along · of`, or of each row of `along` where it has one dimension more than `of`; zero
    where `of` does not depend on a tensor. Leaves the graph."""
    batched = along is not None and along.ndim > of.ndim
    return torch.autograd.grad(
        of,
        by,
        along,
        is_grads_batched=batched,
        allow_unused=True,
        materialize_grads=True,
        **({"retain_graph": True} | options),
    )


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def flat_rows(parts: Sequence[Tensor]) -> Tensor:
    """``[n, P]`` from parts ``[n, ...]``."""
    return torch.cat([part.reshape(len(part), -1) for part in parts], dim=1)


def unit_rows(like: Tensor, most: int) -> Iterator[tuple[slice, Tensor]]:
    """The rows of the identity ``[P, P]``, at most so many at a time, and which they are."""
    for first in range(0, len(like), most):
        rows = like.new_zeros(min(most, len(like) - first), len(like))
        rows.diagonal(first).fill_(1)
        yield slice(first, first + most), rows


def given(closure: Callable[[], Any] | None) -> Callable[[], Any]:
    if closure is None:
        raise ValueError("step needs a closure that returns the loss")
    return closure
