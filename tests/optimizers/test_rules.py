"""What every rule keeps to, whatever it computes."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from optimizers import rules
from optimizers.rule import OPTIONS, Hyperparameter, Rule
from optimizers.rules import RULES

VARIANTS = [*RULES.values(), rules.RMSPropFull]


def defaults(rule: type[Rule]) -> SimpleNamespace:
    declared = {**rule.hyperparameters, **OPTIONS}
    return SimpleNamespace(**{name: h.default for name, h in declared.items()})


@pytest.mark.parametrize("rule", VARIANTS)
def test_update_is_pure(rule: type[Rule]) -> None:
    p, g, *state = torch.rand(2 + len(rule.slots), 4, 3)
    before = [x.clone() for x in (p, g, *state)]
    c = SimpleNamespace(**rule.all_coefficients(defaults(rule), 3))
    next_p, next_state = rule.step(p, g, tuple(state), c)
    assert all(map(torch.equal, (p, g, *state), before))
    assert not torch.equal(next_p, p)
    assert [x.shape for x in next_state] == [p.shape] * len(rule.slots)


@pytest.mark.parametrize("rule", VARIANTS)
def test_coefficients_are_float64(rule: type[Rule]) -> None:
    assert all(type(c) in (float, int) for c in rule.coefficients(defaults(rule), 1).values())


@pytest.mark.parametrize("rule", VARIANTS)
def test_update_has_no_branch_and_no_loop(rule: type[Rule]) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(rule.update)))
    branches = (ast.If, ast.IfExp, ast.For, ast.While, ast.BoolOp, ast.Compare, ast.AugAssign)
    assert not any(isinstance(node, branches) for node in ast.walk(tree))
    (function,) = tree.body
    assert isinstance(function, ast.FunctionDef)
    assert len(function.body) <= 8


@pytest.mark.parametrize("rule", VARIANTS)
def test_docstrings_are_short(rule: type[Rule]) -> None:
    assert rule.__doc__
    assert len(rule.__doc__.strip().splitlines()) <= 12


def test_rules_mention_no_path_device_or_dtype() -> None:
    text = inspect.getsource(rules).lower()
    for word in ("path", "device", "dtype", "cuda", "cpu", "torch.", "float32", "compil"):
        assert word not in text


def test_rules_and_schedules_do_not_import_torch() -> None:
    code = (
        "import sys, optimizers, optimizers.rules, optimizers.schedules;"
        "assert 'torch' not in sys.modules; optimizers.Adam; assert 'torch' in sys.modules"
    )
    root = Path(rules.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.parametrize("rule", RULES.values())
def test_defaults_are_accepted(rule: type[Rule]) -> None:
    for name, declared in {**rule.hyperparameters, **OPTIONS}.items():
        declared.check(name, declared.default)


@pytest.mark.parametrize(
    ("declared", "accepted", "rejected"),
    [
        (Hyperparameter(0.5, "[0, 1)"), [0, 0.999], [1, -1e-9, float("nan"), "0.5", None, True]),
        (Hyperparameter(0.5, "(0, 1]"), [1, 1e-9], [0, 1.001]),
        (Hyperparameter(None, "(0, inf)"), [None, 3], [0, float("inf")]),
        (Hyperparameter(1, "[1, inf)", kind=int), [1, 7.0], [0, 1.5]),
        (Hyperparameter("a", choices=("a", "b"), kind=str), ["a", "b"], ["c", 1, None]),
        (Hyperparameter(False, choices=(False, True), kind=bool), [True, False], [1, 0.0, "yes"]),
    ],
)
def test_what_a_hyperparameter_accepts(
    declared: Hyperparameter, accepted: list[object], rejected: list[object]
) -> None:
    for value in accepted:
        declared.check("x", value)
    for value in rejected:
        with pytest.raises(ValueError, match=r"^x=.* is not accepted: it must be "):
            declared.check("x", value)
