"""`python -m optimizers.stubs` writes `methods.pyi`, for type checkers and editors.

A method's signature is made from its rule at run time, where neither of them looks.
"""

from __future__ import annotations

from pathlib import Path

from . import methods
from .interop import FLAGS
from .optimizer import Optimizer
from .rule import Hyperparameter

STUB = Path(methods.__file__).with_suffix(".pyi")

HEAD = '''"""Written by `python -m optimizers.stubs`."""

from typing import Literal

from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Optimizer
'''
TAIL = """
OPTIMIZERS: dict[str, type[Optimizer]]
"""


def text() -> str:
    return HEAD + "".join(map(stub, methods.OPTIMIZERS.values())) + TAIL


def stub(method: type[Optimizer]) -> str:
    declared = method.declared()
    lr, *others = (f"{n}: {accepts(n, d)} = {d.default!r}" for n, d in declared.items())
    if {"beta1", "beta2"} <= declared.keys():
        others.append("betas: tuple[float, float] | None = None")
    others += [f"{flag}: bool | None = None" for flag in sorted(FLAGS - declared.keys())]
    parameters = ",\n        ".join(["self", "params: ParamsT", lr, "*", *others])
    return f"""
class {method.__name__}(Optimizer):
    def __init__(
        {parameters},
    ) -> None: ...
""".replace("'", '"')


def accepts(name: str, declared: Hyperparameter) -> str:
    kinds = [declared.kind.__name__]
    if declared.choices and declared.kind is str:
        kinds = [f"Literal[{', '.join(map(repr, declared.choices))}]"]
    if name == "lr":
        kinds.append("Tensor")
    if declared.default is None:
        kinds.append("None")
    return " | ".join(kinds)


if __name__ == "__main__":
    STUB.write_text(text(), encoding="utf-8")
