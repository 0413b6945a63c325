"""Whatever a person changes between two steps, the next one goes by it, or is refused."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from optimizers import OPTIMIZERS, Adam, Stack
from optimizers.interop import COUNTERPARTS
from optimizers.rule import Matrixwise
from tests.cases import CASES, Case
from tests.optimizers.helpers import equal, make_parameters, relative_error, set_gradients

SHAPES = [(7,), (4, 4), (2, 3, 4, 3), (), (33, 5)]

SLOTS = {
    theirs: ours
    for rule, other in COUNTERPARTS.items()
    if not issubclass(rule, Matrixwise)
    for theirs, ours in other.slots.items()
}


class World:
    """Some parameters and an optimizer of theirs, to which an edit is done."""

    def __init__(self, make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> None:
        self.parameters: list[Tensor] = [nn.Parameter(p.detach()) for p in make_parameters(SHAPES)]
        self.optimizer = make(self.parameters)
        self.frozen: set[int] = set()

    def step(self, seed: int, strides: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        for i, p in enumerate(self.parameters):
            value = torch.randn(p.shape, generator=generator).to(p.dtype)
            if strides and p.ndim > 1:
                value = value.transpose(0, 1).contiguous().transpose(0, 1)
            p.grad = None if i in self.frozen else value
        self.optimizer.step()

    def slots(self, i: int) -> dict[str, Tensor]:
        """The state of a parameter by our names, those of PyTorch's that have one of ours."""
        entry = self.optimizer.state.get(self.parameters[i], {})
        found = {SLOTS.get(name, name): value for name, value in entry.items()}
        return {name: value for name, value in found.items() if name in SLOTS.values()}

    def set_slot(self, i: int, name: str, value: Tensor) -> None:
        entry = self.optimizer.state[self.parameters[i]]
        entry[next(key for key in entry if SLOTS.get(key, key) == name)] = value

    def groups_of(self, i: int) -> dict[str, Any]:
        p = self.parameters[i]
        return next(g for g in self.optimizer.param_groups if any(q is p for q in g["params"]))


Edit = Callable[[World, int], None]


def replace_data(world: World, i: int) -> None:
    world.parameters[i].data = world.parameters[i].data * 0.5


def in_place(world: World, i: int) -> None:
    world.parameters[i].data.mul_(0.5)


def to(dtype: torch.dtype) -> Edit:
    def cast(world: World, i: int) -> None:
        p = world.parameters[i]
        p.grad = None
        p.data = p.data.to(dtype)

    return cast


def transposed_memory(world: World, i: int) -> None:
    p = world.parameters[i]
    if p.ndim > 1:
        p.data = p.data.transpose(0, 1).contiguous().transpose(0, 1)


def channels_last(world: World, i: int) -> None:
    p = world.parameters[i]
    if p.ndim == 4:
        p.data = p.data.to(memory_format=torch.channels_last)


def gaps(world: World, i: int) -> None:
    p = world.parameters[i]
    p.data = torch.stack([p.data, torch.zeros_like(p.data)], -1)[..., 0]


def turned(world: World, i: int) -> None:
    """The same memory in another order: of a square, not even the shape tells."""
    p = world.parameters[i]
    if p.ndim == 2 and p.shape[0] == p.shape[1]:
        p.grad = None
        p.data = p.data.t()


def longer(world: World, i: int) -> None:
    p = world.parameters[i]
    p.grad = None
    p.data = torch.ones(p.numel() + 50_000)


def shorter(world: World, i: int) -> None:
    p = world.parameters[i]
    p.grad = None
    p.data = p.data.reshape(-1)[: max(1, p.numel() - 2)]


def clear(world: World, i: int) -> None:
    world.optimizer.state.clear()


def new_state(world: World, i: int) -> None:
    world.optimizer.state = defaultdict(dict)


def forget(world: World, i: int) -> None:
    world.optimizer.state.pop(world.parameters[i], None)


def zero_slot(world: World, i: int) -> None:
    for name, value in world.slots(i).items():
        world.set_slot(i, name, torch.zeros_like(value))


def scale_slot(world: World, i: int) -> None:
    for value in world.slots(i).values():
        value.mul_(0.5)


