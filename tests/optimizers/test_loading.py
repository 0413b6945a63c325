"""What is refused by `load_state_dict`, before anything changes, and what is not."""

from __future__ import annotations

import copy
import random
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import optimizers
from optimizers import OPTIMIZERS, Adam, Momentum, Newton, RandomSearch, RMSProp
from optimizers.loading import variants
from optimizers.rules import RULES
from tests.optimizers.helpers import descend, equal, make_parameters, relative_error

SHAPES = [(3,), (2, 4)]


def stepped(make: Any, steps: int = 2, **settings: Any) -> tuple[Any, list[Tensor]]:
    parameters = make_parameters(SHAPES)
    optimizer = make(parameters, lr=0.1, **settings)
    descend([optimizer], parameters, steps=steps)
    return optimizer, parameters


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


def refused(optimizer: torch.optim.Optimizer, state_dict: Any, message: str) -> None:
    before = copy.deepcopy(optimizer.state_dict())
    tensors = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
    with pytest.raises((ValueError, TypeError), match=message):
        optimizer.load_state_dict(state_dict)
    assert same(optimizer.state_dict(), before)
    after = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
    assert all(a is b for a, b in zip(after, tensors, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("other", OPTIMIZERS)
def test_ours_of_another_method(name: str, other: str) -> None:
    saved = stepped(OPTIMIZERS[other])[0].state_dict()
    optimizer, _ = stepped(OPTIMIZERS[name])
    if name == other:
        optimizer.load_state_dict(saved)
    else:
        theirs, ours = (OPTIMIZERS[n].rule.__name__ for n in (other, name))
        refused(optimizer, saved, f"the state dict is {theirs}'s, not {ours}'s")


@pytest.mark.parametrize("rule", RULES.values())
@pytest.mark.parametrize("changed", [{}, {"momentum": 0.5}, {"centred": True}])
def test_every_variant_is_known(rule: Any, changed: dict[str, Any]) -> None:
    defaults = {name: declared.default for name, declared in rule.hyperparameters.items()}
    assert rule.variant(SimpleNamespace(**{**defaults, **changed})) in variants(rule)


# Of these, names and slots are the same.
ALIKE = [{"momentum", "nesterov"}, {"adam", "adamw"}, {"nadam", "radam"}]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("other", OPTIMIZERS)
def test_ours_from_before_it_named_its_method(name: str, other: str) -> None:
    saved = stepped(OPTIMIZERS[other])[0].state_dict()
    del saved["method"]
    optimizer, _ = stepped(OPTIMIZERS[name])
    if len({name, other}) == 1 or {name, other} in ALIKE:
        optimizer.load_state_dict(saved)
    else:
        theirs, ours = (OPTIMIZERS[n].rule.__name__ for n in (other, name))
        refused(optimizer, saved, rf"the state dict is (.* or )?{theirs}( or .*)?'s, not {ours}'s")


TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "SGD momentum": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
    "SGD nesterov": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
    "Adagrad": torch.optim.Adagrad,
    "RMSprop": torch.optim.RMSprop,
    "RMSprop full": lambda p, lr: torch.optim.RMSprop(p, lr, centered=True, momentum=0.9),
    "Adam": torch.optim.Adam,
    "Adam amsgrad": lambda p, lr: torch.optim.Adam(p, lr, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "Adamax": torch.optim.Adamax,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adadelta": torch.optim.Adadelta,
    "ASGD": torch.optim.ASGD,
    "Rprop": torch.optim.Rprop,
    "Adafactor": torch.optim.Adafactor,
}
SAME_METHOD = {
    ("SGD", "sgd"),
    ("SGD", "momentum"),  # at momentum 0
    ("SGD momentum", "momentum"),
    ("SGD nesterov", "nesterov"),
    ("Adagrad", "adagrad"),
    ("RMSprop", "rmsprop"),
    ("RMSprop full", "rmsprop"),
    ("Adam", "adam"),
    ("Adam amsgrad", "amsgrad"),
    ("AdamW", "adamw"),
    ("Adamax", "adamax"),
    ("NAdam", "nadam"),
    ("RAdam", "radam"),
}


@pytest.mark.parametrize("theirs", TORCH)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pytorchs_of_another_method(theirs: str, name: str) -> None:
    saved = stepped(TORCH[theirs])[0].state_dict()
    optimizer, _ = stepped(OPTIMIZERS[name])
    if (theirs, name) in SAME_METHOD:
        optimizer.load_state_dict(saved)
    else:
        ours = optimizer.rule.__name__
        method = rf"is torch\.optim\.{theirs.split()[0]}'s, not one of {ours}'s$"
        refused(optimizer, saved, f"{method}|has no counterpart in {ours}")


@pytest.mark.parametrize("theirs", ["LBFGS", "SparseAdam", "Muon"])
def test_pytorchs_that_take_no_common_step(theirs: str) -> None:
    saved = getattr(torch.optim, theirs)(make_parameters([(2, 2)])).state_dict()
    optimizer = Adam(make_parameters([(2, 2)]))
    refused(optimizer, saved, f"is torch.optim.{theirs}'s, not one of Adam's")


def test_a_method_of_neither() -> None:
    group = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0, "params": [0, 1]}
    saved = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [group]}
    for method in (optimizers.Lion, optimizers.SGD, Adam):
        refused(stepped(method)[0], saved, "is of a method with lr, betas, weight_decay, not one")


