"""Steps in a row are steps, to the last bit; where something has moved, they look anew."""

import ctypes
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import optimizers
from optimizers.optimizer import Optimizer
from optimizers.paths.native import Native

SHAPES = [(300, 220), (220,), (3, 4, 5), ()]
METHODS: dict[str, Callable[..., Optimizer]] = {
    "adam": optimizers.Adam,
    "adamw": lambda params: optimizers.AdamW(params, weight_decay=0.1),
    "clipped": lambda params: optimizers.Momentum(params, lr=0.1, clip_norm=0.5),
    "biases apart": lambda params: optimizers.Adam(
        params, weight_decay=0.1, weight_decay_on="weights"
    ),
    "eager": lambda params: optimizers.Nesterov(params, lr=0.1, path="eager"),
    "muon": lambda params: optimizers.Muon(params, lr=0.1),
}


def in_turn(part: int, context: ctypes.Structure, parts: int) -> None:
    """As a crew does it, but alone and backwards."""
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(part)
    for place in reversed(range(parts)):
        function(ctypes.addressof(context), place)


class Pair:
    """The same parameters twice: one steps, the other does so in a row."""

    def __init__(self, method: str) -> None:
        generator = torch.Generator().manual_seed(0)
        values = [torch.randn(shape, generator=generator) for shape in SHAPES]
        self.all = [[nn.Parameter(v.clone()) for v in values] for _ in range(2)]
        self.one, self.other = (METHODS[method](params) for params in self.all)
        self.in_a_row = self.other.in_a_row(in_turn)
        self.generator = generator

    def gradients(self, *, in_place: bool = False) -> None:
        for p, q in zip(*self.all, strict=True):
            gradient = torch.randn(p.shape, generator=self.generator)
            p.grad = gradient
            if in_place and q.grad is not None:
                q.grad.copy_(gradient)
            else:
                q.grad = gradient.clone()

    def rate(self, lr: float) -> None:
        for optimizer in (self.one, self.other):
            for group in optimizer.param_groups:
                group["lr"] = lr

    def step(self) -> None:
        self.one.step()
        self.in_a_row()
        for p, q in zip(*self.all, strict=True):
            assert torch.equal(p, q)
            assert self.one.state[p].keys() == self.other.state[q].keys()
            for name, value in self.one.state[p].items():
                other = self.other.state[q][name]
                same = torch.equal(value, other) if isinstance(value, Tensor) else value == other
                assert same, name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("in_place", [False, True])
def test_the_same_as_steps(method: str, in_place: bool) -> None:
    pair = Pair(method)
    for k in range(12):
        pair.gradients(in_place=in_place)
        pair.rate(0.1 / (1 + k // 3))
        pair.step()


def test_a_large_step_is_shared_out() -> None:
    asked: list[int] = []

    def share(part: int, context: ctypes.Structure, parts: int) -> None:
        asked.append(parts)
        in_turn(part, context, parts)

    pair = Pair("adam")
    pair.in_a_row = pair.other.in_a_row(share)
    for _ in range(5):
        pair.gradients()
        pair.step()
    native = isinstance(pair.other._grouping.division.batches[0].path, Native)  # type: ignore[union-attr]
    assert len(asked) == (4 if native else 0)  # the first is a usual one


def lay_out_otherwise(p: Tensor) -> None:
    assert p.grad is not None
    p.grad = p.grad.t().contiguous().t()


@pytest.mark.parametrize(
    "move",
    [
        lambda pair: setattr(pair.all[1][0], "data", pair.all[1][0].data.clone()),
        lambda pair: [p.grad.zero_() for params in pair.all for p in params],
        lambda pair: [setattr(params[2], "grad", None) for params in pair.all],
        lambda pair: [lay_out_otherwise(params[0]) for params in pair.all],
    ],
    ids=["parameter", "gradients", "a gradient gone", "a gradient laid out otherwise"],
)  # fmt: skip
def test_what_has_moved_is_found(move: Callable[[Pair], object]) -> None:
    pair = Pair("adam")
    for k in range(8):
        pair.gradients()
        if k in (3, 5):
            move(pair)
        pair.step()


def test_memory_that_is_gone_is_not_written() -> None:
    pair = Pair("adam")
    for _ in range(3):
        pair.gradients()
        pair.step()
    pair.all[1][0].untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="lies outside its storage"):
        pair.in_a_row()


def test_hooks_are_called() -> None:
    pair, called = Pair("adam"), []
    for k in range(6):
        if k == 3:
            pair.other.register_step_post_hook(lambda *_: called.append("after"))
        pair.gradients()
        pair.step()
    assert called == ["after"] * 3


def test_a_rate_that_is_not_accepted_changes_nothing() -> None:
    pair = Pair("adam")
    for _ in range(3):
        pair.gradients()
        pair.step()
    before = [p.detach().clone() for p in pair.all[1]]
    pair.other.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match=r"lr=-1\.0 is not accepted"):
        pair.in_a_row()
    assert all(map(torch.equal, before, pair.all[1]))
    pair.other.param_groups[0]["lr"] = pair.one.param_groups[0]["lr"]
    pair.step()


def test_a_gradient_that_stays_but_lies_elsewhere() -> None:
    pair = Pair("adam")
    for _ in range(6):
        pair.gradients(in_place=True)
        gradient = pair.all[1][0].grad
        assert gradient is not None
        gradient.data = gradient.data.clone()
        pair.step()
    gradient.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="lies outside its storage"):
        pair.in_a_row()