def clone_slots(world: World, i: int) -> None:
    for j in range(len(world.parameters)):
        for name, value in world.slots(j).items():
            world.set_slot(j, name, value.clone())


def swap_slot_data(world: World, i: int) -> None:
    for value in world.slots(i).values():
        value.data = value.data.clone()


def share_slot_memory(world: World, i: int) -> None:
    for value in world.slots(i).values():
        value.share_memory_()


def turn_slot(world: World, i: int) -> None:
    if world.parameters[i].ndim == 2:
        for value in world.slots(i).values():
            value.t_()


def slot_layout(world: World, i: int) -> None:
    if world.parameters[i].ndim > 1:
        for name, value in world.slots(i).items():
            world.set_slot(i, name, value.transpose(0, 1).contiguous().transpose(0, 1))


def copied_entry(world: World, i: int) -> None:
    p = world.parameters[i]
    if p in world.optimizer.state:
        world.optimizer.state[p] = copy.deepcopy(world.optimizer.state[p])


def copied_groups(world: World, i: int) -> None:
    world.optimizer.param_groups = [dict(g) for g in world.optimizer.param_groups]


def split_groups(world: World, i: int) -> None:
    """The same parameters in the same order, cut elsewhere, at other rates."""
    whole = [p for g in world.optimizer.param_groups for p in g["params"]]
    like = world.optimizer.param_groups[0]
    world.optimizer.param_groups = [
        {**like, "params": whole[: i + 1]},
        {**like, "params": whole[i + 1 :], "lr": like["lr"] / 2},
    ]


def other_rate(world: World, i: int) -> None:
    world.groups_of(i)["lr"] *= 0.5


def rewrap(world: World, i: int) -> None:
    old = world.parameters[i]
    new = nn.Parameter(old.data)
    group = world.groups_of(i)
    group["params"] = [new if p is old else p for p in group["params"]]
    world.parameters[i] = new


def rewrap_and_forget(world: World, i: int) -> None:
    old = world.parameters[i]
    rewrap(world, i)
    world.optimizer.state.pop(old, None)  # else PyTorch cannot make a state dict


def freeze(world: World, i: int) -> None:
    world.frozen ^= {i}


def add(world: World, i: int) -> None:
    new = nn.Parameter(torch.full((3, i + 1), 0.5))
    world.parameters.append(new)
    world.optimizer.add_param_group({"params": [new]})


def reload(world: World, i: int) -> None:
    world.optimizer.load_state_dict(copy.deepcopy(world.optimizer.state_dict()))


def sharing(world: World, i: int) -> None:
    """Two parameters in one memory: each step is taken on what the one before left."""
    p, q = world.parameters[i], world.parameters[(i + 1) % len(SHAPES)]
    if p.dtype == q.dtype and p.numel() < q.numel() and q.is_contiguous():
        p.data = q.data.view(-1)[: p.numel()].view(p.shape)


def resized_storage(world: World, i: int) -> None:
    world.parameters[i].data.untyped_storage().resize_(0)


def resized_slot(world: World, i: int) -> None:
    for value in world.slots(i).values():
        value.untyped_storage().resize_(0)


# What PyTorch's optimizers carry out, too.
COMMON: list[Edit] = [
    *(replace_data, in_place, transposed_memory, channels_last, gaps),
    *(clear, new_state, forget, zero_slot, scale_slot, clone_slots, swap_slot_data),
    *(slot_layout, copied_entry, copied_groups, split_groups, other_rate, freeze, add),
    *(rewrap_and_forget, reload, sharing, share_slot_memory),
]
# Where PyTorch stops, or goes on in its own way.
ODD: list[Edit] = [
    *(to(torch.float64), to(torch.bfloat16), to(torch.float32), turned, longer, shorter),
    *(turn_slot, rewrap),
]


def edits(among: list[Edit]) -> st.SearchStrategy[list[list[tuple[Edit, int]]]]:
    """What is done before each step."""
    one = st.tuples(st.sampled_from(among), st.integers(0, len(SHAPES) - 1))
    return st.lists(st.lists(one, max_size=2), min_size=2, max_size=6)