def test_pytorchs_of_before_its_flags() -> None:
    """State dicts of PyTorch 1.9, which had fewer names."""
    saved = stepped(torch.optim.Adam)[0].state_dict()
    for name in ("foreach", "maximize", "capturable", "differentiable", "fused"):
        del saved["param_groups"][0][name]
    del saved["param_groups"][0]["decoupled_weight_decay"]
    for entries in saved["state"].values():
        entries["step"] = int(entries["step"])
    optimizer, _ = stepped(Adam)
    optimizer.load_state_dict(saved)
    assert optimizer.state_dict()["state"][0]["step"] == 2
    refused(stepped(Momentum)[0], saved, "is torch.optim.Adam's, not one of Momentum's")


def damaged(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    saved = copy.deepcopy(stepped(Adam)[0].state_dict())
    change(saved)
    return saved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["state"][1].update(m=torch.zeros(4, 2)),
            r"m of parameter 1 has shape \[4, 2\]",
        ),
        (lambda d: d["state"][0].update(v=torch.zeros(())), r"shape \[\], the parameter \[3\]"),
        (
            lambda d: d["state"][0].update(v=torch.zeros(3).int()),
            "v of parameter 0 is .*int32 on cpu",
        ),
        (
            lambda d: d["state"][0].update(v=torch.zeros(3).to_sparse()),
            "v of parameter 0 is .*sparse",
        ),
        (
            lambda d: d["state"][0].update(v=torch.zeros(3, device="meta")),
            "on meta: no tensor",
        ),
        (
            lambda d: d["state"][0].update(v=[0.0, 0.0, 0.0]),
            r"v of parameter 0 is \[0.0, 0.0, 0.0\]: no",
        ),
        (lambda d: d["state"][0].update(v=None), "v of parameter 0 is None: no tensor"),
        (
            lambda d: d["state"][1].update(m=d["state"][1]["m"].numpy()),
            r"m of parameter 1 is array\(.{60,90}\.\.\.: no tensor of real floats$",
        ),
        (
            lambda d: d["state"].update({7: d["state"].pop(0)}),
            "there is state for 7, which is in no param_group",
        ),
        (lambda d: d["state"][1].pop("v"), "the state of parameter 1 lacks v"),
        (lambda d: d["state"][1].pop("step"), "the state of parameter 1 lacks step"),
        (
            lambda d: d["state"][0].update(step=-1),
            "step of parameter 0 is -1: it must be a whole number",
        ),
        (lambda d: d["state"][0].update(step=float("nan")), "step of parameter 0 is nan"),
        (lambda d: d["state"][0].update(step=float("inf")), "step of parameter 0 is inf"),
        (lambda d: d["state"][0].update(step=1.5), "step of parameter 0 is 1.5"),
        (lambda d: d["state"][0].update(step="3"), "step of parameter 0 is '3'"),
        (lambda d: d["state"][0].update(step=True), "step of parameter 0 is True"),
        (lambda d: d["state"][0].update(step=torch.ones(3)), r"step of parameter 0 is tensor\(\[1"),
        (
            lambda d: d["state"].update({0: [1, 2]}),
            r"the state of parameter 0 is \[1, 2\], no dict",
        ),
        (
            lambda d: d["param_groups"][0]["params"].pop(),
            r"of \[1\] parameters, the optimizer has \[2\]",
        ),
        (lambda d: d["param_groups"].append(d["param_groups"][0]), r"of \[2, 2\] parameters"),
        (lambda d: d["param_groups"].clear(), r"param_groups of \[\] parameters"),
        (lambda d: d["param_groups"][0].pop("params"), "no optimizer's state dict, .* with params"),
        (lambda d: d["param_groups"][0].update(beta1=1.0), "beta1=1.0 is not accepted"),
        (lambda d: d["param_groups"][0].update(lr=float("nan")), "lr=nan is not accepted"),
        (lambda d: d["param_groups"][0].update(path="fast"), "path='fast' is not accepted"),
        (lambda d: d.pop("state"), "no optimizer's state dict, .*: it has param_groups, method$"),
        (lambda d: d.update(param_groups=None), "no optimizer's state dict"),
        (
            lambda d: d.clear(),
            "no optimizer's state dict, .*: it has nothing$",
        ),
    ],
)
def test_damaged(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    refused(stepped(Adam)[0], damaged(change), message)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"model": {}, "optimizer": {}},
            "no optimizer's state dict, .*: it has model, optimizer$",
        ),
        (nn.Linear(2, 2).state_dict(), "no optimizer's state dict, .*: it has weight, bias$"),
        (None, "a state dict is needed, not NoneType"),
        ("last.ckpt", "a state dict is needed, not str"),
    ],
)
@pytest.mark.parametrize("method", [Adam, Newton, RandomSearch])
def test_no_state_dict(method: Any, given: Any, message: str) -> None:
    refused(method(make_parameters(SHAPES)), given, message)


