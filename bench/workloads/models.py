"""Models of any workload: drawn from the seed, measured, and looked at for what a stack needs."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import deterministic

from bench.errors import BenchError
from bench.metrics import Metric
from bench.settings.paths import line
from bench.workloads.workload import Place

if TYPE_CHECKING:
    from bench.workloads.workload import Workload


def drawn(workload: Workload, seed: int) -> nn.Module:
    """The model that a workload builds for a seed.

    Raises:
        BenchError: it cannot be built, or holds numbers that nobody has drawn.
    """
    with seeded(seed), _undrawn_is_nan():
        try:
            model = workload.build(seed)
        except BenchError:
            raise
        except Exception as error:
            raise BenchError(
                f"workload={workload.name}: cannot be built ({line(error)})"
            ) from error
    if not isinstance(model, nn.Module):
        raise BenchError(
            f"workload={workload.name}: build gives a {type(model).__name__}, no torch.nn.Module"
        )
    for name, x in _tensors(model):
        if x.is_meta or _undrawn(x):
            raise BenchError(
                f"workload={workload.name}: {name} of its model is drawn by nobody; build must "
                "give every parameter and buffer a value from the seed"
            )
    return model


def check_contract(workload: Workload, model: nn.Module, seed: int) -> None:
    """Builds the model again, and has it answer for a few examples, before anything is trained.

    Args:
        workload: with its data loaded.
        model: what it built for ``seed``; is left as it is.

    Raises:
        BenchError: the workload does not keep what `Workload` says.
    """
    again = drawn(workload, seed)
    for (name, x), (_, other) in zip(_tensors(model), _tensors(again), strict=True):
        if not torch.equal(x, other):
            raise BenchError(
                f"workload={workload.name}: {name} of its model is not decided by the seed; build "
                "must draw from a generator that the seed starts, such as PyTorch's global one"
            )
    _check_parameters(workload, model)
    _check_metrics(workload)
    for split in ("train", "val", "test") if workload.validates else ("train", "test"):
        if workload.size(split) < 1:
            raise BenchError(f"workload={workload.name}: its {split} split has no examples")
    place = _in_memory[1] if _in_memory is not None else Place(torch.device("cpu"), torch.float32)
    devices = [place.device] if place.device.type == "cuda" else []
    with seeded(seed), torch.random.fork_rng(devices), torch.no_grad():
        again.to(place.device, place.dtype).eval()
        sizes = sorted({min(examples, workload.train_size) for examples in (2, 3)})
        if sizes == [2]:
            sizes = [1, 2]
        shapes = [_check_answers(workload, again, examples) for examples in sizes]
    if len(set(shapes)) > 1:  # [B, 1] against [B] is [B, B]
        raise BenchError(
            f"workload={workload.name}: losses gives for each example as many numbers as there are "
            "examples in the batch; do output and batch have the same shape?"
        )


def _check_parameters(workload: Workload, model: nn.Module) -> None:
    parameters = dict(model.named_parameters())
    if not parameters:
        raise BenchError(f"workload={workload.name}: its model has no parameters")
    for name, p in parameters.items():
        if not p.requires_grad:
            raise BenchError(
                f"workload={workload.name}: {name} of its model requires no gradient; what is not "
                "trained is a buffer"
            )
    if workload.way and parameters.get(workload.way) is None:
        raise BenchError(
            f"workload={workload.name}: way names {workload.way}, which is none of its model's "
            f"parameters ({', '.join(parameters)})"
        )


def _check_metrics(workload: Workload) -> None:
    for metric in workload.metrics:
        if not isinstance(metric, Metric):
            raise BenchError(f"workload={workload.name}: metrics: {metric!r} is no Metric")
    names = ["loss", *(metric.name for metric in workload.metrics)]
    for name in names:
        if names.count(name) > 1:
            what = "measured anyway" if name == "loss" else "there twice"
            raise BenchError(f"workload={workload.name}: metrics: {name} is {what}")


def _check_answers(workload: Workload, model: nn.Module, examples: int) -> tuple[int, ...]:
    """What the model is told for some examples; returns the shape of one example's losses."""
    batch = workload.batch(slice(0, examples))
    output = first(workload, model, examples)

    def said(method: str) -> Any:
        try:
            return getattr(workload, method)(output, batch)
        except Exception as error:
            raise BenchError(f"workload={workload.name}: {method}: {line(error)}") from error

    losses = said("losses")
    if not (isinstance(losses, Tensor) and losses.is_floating_point()):
        what = losses.dtype if isinstance(losses, Tensor) else type(losses).__name__
        raise BenchError(f"workload={workload.name}: losses gives {what}, no floating-point tensor")
    if batch and (losses.ndim == 0 or len(losses) != examples):
        raise BenchError(
            f"workload={workload.name}: losses gives {_shape(losses)} for {examples} examples; its "
            "first dimension must go by examples, without a mean over them"
        )
    objective = said("objective")
    if not (isinstance(objective, Tensor) and objective.ndim == 0):
        raise BenchError(f"workload={workload.name}: objective must be a tensor without dimensions")
    _check_sums(workload, said("sums"))
    return tuple(losses.shape[1:])