def differ(ours: World, theirs: World) -> float:
    """The largest error relative to the size of a parameter, in units of its dtype's rounding."""
    worst = 0.0
    for p, q in zip(ours.parameters, theirs.parameters, strict=True):
        assert p.dtype == q.dtype
        a, b = p.detach().double(), q.detach().double()
        error = float((a - b).abs().max() / (b.abs().max() + 1e-3)) if a.numel() else 0.0
        # All began in float32, and so did what they were rounded to.
        worst = max(worst, error / max(torch.finfo(d).eps for d in (p.dtype, torch.float32)))
    return worst


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    script=edits([*COMMON, *ODD]),
    strides=st.booleans(),
    options=st.sampled_from([{}, {"weight_decay": 0.1, "weight_decay_on": "weights"}]),
)
def test_compiled_steps_go_by_what_is_there(
    name: str, script: list[list[tuple[Edit, int]]], strides: bool, options: dict[str, Any]
) -> None:
    """As one tensor after another does; what one path refuses, the other refuses."""
    worlds = [
        World(lambda ps, path=path: OPTIMIZERS[name](ps, lr=1e-2, path=path, **options))
        for path in ("auto", "eager")
    ]
    for seed, edits_before in enumerate([[], *script]):
        outcomes = []
        for world in worlds:
            try:
                for edit, i in edits_before:
                    edit(world, i)
                world.step(seed, strides)
            except (RuntimeError, TypeError, ValueError) as error:
                outcomes.append(str(error))
            else:
                outcomes.append("")
        assert outcomes[0] == outcomes[1]
        if outcomes[0]:
            return
        assert differ(*worlds) < 2000  # roundings that several steps carry on
        states = [world.optimizer.state_dict()["state"] for world in worlds]
        assert states[0].keys() == states[1].keys()
        for one, other in zip(states[0].values(), states[1].values(), strict=True):
            assert one["step"] == other["step"]


# Where the state holds what PyTorch's holds.
TORCH_CASES = [
    case
    for case in CASES
    if case.settings.get("form", "heavy_ball") == "heavy_ball"
    and "initial_accumulator" not in case.settings
]


@settings(deadline=None, max_examples=300)
@given(
    case=st.sampled_from(TORCH_CASES),
    path=st.sampled_from(["auto", "eager"]),
    script=edits(COMMON),
    strides=st.booleans(),
)
def test_steps_are_those_of_pytorch(
    case: Case, path: str, script: list[list[tuple[Edit, int]]], strides: bool
) -> None:
    ours = World(lambda ps: case.optimizer(ps, path=path))
    theirs = World(lambda ps: case.oracle(ps, foreach=False))
    for seed, edits_before in enumerate([[], *script]):
        for edit, i in edits_before:
            edit(ours, i)
            edit(theirs, i)
        try:
            theirs.step(seed, strides)
        except KeyError:  # the Adagrad of older versions makes its state only at the start
            return
        ours.step(seed, strides)
        assert differ(ours, theirs) < 2000


@pytest.mark.parametrize("path", ["auto", "eager"])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (longer, r"state 'm' of parameter 1 of group 0 has shape \[4, 4\], but its parameter"),
        (shorter, r"state 'm' of parameter 1 of group 0 has shape \[4, 4\], but its parameter"),
        (resized_storage, "parameter 1 of group 0 lies outside its storage"),
        (resized_slot, "state 'm' of parameter 1 of group 0 lies outside its storage"),
        (
            lambda world, i: world.set_slot(i, "m", 0.5),  # type: ignore[arg-type]
            "state 'm' of parameter 1 of group 0 is float, not a tensor of real floats",
        ),
        (
            lambda world, i: world.optimizer.state[world.parameters[i]].update(step=-1),
            "state of parameter 1 of group 0 has step -1",
        ),
        (
            lambda world, i: world.optimizer.state.update({world.parameters[i]: 3}),
            "the state of parameter 1 of group 0 is 3, not a dict",
        ),
        (
            lambda world, i: setattr(world.optimizer, "state", None),
            "the optimizer's state is NoneType, not a dict",
        ),
        (
            lambda world, i: world.optimizer.param_groups[0].update(params=iter([])),
            r"param_groups\[0\] has list_iterator as params: a list is needed",
        ),
        (
            lambda world, i: world.optimizer.param_groups.append(world.optimizer.param_groups[0]),
            "a parameter stands more than once in param_groups",
        ),
        (
            lambda world, i: world.optimizer.param_groups[0]["params"].append(1.0),
            "a float stands among parameters",
        ),
    ],
)
def test_what_no_step_can_use_is_refused(path: str, edit: Edit, message: str) -> None:
    """In one clear error, before anything has changed."""
    world = World(lambda ps: Adam(ps, path=path))
    for seed in range(20):
        world.step(seed, False)
    edit(world, 1)
    others = [p for i, p in enumerate(world.parameters) if i != 1]
    before = [p.detach().clone() for p in others]
    for p in world.parameters:
        p.grad = torch.zeros_like(p)
    with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
        world.optimizer.step()
    assert equal(others, before)
    state = world.optimizer.state or {}
    assert {entry["step"] for p, entry in state.items() if p is not world.parameters[1]} <= {20}


