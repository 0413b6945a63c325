"""What tensors look like is told quickly and in full: by PyTorch's guards, and without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from optimizers import Adam, layouts
from optimizers.layouts import Layout, Memory
from tests.optimizers.helpers import descend, equal, make_parameters

CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "dtype": lambda x: x.double(),
    "shape": lambda x: x.reshape(8, 3),
    "axes": lambda x: x.reshape(2, 2, 6),
    "strides": lambda x: x.t().contiguous().t(),
    "gaps": lambda x: torch.stack([x, x], -1)[..., 0],
    "fewer": lambda x: x[:3],
    "type": lambda x: nn.Parameter(x),
    "layout": lambda x: x.to_sparse(),
}


def tensors() -> list[Tensor]:
    return [torch.ones(3), torch.arange(24.0).reshape(4, 6), torch.ones(())]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_every_change_is_noticed(change: Callable[[Tensor], Tensor]) -> None:
    """By PyTorch's guards alone: where they say that nothing has changed, nothing else looks."""
    assert layouts.TensorGuards is not None
    first, second, third = tensors()
    layout = Layout([first, second, third])
    assert layout.unchanged(*tensors())
    assert not layout.unchanged(first, change(second), third)
    assert not layout.holds([first, change(second), third])
    assert not layout.holds([first, second])
    assert not layout.holds([first, None, third])
    assert layout.holds(tensors())


def test_what_matters_to_no_step_changes_nothing() -> None:
    layout = Layout(tensors())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layout.holds(tensors())
    assert layout.holds([x.requires_grad_() for x in tensors()])
    with torch.inference_mode():
        assert layout.holds([x.requires_grad_(False) for x in tensors()])


def test_memory_is_where_it_was() -> None:
    some = tensors()
    memory = Memory(some)
    assert memory.holds(some)
    assert not memory.holds(tensors())
    some[1].data = some[1].data.clone()
    assert not memory.holds(some)


def test_without_guards_steps_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "TensorGuards", None)
    ours = make_parameters()
    slow = Adam(ours, 0.1)
    descend([slow], ours, steps=3)
    ours[0].data = ours[0].data.double()
    descend([slow], ours, start=3, steps=3)
    monkeypatch.undo()
    theirs = make_parameters()
    quick = Adam(theirs, 0.1)
    descend([quick], theirs, steps=3)
    theirs[0].data = theirs[0].data.double()
    descend([quick], theirs, start=3, steps=3)
    assert equal(ours, theirs)