@pytest.mark.parametrize(("method", "other"), [(Newton, RandomSearch), (RandomSearch, Newton)])
def test_methods_that_are_no_rule(method: Any, other: Any) -> None:
    optimizer = method(make_parameters(SHAPES), 0.5)
    saved = method(make_parameters(SHAPES), 0.25).state_dict()
    foreign = [other, Adam, torch.optim.Adam]
    for make in foreign:
        state_dict = make(make_parameters(SHAPES)).state_dict()
        refused(optimizer, state_dict, f"the state dict is .*'s, not {method.__name__}'s")
    refused(optimizer, {**saved, "param_groups": []}, r"for param_groups of \[\] parameters")
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.25
    del saved["method"]
    optimizer.load_state_dict(saved)


def test_an_older_state_dict_without_newer_hyperparameters() -> None:
    first, ours = stepped(RMSProp)
    saved = copy.deepcopy(first.state_dict())
    for name in ("centred", "momentum", "gradient", "clip_norm"):
        del saved["param_groups"][0][name]
    for state_dict in (saved, {k: v for k, v in saved.items() if k != "method"}):
        again = [p.detach().clone().requires_grad_() for p in ours]
        second = RMSProp(again)
        second.load_state_dict(state_dict)
        assert second.param_groups[0].items() >= {"lr": 0.1, "centred": False}.items()
        twin = [p.detach().clone().requires_grad_() for p in ours]
        third = RMSProp(twin)
        third.load_state_dict(first.state_dict())
        descend([second, third], again, twin, steps=2)
        assert equal(again, twin)


@pytest.mark.parametrize("marked", [True, False])
def test_variants(marked: bool) -> None:
    """With more slots than the group needs now, and with fewer."""
    full, _ = stepped(RMSProp, momentum=0.9)
    full.param_groups[0]["momentum"] = 0.0
    plain, _ = stepped(RMSProp)
    plain.param_groups[0]["momentum"] = 0.9
    for first in (full, plain):
        saved = first.state_dict()
        if not marked:
            del saved["method"]
        second, parameters = stepped(RMSProp)
        second.load_state_dict(saved)
        descend([second], parameters, steps=1)
        assert second.param_groups[0]["momentum"] == first.param_groups[0]["momentum"]


