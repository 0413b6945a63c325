"""Each rule as an optimizer: a class of the rule's name, made from `RULES`."""

from __future__ import annotations

from .optimizer import Optimizer
from .rules import RULES

OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: type(rule.__name__, (Optimizer,), {"rule": rule, "__module__": __name__})
    for name, rule in RULES.items()
}
globals().update({method.__name__: method for method in OPTIMIZERS.values()})