def _check_sums(workload: Workload, sums: Any) -> None:
    if not isinstance(sums, Mapping):
        raise BenchError(f"workload={workload.name}: sums gives no tensors by name")
    for name, x in sums.items():
        if not (isinstance(x, Tensor) and x.ndim == 0):
            what = _shape(x) if isinstance(x, Tensor) else type(x).__name__
            raise BenchError(
                f"workload={workload.name}: sums: {name} is {what}; it must be the sum over all "
                "examples, a tensor without dimensions"
            )
    needed = ["loss", "count", *(m.name for m in workload.metrics if m.of is None)]
    for name in needed:
        if name not in sums:
            raise BenchError(f"workload={workload.name}: sums: gives {', '.join(sums)}, no {name}")
    for metric in workload.metrics:
        try:
            float(metric.value({name: float(x) for name, x in sums.items()}))
        except ArithmeticError:  # of so few examples
            continue
        except Exception as error:
            raise BenchError(
                f"workload={workload.name}: metric {metric.name}: {line(error)}"
            ) from error


def _shape(x: Tensor) -> str:
    return f"[{', '.join(map(str, x.shape))}]"


def _undrawn(x: Tensor) -> bool:
    """Whether it holds what `_undrawn_is_nan` leaves in new memory. Of whole numbers only a tensor
    that is nothing else: single ones may mean it."""
    if x.dtype in (torch.int32, torch.int64):
        return x.numel() > 0 and bool((x == torch.iinfo(x.dtype).max).all())
    return bool(x.isnan().any())


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators of the CPU, Python and NumPy start from a seed; afterwards they are
    what they were."""
    generator = torch.default_generator
    python, numpy, state = random.getstate(), np.random.get_state(), generator.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - whatever a person's model draws from
    generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        generator.set_state(state)


@contextmanager
def _undrawn_is_nan() -> Iterator[None]:
    """New memory holds NaN instead of what was there before."""
    memory: Any = deterministic
    fill, mode = memory.fill_uninitialized_memory, torch.get_deterministic_debug_mode()
    memory.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*deterministic", UserWarning)
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = fill


_in_memory: tuple[Workload, Place] | None = None


def loaded(workload: Workload, place: Place) -> Workload:
    """With its data at a place; those of the one before go, unless they are the same."""
    global _in_memory
    if _in_memory != (workload, place):
        forget()
        workload.load(place)
        _in_memory = workload, place
    return workload


def forget() -> None:
    """Lets go of the data that are in memory."""
    global _in_memory
    if _in_memory is not None:
        _in_memory[0].release()
        _in_memory = None


def on_cpu(workload: Workload) -> Workload:
    """With its data where nothing else is needed, unless they lie somewhere."""
    if _in_memory is not None and _in_memory[0] is workload:
        return workload
    return loaded(workload, Place(torch.device("cpu"), torch.float32))


def example_size(workload: Workload) -> int:
    return sum(x.numel() for x in on_cpu(workload).batch(slice(0, 1)).values())


def extent(workload: Workload) -> tuple[int, int]:
    """How many weights a model has, and how many numbers its layers give for one example.

    Raises:
        BenchError: the model does not work on the workload's examples.
    """
    model = drawn(workload, 0)
    with seeded(0):
        return counted(model, lambda: first(on_cpu(workload), model))


def counted(model: nn.Module, forward: Callable[[], object]) -> tuple[int, int]:
    """The weights of a model, and the numbers that its layers give in ``forward``."""
    outputs = 0

    def add(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal outputs
        outputs += output.numel() if isinstance(output, Tensor) else 0

    handles = [layer.register_forward_hook(add) for layer in model.modules()]
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return sum(p.numel() for p in model.parameters()), outputs


def first(workload: Workload, model: nn.Module, examples: int = 1) -> Any:
    """The model's output for the first training examples, brought to where its weights are: the
    data may still lie where the last run wanted them.

    Raises:
        BenchError: it cannot be called with them.
    """
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    batch = {
        name: x.to(weight.device, weight.dtype if x.is_floating_point() else x.dtype)
        for name, x in workload.batch(slice(0, examples)).items()
    }
    try:
        return workload.call(model, batch)
    except Exception as error:
        inputs = ", ".join(
            f"{name} {'x'.join(map(str, batch[name].shape))}" if name in batch else f"no {name}"
            for name in workload.inputs
        )
        raise BenchError(
            f"workload={workload.name}: its model cannot be called with {inputs} ({line(error)})"
        ) from error


def refusal_to_stack(workload: Workload) -> str | None:
    """Why runs of it cannot share a stack: a model that is random, or remembers."""
    one, other = drawn(workload, 0), drawn(workload, 1)
    before = {name: x.clone() for name, x in one.named_buffers()}
    for name, x in other.named_buffers():
        if not torch.equal(before[name], x):
            return f"its model draws {name}, which is no parameter"
    with seeded(0), torch.no_grad():
        state = torch.get_rng_state()
        first(on_cpu(workload), one, 2)
        if not torch.equal(state, torch.get_rng_state()):
            return "its model draws from one random stream"
    for name, x in one.named_buffers():
        if not torch.equal(before[name], x):
            return f"its model changes {name}, which is no parameter, while it trains"
    return None