@pytest.mark.parametrize("path", ["auto", "eager"])
@pytest.mark.parametrize("size", [0, 4])
def test_a_gradient_without_its_memory_is_refused(path: str, size: int) -> None:
    world = World(lambda ps: Adam(ps, path=path))
    for seed in range(3):
        world.step(seed, False)
    before = [p.detach().clone() for p in world.parameters]
    assert world.parameters[1].grad is not None
    world.parameters[1].grad.untyped_storage().resize_(size)
    with pytest.raises(RuntimeError, match="gradient 1 lies outside its storage"):
        world.optimizer.step()
    assert equal(world.parameters, before)
    assert {entry["step"] for entry in world.optimizer.state.values()} == {3}


def stack_slot(stack: Stack, i: int, name: str, change: Callable[[Tensor], Tensor]) -> None:
    entry = stack.state[stack.parameters[i]]
    entry[name] = change(entry[name])


STACK_EDITS: dict[str, Callable[[Stack], None]] = {
    "other memory": lambda s: setattr(s.parameters[0], "data", s.parameters[0].data * 0.5),
    "other layout": lambda s: setattr(
        s.parameters[1], "data", s.parameters[1].data.transpose(1, 2).contiguous().transpose(1, 2)
    ),
    "other dtype": lambda s: setattr(s.parameters[0], "data", s.parameters[0].data.double()),
    "state in other memory": lambda s: stack_slot(s, 0, "m", lambda m: m.clone()),
    "state in other layout": lambda s: stack_slot(
        s, 1, "v", lambda v: v.transpose(1, 2).contiguous().transpose(1, 2)
    ),
    "shared memory": lambda s: setattr(s.parameters[1], "data", s.parameters[0].data[:, :4, None]),
}


@pytest.mark.parametrize("edit", STACK_EDITS.values(), ids=list(STACK_EDITS))
@pytest.mark.parametrize("between", [False, True], ids=["before prepare", "before apply"])
def test_a_stack_goes_by_what_is_there(edit: Callable[[Stack], None], between: bool) -> None:
    stacks = [
        Stack("adam", make_parameters([(3, 6), (3, 4, 1)]), {"lr": [0.1, 0.01, 0.0]}, path=path)
        for path in ("auto", "eager")
    ]
    for seed in range(6):
        for stack in stacks:
            if seed == 3 and not between:
                edit(stack)
            stack.prepare(lr=[0.1 / (seed + 1), 0.01, 0.0])
            if seed == 3 and between:
                edit(stack)
            set_gradients(stack.parameters, seed=seed)
            stack.apply()
    assert relative_error(stacks[0].parameters, stacks[1].parameters) < 1e-6


def test_a_stack_refuses_another_shape() -> None:
    stack = Stack("adam", make_parameters([(3, 6)]), {"lr": [0.1, 0.01, 0.0]})
    set_gradients(stack.parameters, seed=0)
    stack.step()
    stack.parameters[0].grad = None
    stack.parameters[0].data = torch.ones(3, 50_000)
    with pytest.raises(RuntimeError, match=r"state 'm' of parameter 0 has shape \[3, 6\]"):
        stack.step([torch.ones(3, 50_000)])