def test_what_people_keep_in_the_state_is_left_alone() -> None:
    first, parameters = stepped(Adam)
    first.state[parameters[0]]["scale"] = torch.tensor(2.0)
    first.state[parameters[1]]["note"] = 7
    second, _ = stepped(Adam, steps=0)
    second.load_state_dict(first.state_dict())
    kept = second.state_dict()["state"]
    assert kept[0]["scale"].shape == ()
    assert kept[1]["note"] == 7
    fresh = Adam(parameters)
    fresh.state[parameters[0]]["note"] = 7
    second.load_state_dict(fresh.state_dict())
    assert second.state_dict()["state"] == {0: {"note": 7}}
    assert fresh.torch_state_dict()["state"] == {}


def named(model: nn.Module, order: int = 1) -> Any:
    return [*model.named_parameters()][::order]


def test_parameters_in_another_order() -> None:
    """Of equal shape, they would get each other's state."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    saved = Adam(named(model)).state_dict()
    assert saved["param_groups"][0]["param_names"] == ["0.weight", "1.weight"]
    refused(Adam(named(model, -1)), saved, "the same parameters in another order: .*0.weight', '1")
    # The names of a compiled or wrapped model have a prefix, and say nothing of the order.
    compiled = [(f"_orig_mod.{name}", p) for name, p in named(model)]
    Adam(compiled).load_state_dict(saved)
    Adam(model.parameters()).load_state_dict(saved)


def test_a_hook_that_goes_by_name() -> None:
    """PyTorch's recipe for a model that was changed: some parameters are new, others moved."""
    old = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 3)})
    first = Adam(named(old), 0.1)
    descend([first], [*old.parameters()], steps=3)
    new = nn.ModuleDict(
        {"b": nn.Linear(2, 3), "c": nn.Linear(5, 5), "a": nn.Linear(2, 2)}
    ).bfloat16()
    second = Adam(named(new))

    def by_name(optimizer: torch.optim.Optimizer, given: dict[str, Any]) -> dict[str, Any]:
        wanted, (group,) = optimizer.state_dict(), given["param_groups"]
        found = dict(zip(group["param_names"], group["params"], strict=True))
        names = wanted["param_groups"][0]["param_names"]
        state = {i: given["state"][found[n]] for i, n in enumerate(names) if n in found}
        return {**wanted, "state": state}

    seen = []
    second.register_load_state_dict_pre_hook(by_name)
    second.register_load_state_dict_post_hook(
        lambda o: seen.extend(v.dtype for s in o.state.values() for v in (s["m"], s["v"]))
    )
    second.load_state_dict(first.state_dict())
    before, after = dict(named(old)), dict(named(new))
    for name in before:
        assert torch.equal(second.state[after[name]]["m"], first.state[before[name]]["m"])
    assert not second.state.keys() & set(new["c"].parameters())
    assert seen == [torch.float32] * 8
    descend([second], [*new.parameters()], steps=1)
    assert {s["step"] for s in second.state.values()} == {1, 4}
    assert len(second._optimizer_load_state_dict_pre_hooks) == 1  # ours are gone


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_distributed_checkpoints(name: str, flatten: bool) -> None:
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    models = [nn.Linear(3, 2), nn.Linear(3, 2)]
    first, second = (OPTIMIZERS[name](model.parameters(), 0.1) for model in models)
    models[1].load_state_dict(models[0].state_dict())
    descend([first], [*models[0].parameters()], steps=2)
    saved = get_optimizer_state_dict(models[0], first, options=options)
    set_optimizer_state_dict(models[1], second, saved, options=options)
    models[1].load_state_dict(models[0].state_dict())
    descend([first, second], *([*model.parameters()] for model in models), steps=2, start=2)
    assert equal([*models[1].parameters()], [*models[0].parameters()])


@pytest.mark.filterwarnings("ignore:torch.distributed is:UserWarning")  # here in one process
def test_a_distributed_checkpoint_of_the_optimizer_itself(tmp_path: Path) -> None:
    """Numbers that are keys come back as text, beside those that were there."""
    first, second = stepped(Adam)[0], stepped(Adam, steps=1)[0]
    dcp.save({"optimizer": first}, checkpoint_id=tmp_path)
    dcp.load({"optimizer": second}, checkpoint_id=tmp_path)
    assert same(second.state_dict(), first.state_dict())


