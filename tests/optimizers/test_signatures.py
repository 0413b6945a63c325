"""What type checkers and editors know of the methods."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import optimizers
from optimizers import OPTIMIZERS, stubs
from optimizers.rule import Rule
from optimizers.rules import RULES
from tests.optimizers.helpers import make_parameters

SNIPPET = """
import torch
import optimizers
from optimizers import Adam, Momentum, RMSProp

p = [torch.zeros(3, requires_grad=True)]
adam = Adam(p, 0.1, beta1=0.5, clip_norm=1.0, weight_decay_on="weights")
Adam(p, torch.tensor(0.1), betas=(0.9, 0.99), fused=True, foreach=None)
Adam([{"params": p, "lr": 0.1}])
RMSProp(torch.nn.Linear(2, 2).named_parameters(), centred=True)
optimizers.Lion(p, lr=1)
torch.optim.lr_scheduler.StepLR(adam, 3)
torch.optim.Adam(p).load_state_dict(adam.torch_state_dict())
made: torch.optim.Optimizer = optimizers.OPTIMIZERS["adam"](p, anything=1)
Adam(p, beta3=1)  # call-arg
Adam(p, lr="x")  # arg-type
Adam(p, 0.1, 0.9)  # call-arg
Adam()  # call-arg
Adam(p, betas=0.9)  # arg-type
Adam(p, path="fast")  # arg-type
Momentum(p, form="heavy-ball")  # arg-type
RMSProp(p, centred="yes")  # arg-type
optimizers.SGD(p, betas=(0.9, 0.99))  # call-arg
optimizers.Adma  # attr-defined
"""


@pytest.mark.slow
def test_a_type_checker_knows_right_from_wrong(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As a person's project sees the installed package."""
    (tmp_path / "snippet.py").write_text(SNIPPET)
    cache = request.config.cache.mkdir("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), "snippet.py"]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    found = re.findall(r"^snippet.py:(\d+): error: .*\[(.*)\]$", out, re.MULTILINE)
    lines = enumerate(SNIPPET.splitlines(), 1)
    wrong = [(str(i), line.split("  # ")[1]) for i, line in lines if "  # " in line]
    assert found == wrong, out


def test_the_stub_is_the_one_that_the_rules_give() -> None:
    told = "run `python -m optimizers.stubs`"
    assert stubs.STUB.read_text(encoding="utf-8") == stubs.text(), told
    assert files("optimizers").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_stub_has_what_is_accepted(name: str) -> None:
    """With its default, which `repr` writes so that it can be read."""
    stub = stubs.stub(OPTIMIZERS[name])
    for parameter in inspect.signature(OPTIMIZERS[name]).parameters.values():
        default = repr(parameter.default).replace("'", '"')
        expected = " = .*" if parameter.default is parameter.empty else f" = {re.escape(default)},"
        assert parameter.name == "params" or re.search(rf"\b{parameter.name}: .*{expected}", stub)


@pytest.mark.parametrize("rule", RULES.values())
def test_a_class_comes_from_its_rule_alone(rule: type[Rule]) -> None:
    """And is one like any other: it has a home, a docstring, and can be pickled and extended."""
    method = getattr(optimizers, rule.__name__)
    assert method.rule is rule
    assert method.__doc__ == rule.__doc__
    assert repr(method) == f"<class 'optimizers.methods.{rule.__name__}'>"
    assert pickle.loads(pickle.dumps(method)) is method
    made = method(make_parameters(), lr=0.5)
    assert repr(made).startswith(f"{rule.__name__} (\nParameter Group 0\n")
    assert pickle.loads(pickle.dumps(made)).param_groups[0]["lr"] == 0.5
    inherited = type("Mine", (method,), {})([torch.ones(2)])
    assert inherited.rule is rule
    assert copy.deepcopy(made).rule is rule


def test_all_names_are_found() -> None:
    names = {rule.__name__ for rule in RULES.values()}
    assert set(optimizers.__all__) >= {*names, "OPTIMIZERS", "Newton", "ScheduledLR", "Stack"}
    assert all(getattr(optimizers, name) for name in optimizers.__all__)
    with pytest.raises(AttributeError, match="module 'optimizers' has no attribute 'Adma'"):
        optimizers.Adma  # noqa: B018
