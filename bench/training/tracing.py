"""Losses and gradients as the plain list of operators that they consist of.

Where a step takes less than a millisecond, a CPU spends much of it on finding out what to compute
(calls of modules, the autograd graph and its engine), and that is the same in every step.
"""

import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.graph import CodeGen
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from bench.workloads.workload import Workload
from optimizers.layouts import Layout

log = logging.getLogger(__name__)

Losses = Callable[..., Tensor]  # (parameters, batch, ...) -> losses, each of its own parameters
Gradients = Callable[..., tuple[Tensor, Sequence[Tensor]]]  # (parameters, batch, ...) -> both

MOST = 32  # recordings kept for a workload

aten = torch.ops.aten
SHORTER = {  # the same operators, called at half the cost
    aten.t.default: torch.t,
    aten.mm.default: torch.mm,
    aten.addmm.default: torch.addmm,
    aten.bmm.default: torch.bmm,
    aten.baddbmm.default: torch.baddbmm,
    aten.relu.default: torch.relu,
    aten.sum.dim_IntList: torch.sum,
    aten.transpose.int: torch.transpose,
    aten._log_softmax.default: torch._log_softmax,
    aten._log_softmax_backward_data.default: torch._log_softmax_backward_data,
}


def by_autograd(losses: Losses) -> Gradients:
    def gradients(
        parameters: Sequence[Tensor], batch: Mapping[str, Tensor], *more: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        values = losses(parameters, batch, *more)
        whole = values.sum() if values.ndim else values  # with ones beside it, torch loads sympy
        return values.detach(), torch.autograd.grad(whole, list(parameters))

    return gradients


class Tracer:
    """Gives the gradients of `losses`, for each shape of the data, as a list of operators.

    A list is recorded on the first data of a shape and carried out on all that follow, with the
    results of autograd to the last bit. Recording takes as long as a hundred small steps, so lists
    are kept with the workload, for all runs of it: they follow from the workload, the shapes of
    parameters and data, and ``kind``, which says whether losses are those of a stack.

    Args:
        faster: from a list, with parameters and data that it can be tried on, to what gives the
            same sooner; asked by each one for itself.
    """

    kept: ClassVar[WeakKeyDictionary[Any, dict[Any, Gradients | None]]] = WeakKeyDictionary()

    def __init__(
        self,
        losses: Losses,
        workload: Workload,
        kind: str = "solo",
        faster: Callable[..., Gradients] | None = None,
    ) -> None:
        self.losses, self.kind, self.faster = losses, kind, faster
        self.recordings = self.kept.setdefault(workload, {})
        self.own: dict[Any, Gradients | None] = {}  # what is used here
        self.model: tuple[Any, ...] = ()  # what is known of the parameters, which stay
        self.last: tuple[list[str], Layout, Gradients | None] | None = None

    def find(
        self, parameters: Sequence[Tensor], batch: Mapping[str, Tensor], *more: Tensor
    ) -> Gradients | None:
        """What computes the gradients for such data; None where a list would be wrong."""
        tensors = (*batch.values(), *more)
        if self.last is not None and self.last[0] == list(batch) and self.last[1].holds(tensors):
            return self.last[2]
        self.model = self.model or tuple((p.shape, p.stride(), p.dtype) for p in parameters)
        described = ((x.shape, x.stride(), x.dtype, x.device) for x in tensors)
        key = (self.kind, self.model, *batch, *described)
        if key not in self.own:
            if key not in self.recordings:
                _keep(self.recordings, key, record(self.losses, parameters, batch, *more))
            found = self.recordings[key]
            if found is not None and self.faster is not None:
                found = self.faster(found, parameters, batch, *more)
            _keep(self.own, key, found)
        self.last = list(batch), Layout(tensors), self.own[key]
        return self.own[key]


def _keep(recordings: dict[Any, Gradients | None], key: Any, found: Gradients | None) -> None:
    if len(recordings) == MOST:
        recordings.pop(next(iter(recordings)))
    recordings[key] = found


def has_buffers(model: nn.Module) -> bool:
    """Whether a model holds tensors that are no parameters, with a line in the log: a list would
    hold those of one run, and to record it would change what the model remembers."""
    found = next((name for name, _ in model.named_buffers()), None)
    if found is not None:
        log.info("steps are not traced: the model holds %s, which is no parameter", found)
    return found is not None


class Unrepeatable(Exception):
    """An operator would not do the same in another step."""


class Recorder(TorchDispatchMode):
    """Writes each operator that is carried out into a graph whose inputs are ``arguments``; but
    not what gives a tensor again that is there.

    Raises:
        Unrepeatable: an operator is random, reads a value, gives a shape that follows from values,
            or takes a tensor that neither is an argument nor was computed from them.
    """

    def __init__(self, arguments: Sequence[Tensor]) -> None:
        super().__init__()
        self.graph = Graph()
        self.nodes: dict[int, Node] = {}
        self.ones: dict[str, Tensor] = {}  # by attribute
        self.kept: list[Tensor] = []  # whose ids must not come again
        for place, x in enumerate(arguments):
            self._know(x, self.graph.placeholder(f"x{place}"))

    def node(self, x: Tensor) -> Node:
        try:
            return self.nodes[id(x)]
        except KeyError:
            raise Unrepeatable("the model holds tensors that are no parameters") from None

    def _know(self, x: Tensor, node: Node) -> None:
        self.kept.append(x)
        self.nodes[id(x)] = node

    def _stays(self, args: Sequence[Any]) -> bool:
        """Whether one of them, which may be a view, lies where ones do that all steps share."""
        ones = {x.untyped_storage().data_ptr() for x in self.ones.values()}
        return any(isinstance(x, Tensor) and x.untyped_storage().data_ptr() in ones for x in args)

    def _again(self, func: Any, args: Sequence[Any], found: Tensor) -> Node | None:
        """What an operator gives anew: a tensor detached, or transposed twice, or ones."""
        if func is aten.detach.default:
            return cast(Node, args[0])
        if func is aten.t.default and args[0].target is torch.t:
            return cast(Node, args[0].args[0])
        if func is aten.ones_like.default:  # such as the gradient of a loss by itself
            name = f"ones{len(self.ones)}"
            self.ones[name] = found
            return self.graph.get_attr(name)
        return None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Unrepeatable(f"{func} is random")
        if torch.Tag.dynamic_output_shape in func.tags and not _by_numbers(func, args):
            raise Unrepeatable(f"the shape that {func} gives depends on values")
        own, named = tree_map_only(Tensor, self.node, (args, kwargs))
        if func._schema.is_mutable and self._stays(args):
            raise Unrepeatable(f"{func} writes to what stays")
        found = func(*args, **kwargs)
        if (same := self._again(func, own, found)) is not None:
            self._know(found, same)
            return found
        node = self.graph.call_function(SHORTER.get(func, func), own, named)
        if isinstance(found, Tensor):
            self._know(found, node)
        elif isinstance(found, tuple | list):
            for place, x in enumerate(found):
                self._know(x, self.graph.call_function(operator.getitem, (node, place)))
        elif found is not None:
            raise Unrepeatable(f"what comes after {func} may depend on a value")
        return found


def _by_numbers(func: Any, args: Sequence[Any]) -> bool:
    """Whether it is an index by whole numbers, whose result has their shape; not by a mask."""
    if func is not aten.index.Tensor:
        return False
    return all(i is None or i.dtype not in (torch.bool, torch.uint8) for i in args[1])


def record(
    losses: Losses, parameters: Sequence[Tensor], batch: Mapping[str, Tensor], *more: Tensor
) -> Gradients | None:
    """The operators behind the gradients; None, with a line in the log, if they are not the same in
    every step: if what comes next depends on a value, on randomness, or on tensors besides the
    arguments."""
    count, names = len(parameters), list(batch)
    gradients = by_autograd(losses)

    def flat(*tensors: Tensor) -> list[Tensor]:
        data = tensors[count : count + len(names)]
        own = dict(zip(names, data, strict=True))
        values, found = gradients(tensors[:count], own, *tensors[count + len(names) :])
        return [values, *found]

    leaves = [p.detach().requires_grad_() for p in parameters]
    recorder = Recorder([*leaves, *batch.values(), *more])
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]), recorder:
            found = flat(*leaves, *batch.values(), *more)
        recorder.graph.output([recorder.node(x) for x in found])
    except Exception as error:
        log.info("steps are not traced: %s", str(error).partition("\n")[0])
        return None
    graph = recorder.graph
    graph.eliminate_dead_code()
    graph.set_codegen(CodeGen())  # tensors in, a list of tensors out
    module = GraphModule(recorder.ones, graph)
    run = module.forward

    @torch.no_grad()
    def carry_out(
        parameters: Sequence[Tensor], batch: Mapping[str, Tensor], *more: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        values, *found = run(*parameters, *batch.values(), *more)
        return values, found

    return carry_out