@pytest.mark.parametrize("make", [Adam, torch.optim.Adam])
def test_numbers_as_text(make: Any) -> None:
    """As JSON or MessagePack keep them."""
    optimizer, other = stepped(Adam, steps=0)[0], stepped(Adam, steps=0)[0]
    saved = stepped(make)[0].state_dict()
    other.load_state_dict(saved)
    for index in (0, 1):
        saved["state"][str(index)] = saved["state"].pop(index)
    optimizer.load_state_dict(saved)
    assert same(optimizer.state_dict(), other.state_dict())
    saved["state"]["7"] = saved["state"]["0"]
    refused(optimizer, saved, "there is state for '7', which is in no param_group")


def test_state_that_requires_a_gradient() -> None:
    first, _ = stepped(Adam)
    first.state_dict()["state"][0]["m"].requires_grad_()
    second, parameters = stepped(Adam)
    second.load_state_dict(first.state_dict())
    assert not second.state[parameters[0]]["m"].requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_into_a_model_of_another_dtype(dtype: torch.dtype) -> None:
    first, _ = stepped(Adam)
    parameters = [p.detach().to(dtype).requires_grad_() for p in make_parameters(SHAPES)]
    second = Adam(parameters)
    second.load_state_dict(first.state_dict())
    held = first.state_dict()["state"]
    for index, p in enumerate(parameters):
        assert torch.equal(second.state[p]["v"].float(), held[index]["v"])
    descend([second], parameters, steps=1)


def test_a_group_added_after_loading() -> None:
    first, ours = stepped(Adam)
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    second = torch.optim.Adam(theirs)
    second.load_state_dict(first.torch_state_dict())
    more, yours = make_parameters([(4,)]), make_parameters([(4,)])
    first.load_state_dict(first.state_dict())
    first.add_param_group({"params": more})
    second.add_param_group({"params": yours})
    assert first.param_groups[1]["lr"] == 0.1
    second.param_groups[1]["lr"] = 0.1
    descend([first, second], [*ours, *more], [*theirs, *yours], steps=3)
    assert relative_error([*ours, *more], [*theirs, *yours]) <= 1e-6


JUNK: list[Any] = [None, 0, -1, 1.5, "x", "\n", [], {}, [1], float("nan"), float("inf"), True, b"x"]
JUNK += [10**400, object(), {"step": 1}, {0: {}}, torch.zeros(3), torch.zeros(()), torch.eye(9)]
JUNK += [torch.zeros(3).int(), torch.zeros(3).to_sparse(), torch.zeros(3, device="meta")]
NAMES = ["m", "v", "s", "mean", "step", "betas", "lr", "path", "foreach", "params", "param_names"]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a tree with each of its keys."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


@pytest.mark.parametrize("seed", range(300))
def test_whatever_is_in_a_file(seed: int) -> None:
    """Loads and takes a step, or is refused in one short line, and leaves all as it was."""
    draw = random.Random(seed)
    theirs, name = draw.choice([(None, name) for name in OPTIMIZERS] + sorted(SAME_METHOD))
    saved = copy.deepcopy(stepped(TORCH[theirs] if theirs else OPTIMIZERS[name])[0].state_dict())
    container, key = draw.choice(list(places(saved)))
    junk = copy.copy(draw.choice(JUNK))
    match draw.choice(["put", "put", "delete", "add"]):
        case "delete":
            del container[key]
        case "add" if isinstance(container, dict):
            container[draw.choice(NAMES)] = junk
        case _:
            container[key] = junk
    optimizer, parameters = stepped(OPTIMIZERS[name])
    before = copy.deepcopy(optimizer.state_dict())
    refusal = None
    try:
        optimizer.load_state_dict(saved)
    except (ValueError, TypeError) as error:
        refusal = error
    if refusal is None:
        descend([optimizer], parameters, steps=1)
    else:
        assert len(str(refusal)) < 300
        assert "\n" not in str(refusal)
        assert "raise " in (traceback.extract_tb(refusal.__traceback__)[-1].line or "")
        assert same(optimizer.state_dict(), before)
