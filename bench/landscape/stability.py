"""Up to which curvature an optimizer's steps are stable on a quadratic: the edge of stability.

Gradient descent on a quadratic diverges along an eigenvector whose eigenvalue is over 2/lr. Cohen
et al. 2021 (arXiv:2103.00065) found that full-batch training brings the largest eigenvalue, the
sharpness, up to there and keeps it around; for methods with a preconditioner P that of
P^(-1/2) H P^(-1/2) (Cohen et al. 2022, arXiv:2207.14484).

No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from bench.settings.schema import multipliers, rule_of, total_steps
from optimizers.rule import Rule
from optimizers.rules import (
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    AMSGrad,
    Decoupled,
    Momentum,
    Nesterov,
    RMSProp,
)

# The slot that holds squared gradients, added up or averaged.
SQUARES: Mapping[type[Rule], str] = {
    AdaGrad: "s", RMSProp: "s", Adam: "v", AdamW: "v", AMSGrad: "v_max",
}  # fmt: skip
KNOWN = (SGD, Momentum, Nesterov, *SQUARES)


@dataclass(frozen=True)
class Bound:
    """
    Attributes:
        value: of the largest eigenvalue of P^(-1/2) (H + weight_decay) P^(-1/2); None if unknown.
        reason: why it is not known.
        weight_decay: what the optimizer itself adds to the Hessian.
        slot: whose root, times ``root``, plus ``eps``, P is, after ``initial`` was added; None for
            a method without P.
    """

    value: float | None
    reason: str | None = None
    weight_decay: float = 0.0
    slot: str | None = None
    root: float = 1.0
    eps: float = 0.0
    initial: float = 0.0


def squares_of(optimizer: Mapping[str, Any]) -> str | None:
    """The slot that holds squared gradients of an optimizer of ours; None where none does."""
    rule = rule_of(optimizer)
    return None if rule is None else SQUARES.get(rule)


def bound(config: Mapping[str, Any], steps: int) -> Bound:
    """Of a run's optimizer after so many steps, at the learning rate of the last one."""
    optimizer = config["optimizer"]
    rule, name = rule_of(optimizer), optimizer["name"]
    if reason := _reason(optimizer, rule):
        return Bound(None, reason)
    assert rule is not None
    multiplier = multipliers(config["schedule"], total_steps(config))[max(steps, 1) - 1]
    h = SimpleNamespace(**{**optimizer, "lr": optimizer["lr"] * multiplier})
    if not h.lr > 0:
        return Bound(None, f"{name}'s learning rate is 0 there, which is stable anywhere")
    c = SimpleNamespace(**rule.coefficients(h, max(steps, 1)))
    decay = h.weight_decay
    if rule is SGD:
        return Bound(2 / h.lr, weight_decay=decay)
    if issubclass(rule, Momentum):
        rho, step = h.momentum, abs(c.force * c.move)
        most = 2 * (1 + rho)
        ahead = 1 + 2 * rho if rule is Nesterov else 1
        return Bound(most / ahead / step, weight_decay=decay)
    known: dict[str, Any] = {"slot": SQUARES[rule], "eps": c.eps, "weight_decay": decay}
    if rule is AdaGrad:
        return Bound(2 / h.lr, initial=c.initial, **known)
    if rule is RMSProp:
        return Bound(2 / h.lr, **known)
    beta = h.beta1
    return Bound(2 * (1 + beta) / (1 - beta) / c.lr, root=c.root, **known)


def _reason(optimizer: Mapping[str, Any], rule: type[Rule] | None) -> str | None:
    name = optimizer["name"]
    if rule is None or rule not in KNOWN:
        return f"2/lr is no bound of {name}'s: it says when gradient descent is stable"
    if optimizer.get("centred") or (rule is RMSProp and optimizer["momentum"]):
        return f"no bound is known of {name} with centring or momentum"
    if issubclass(rule, Decoupled) and optimizer["weight_decay"]:
        return f"no bound is known of {name} with decoupled weight decay"
    if optimizer["clip_norm"]:
        return "no bound is known where gradients are clipped"
    if optimizer["weight_decay"] and optimizer["weight_decay_on"] != "all":
        return "no bound is known where weight decay is of some parameters only"
    return "the loss is maximised" if optimizer["maximize"] else None
