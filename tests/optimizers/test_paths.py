"""All paths of a rule give the same numbers, and none compiles twice."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters

from optimizers import OPTIMIZERS, Adam, AdamW, toolchain
from optimizers.grouping import coefficients
from optimizers.optimizer import Optimizer
from optimizers.paths.eager import Eager
from optimizers.paths.inductor import Inductor
from optimizers.paths.native import Native, load
from optimizers.paths.translate import translate
from optimizers.rules import RULES
from optimizers.stack import Stack
from tests.cases import CASES, Case
from tests.optimizers.helpers import (
    ELEMENTWISE,
    descend,
    equal,
    make_parameters,
    relative_error,
    set_gradients,
)

# The kernel rounds as PyTorch's operators do, but for their square root, which is one bit off.
ROOTLESS = {"sgd", "normalised", "momentum", "nesterov", "adamax", "lion"}


def path_of(optimizer: Optimizer) -> object:
    (ready,) = optimizer._ready()
    return ready.batch.path


def last_step(optimizer: Optimizer) -> dict[str, object]:
    """The coefficients of the step taken last."""
    (ready,) = optimizer._ready()
    return coefficients(ready.batch.rule, ready.h, True, ready.batch.step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES + [Case(n, {}, "", {}) for n in ELEMENTWISE], ids=str)
def test_compiled_equals_eager(case: Case, dtype: torch.dtype) -> None:
    ours, theirs = make_parameters(dtype=dtype), make_parameters(dtype=dtype)
    a, b = case.optimizer(ours, path="compiled"), case.optimizer(theirs, path="eager")
    descend([a, b], ours, theirs)
    assert isinstance(path_of(a), Native)
    assert isinstance(path_of(b), Eager)
    if case.name in ROOTLESS:
        assert equal(ours, theirs)
    assert relative_error(ours, theirs) <= 10 * torch.finfo(dtype).eps


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads_share_a_step_without_a_trace(threads: int) -> None:
    shapes = [(70_001,), (3,), (129, 517), (1,)]
    ours, theirs = make_parameters(shapes), make_parameters(shapes)
    a, b = AdamW(ours, 0.1), AdamW(theirs, 0.1)
    before = torch.get_num_threads()
    try:
        for seed in range(3):
            set_gradients(ours, theirs, seed=seed)
            torch.set_num_threads(threads)
            a.step()
            torch.set_num_threads(1)
            b.step()
    finally:
        torch.set_num_threads(before)
    assert equal(ours, theirs)


@pytest.mark.parametrize("path", ["eager", "compiled"])
def test_any_strides(path: str) -> None:
    """Parameters in channels_last, gradients in another order, a parameter with gaps."""

    def make() -> list[Tensor]:
        conv, matrix, gaps = make_parameters([(4, 3, 5, 5), (6, 7), (8, 4)])
        with torch.no_grad():
            conv = conv.to(memory_format=torch.channels_last).requires_grad_()
            return [conv, matrix, gaps[:, ::2].requires_grad_()]

    ours, plain = make(), [p.detach().contiguous() for p in make()]
    a, b = Adam(ours, 0.1, path=path), Adam(plain, 0.1, path=path)
    for seed in range(5):
        set_gradients(ours, plain, seed=seed)
        assert ours[1].grad is not None
        ours[1].grad = ours[1].grad.t().contiguous().t()
        a.step()
        b.step()
    assert relative_error(ours, plain) <= 1e-6
    assert ours[0].is_contiguous(memory_format=torch.channels_last)


def test_replaced_data_and_gradients_are_followed() -> None:
    ours, theirs = make_parameters(), make_parameters()
    a, b = Adam(ours, 0.1, path="compiled"), Adam(theirs, 0.1, path="eager")
    for start in range(4):
        descend([a, b], ours, theirs, start=start, steps=1)
        for p, q in zip(ours, theirs, strict=True):
            p.data, q.data = p.data * 0.9, q.data * 0.9
    assert relative_error(ours, theirs) <= 1e-6


def test_autograd_notices_a_step() -> None:
    """A graph that was built before a step is refused after it, as with PyTorch's optimizers."""
    w = torch.ones(3, requires_grad=True)
    optimizer = Adam([w], path="compiled")
    loss = (w * w).sum()
    w.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_step_a_rate_or_a_size_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = make_parameters([(4,)])
    descend([Adam(ours, path="compiled")], ours, steps=1)
    monkeypatch.setattr(toolchain, "build", lambda *_: pytest.fail("built again"))
    for size in (5, 100, 70_000):
        ours = make_parameters([(size,)])
        optimizer = Adam(ours, path="compiled")
        for step in range(3):
            optimizer.param_groups[0]["lr"] = 0.1 * step
            descend([optimizer], ours, steps=1)


