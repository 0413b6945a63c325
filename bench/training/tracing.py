"""Losses and gradients as the plain list of operators that they consist of.

Where a step takes less than a millisecond, a CPU spends much of it on finding out what to compute
(calls of modules, the autograd graph and its engine), and that is the same in every step.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.graph import CodeGen

from bench.workloads.workload import Workload

log = logging.getLogger(__name__)

Losses = Callable[..., Tensor]  # (parameters, batch, ...) -> losses, each of its own parameters
Gradients = Callable[..., tuple[Tensor, Sequence[Tensor]]]  # (parameters, batch, ...) -> both

MOST = 32  # recordings kept for a workload


def by_autograd(losses: Losses) -> Gradients:
    def gradients(
        parameters: Sequence[Tensor], batch: Mapping[str, Tensor], *more: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        values = losses(parameters, batch, *more)
        return values.detach(), torch.autograd.grad(
            values, list(parameters), torch.ones_like(values)
        )

    return gradients


class Tracer:
    """Gives the gradients of `losses`, for each shape of the data, as a list of operators.

    A list is recorded on the first data of a shape and carried out on all that follow, with the
    results of autograd to the last bit. Recording takes as long as a hundred small steps, so lists
    are kept with the workload, for all runs of it: they follow from the workload, the shapes of
    parameters and data, and ``kind``, which says whether losses are those of a stack.
    """

    kept: ClassVar[WeakKeyDictionary[Any, dict[Any, Gradients | None]]] = WeakKeyDictionary()

    def __init__(self, losses: Losses, workload: Workload, kind: str = "solo") -> None:
        self.losses, self.kind = losses, kind
        self.recordings = self.kept.setdefault(workload, {})
        self.model: tuple[Any, ...] = ()  # what is known of the parameters, which stay

    def find(
        self, parameters: Sequence[Tensor], batch: Mapping[str, Tensor], *more: Tensor
    ) -> Gradients | None:
        """What computes the gradients for such data; None where a list would be wrong."""
        self.model = self.model or tuple((p.shape, p.stride(), p.dtype) for p in parameters)
        tensors = (*batch.values(), *more)
        described = ((x.shape, x.stride(), x.dtype, x.device) for x in tensors)
        key = (self.kind, self.model, *batch, *described)
        if key not in self.recordings:
            if len(self.recordings) == MOST:
                self.recordings.pop(next(iter(self.recordings)))
            self.recordings[key] = record(self.losses, parameters, batch, *more)
        return self.recordings[key]


def has_buffers(model: nn.Module) -> bool:
    """Whether a model holds tensors that are no parameters, with a line in the log: a list would
    hold those of one run, and to record it would change what the model remembers."""
    found = next((name for name, _ in model.named_buffers()), None)
    if found is not None:
        log.info("steps are not traced: the model holds %s, which is no parameter", found)
    return found is not None


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
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            module = make_fx(flat)(*leaves, *batch.values(), *more)
    except Exception as error:
        log.info("steps are not traced: %s", str(error).partition("\n")[0])
        return None
    for node in module.graph.nodes:
        if node.op == "get_attr":
            log.info("steps are not traced: the model holds tensors that are no parameters")
            return None
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            log.info("steps are not traced: %s is random", node.target)
            return None
    module.graph.eliminate_dead_code()
    module.graph.set_codegen(CodeGen())  # tensors in, a list of tensors out
    module.recompile()
    run = module.forward

    @torch.no_grad()
    def carry_out(
        parameters: Sequence[Tensor], batch: Mapping[str, Tensor], *more: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        values, *found = run(*parameters, *batch.values(), *more)
        return values, found

    return carry_out
