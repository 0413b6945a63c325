"""First-order optimizers, each written once as mathematics and run as fast as the machine allows.

    from optimizers import Adam
    optimizer = Adam(model.parameters(), lr=1e-3)

`rules` and `schedules` need no PyTorch; what does is imported at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .rules import RULES
from .without_rules import METHODS

if TYPE_CHECKING:
    from .closures import GaussNewton as GaussNewton
    from .closures import Newton as Newton
    from .closures import RandomSearch as RandomSearch
    from .lr_scheduler import ScheduledLR as ScheduledLR
    from .methods import *  # noqa: F403
    from .stack import Stack as Stack

HOMES = {
    **{rule.__name__: "methods" for rule in RULES.values()},
    "OPTIMIZERS": "methods",
    **{method.kind: "closures" for method in METHODS.values()},
    "ScheduledLR": "lr_scheduler",
    "Stack": "stack",
}

if not TYPE_CHECKING:  # it would have every name accepted
    __all__ = list(HOMES)

    def __getattr__(name: str) -> Any:
        if name in HOMES:
            return getattr(import_module(f".{HOMES[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
