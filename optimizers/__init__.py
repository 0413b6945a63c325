"""First-order optimizers, each written once as mathematics and run as fast as the machine allows.

    from optimizers import Adam
    optimizer = Adam(model.parameters(), lr=1e-3)

`rules` and `schedules` need no PyTorch; what does is imported at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .closures import Newton, RandomSearch
    from .lr_scheduler import ScheduledLR
    from .methods import (
        OPTIMIZERS,
        SGD,
        AdaGrad,
        Adam,
        AdaMax,
        AdamW,
        AMSGrad,
        Lion,
        Momentum,
        NAdam,
        Nesterov,
        Normalised,
        RAdam,
        RMSProp,
    )
    from .stack import Stack

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "AMSGrad",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "AdamW",
    "Lion",
    "Momentum",
    "NAdam",
    "Nesterov",
    "Newton",
    "Normalised",
    "RAdam",
    "RMSProp",
    "RandomSearch",
    "ScheduledLR",
    "Stack",
]

ELSEWHERE = {
    "Newton": "closures",
    "RandomSearch": "closures",
    "ScheduledLR": "lr_scheduler",
    "Stack": "stack",
}

if not TYPE_CHECKING:  # it would have every name accepted

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return getattr(import_module(f".{ELSEWHERE.get(name, 'methods')}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