def test_kernels_are_kept(tmp_path: Path) -> None:
    text = translate(RULES["sgd"], "float").text
    first = toolchain.build(text, tmp_path)
    built = first.stat().st_mtime_ns
    assert toolchain.build(text, tmp_path) == first
    assert first.stat().st_mtime_ns == built
    assert toolchain.build(text + "\n", tmp_path) != first
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("compiler", ["", "no-such-compiler", "false"])
def test_without_a_compiler(
    compiler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Steps are taken all the same, and one line says why they are slow."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("PATH", "" if not compiler else "/usr/bin:/bin")
    load.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            ours, theirs = make_parameters(), make_parameters()
            descend([Adam(ours), Adam(theirs, path="eager")], ours, theirs, steps=3)
            descend([Adam(more := make_parameters())], more, steps=1)
    finally:
        load.cache_clear()
    assert equal(ours, theirs)
    (record,) = caplog.records
    assert record.getMessage().startswith("Adam runs uncompiled, which is slower: ")


def test_a_failing_torch_compile_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = make_parameters(), make_parameters()
    reference = OPTIMIZERS["sgd"](theirs, 0.1, path="eager")
    path = Inductor(RULES["sgd"], ours)

    def fails(*_: object) -> None:
        raise TorchDynamoException("no compiler\nand so on")

    path.step = fails
    descend([reference], ours, theirs, steps=1)
    with torch.no_grad():
        path.prepare(last_step(reference))
        path.apply(ours, [p.grad for p in ours if p.grad is not None], [])
    assert equal(ours, theirs)
    assert caplog.messages == ["SGD runs uncompiled, which is slower: no compiler"]


@pytest.mark.parametrize("path", ["eager", "compiled"])
def test_a_captured_step_leaves_counting_to_prepare(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a CUDA graph does, without CUDA: while it is captured, and in each replay, `step` must
    only launch; `prepare` counts the step and sets coefficients, before each replay."""
    ours, theirs = make_parameters(), make_parameters()
    a = Adam(ours, 0.1, path=path, clip_norm=1.0)
    b = Adam(theirs, 0.1, path=path, clip_norm=1.0)
    descend([a, b], ours, theirs, steps=1)
    for seed in range(1, 5):
        set_gradients(ours, theirs, seed=seed)
        for optimizer in (a, b):
            optimizer.param_groups[0]["lr"] = 0.1 / seed
        with monkeypatch.context() as capturing:
            capturing.setattr(torch.cuda, "is_initialized", lambda: True)
            capturing.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
            a.prepare()
            a.step()
        b.step()
    assert equal(ours, theirs)
    assert a.state[ours[0]]["step"] == 5


@pytest.mark.parametrize(
    "changes", [{"path": "eager"}, {"weight_decay_on": "weights"}, {"momentum": 0.9}]
)
def test_a_group_may_change_between_steps(changes: dict[str, object]) -> None:
    ours, theirs = make_parameters(), make_parameters()
    settings = {"lr": 0.01, "weight_decay": 0.1}
    a = OPTIMIZERS["rmsprop"](ours, **settings)
    b = OPTIMIZERS["rmsprop"](theirs, **settings, path="eager")
    descend([a, b], ours, theirs, steps=3)
    a.param_groups[0].update(changes)
    twin = OPTIMIZERS["rmsprop"](theirs, path="eager")
    twin.load_state_dict(b.state_dict())
    twin.param_groups[0].update(changes)
    descend([a, twin], ours, theirs, start=3, steps=3)
    assert relative_error(ours, theirs) <= 1e-6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["momentum", "rmsprop", "adamw", "lion"])
def test_inductor(name: str) -> None:
    """The compiled path of accelerators, here on the CPU."""
    rule = RULES[name]
    ours, theirs = make_parameters(), make_parameters()
    reference = OPTIMIZERS[name](theirs, path="eager")
    slots = [[torch.zeros_like(p) for p in ours] for _ in rule.slots]
    path = Inductor(rule, ours)
    graphs = []
    for step in range(1, 6):
        reference.param_groups[0]["lr"] = 0.1 / step
        descend([reference], ours, theirs, start=step, steps=1)
        with torch.no_grad():
            path.prepare(last_step(reference))
            path.apply(ours, [p.grad for p in ours if p.grad is not None], slots)
        graphs.append(counters["stats"]["unique_graphs"])
    assert relative_error(ours, theirs) <= 1e-6
    assert graphs[0] == graphs[-1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_in_a_stack() -> None:
    shapes = [(3, 7), (3,), (3, 5, 4)]
    ours, theirs = make_parameters(shapes), make_parameters(shapes)
    with torch.no_grad():
        stack = Stack("adamw", theirs, {"lr": [0.1, 0.01, 0.001]}, path="eager")
        slots = [[torch.zeros_like(p) for p in ours] for _ in range(2)]
        path = Inductor(RULES["adamw"], ours, rows=3)
        for seed in range(5):
            set_gradients(ours, theirs, seed=seed)
            stack.step()
            h = SimpleNamespace(**stack.hyperparameters)
            path.prepare(stack.rule.all_coefficients(h, stack.steps))
            path.apply(ours, [p.grad for p in ours if p.grad is not None], slots)
    assert relative_error(ours, theirs) <= 1e-6
