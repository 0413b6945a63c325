"""K runs that differ only in numbers, as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import stack_module_state, vmap

from bench.continuation import CHECKPOINT
from bench.errors import BenchError
from bench.landscape import trajectory
from bench.settings.schema import total_steps
from bench.settings.workloads import workload_of
from bench.training import dense, resumption
from bench.training.memory import batch_size
from bench.training.module import Member, TrainingModule
from bench.training.plan import Plan
from bench.training.side_by_side import for_each_run, outputs
from bench.training.step import Step, mean_over_batches, penalised
from bench.training.tracing import Tracer, by_autograd, has_buffers
from bench.workloads.workload import Batch, Workload
from optimizers.stack import Stack


class StackModule(TrainingModule):
    """Trains models of one shape side by side: parameters are ``[K, ...]``.

    The K runs lie ordered by seed, G for each of U seeds, so that a batch ``[U, B, ...]`` serves
    the G runs of its seed without being copied. When runs are over, the stack shrinks to the
    largest number that a seed has left; where a seed has fewer, such runs keep the places. Runs
    that were stopped early come back for the test.

    Args:
        models: one for each member, initialised. Their buffers are the same, and stay.

    Raises:
        BenchError: buffers differ between the models.
    """

    def __init__(
        self,
        members: Sequence[Member],
        workload: Workload,
        plan: Plan,
        models: Sequence[nn.Module],
    ) -> None:
        rows = grid(members)
        placed = [
            # Where a seed has fewer runs than another, one of them is trained again, unrecorded.
            replace(members[k], recorder=None, diverged=True) if k in rows[:place] else members[k]
            for place, k in enumerate(rows)
        ]
        super().__init__(placed, workload, plan)
        self.placed = placed
        self.stopped: list[tuple[Member, list[Tensor]]] = []  # with their weights
        self.model = models[0]
        stacked, buffers = stack_module_state([models[k] for k in rows])
        for name, rows_of_it in buffers.items():
            if any(not torch.equal(row, rows_of_it[0]) for row in rows_of_it):
                raise BenchError(f"a stack has one {name} for all runs, and theirs differ")
        self.names = list(stacked)
        self.stacked = nn.ParameterList(stacked.values())
        self.start: Mapping[str, Any] | None = None  # what `checkpoint` gave
        self.saved: Mapping[str, Any] | None = None  # of it what training starts with
        together = workload.evaluation_batch_of_stacks
        self.evaluation_batch = max(together // 80, together // len(rows))

    @property
    def running(self) -> list[Member]:
        return self.placed

    def configure_optimizers(self) -> list[Any]:
        """None that Lightning should know of: ours steps all runs at once."""
        return []

    def on_train_start(self) -> None:
        configs = [member.config["optimizer"] for member in self.placed]
        options = {
            key: as_one([config[key] for config in configs])
            for key in configs[0]
            if key not in ("name", "_target_")
        }
        for member in self.placed:
            member.lr = member.config["optimizer"]["lr"]
        parameters = self._copied(self.stacked if self.saved is None else self.saved["parameters"])
        self.optimizer = Stack(configs[0]["name"], parameters, options, names=self.names)
        if self.saved is not None:
            self.optimizer.load_state_dict(self.saved["optimizer"])
            self.stopped = [(self.members[k], self._copied(w)) for k, w in self.saved["stopped"]]
        self.saved = None
        self.stacked = nn.ParameterList()
        self._adopt(parameters)
        super().on_train_start()
        if any(member.dropped for member in self.placed):
            self.leave()

    def checkpoint(self) -> dict[str, Any]:
        place = {id(member): k for k, member in enumerate(self.members)}
        return {
            resumption.KEY: resumption.state(self),
            "stack": {
                "placed": [place[id(member)] for member in self.placed],
                "stopped": [(place[id(member)], weights) for member, weights in self.stopped],
                "parameters": [p.detach() for p in self.parameters_now],
                "optimizer": self.optimizer.state_dict(),
            },
        }

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.start is not None:
            self.saved = self.start["stack"]
            resumption.adopt(self, self.start[resumption.KEY])
            self.placed = [self.members[k] for k in self.saved["placed"]]
            self.start = None

    def _copied(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        return [p.detach().to(self.device, copy=True) for p in tensors]

    def _adopt(self, parameters: Sequence[Tensor]) -> None:
        """Goes on with these parameters, whose rows are the runs in `placed`."""
        self.parameters_now = [p.requires_grad_() for p in parameters]

    def make_step(self) -> Step:
        return StackStep(self)

    def whereabouts(self) -> Tensor:
        return self.parameters_now[self.names.index(self.workload.way)].flatten(1)

    def sums(self, batch: Batch) -> Mapping[str, Tensor]:
        parameters = dict(zip(self.names, self.parameters_now, strict=True))
        seen = {name: x.unsqueeze(0) for name, x in batch.items()}
        found = outputs(self.workload, self.model, parameters, seen)
        runs = len(self.placed)
        own = {name: x.expand(runs, *x.shape[1:]) for name, x in seen.items()}
        return vmap(self.workload.sums, (0, 0 if own else None))(found, own)

    def weights_now(self) -> Iterator[tuple[Member, Sequence[Tensor]]]:
        for row, member in enumerate(self.placed):
            yield member, [p[row] for p in self.parameters_now]

    def leave(self) -> None:
        kept = [member for member, _ in self.stopped]
        for row, member in enumerate(self.placed):
            if member.stopped and all(member is not other for other in kept):
                self.stopped.append(
                    (member, [p[row].detach().clone() for p in self.parameters_now])
                )
        rows = grid(self.placed)
        if 0 < len(rows) < len(self.placed):
            self.placed = [self.placed[row] for row in rows]
            self._adopt(self.optimizer.keep(rows))
            self.choose_step()

    def on_test_start(self) -> None:
        """The runs that trained to the end, and those that were stopped as they were then."""
        rows = [row for row, member in enumerate(self.placed) if not member.over]
        self.parameters_now = [
            torch.stack([*p[rows], *(weights[i] for _, weights in self.stopped)])
            for i, p in enumerate(self.parameters_now)
        ]
        self.placed = [*(self.placed[row] for row in rows), *(member for member, _ in self.stopped)]

    def trained_models(self) -> Iterator[tuple[Member, nn.Module]]:
        for row, member in enumerate(self.placed):
            for own, p in zip(self.model.parameters(), self.parameters_now, strict=True):
                own.data = p[row].detach()
            yield member, self.model

    def save_weights(self) -> None:
        """Writes for each run that was tested what its checkpoint would hold when it
        trained alone, as far as it is the model's.

        Raises:
            BenchError: one cannot be written.
        """
        for row, member in enumerate(self.placed):
            if member.recorder is not None:
                own = {
                    f"model.{name}": p[row].detach().clone()
                    for name, p in zip(self.names, self.parameters_now, strict=True)
                }
                own |= {f"model.{name}": x for name, x in self.model.named_buffers()}
                resumption.write({"state_dict": own}, member.recorder.directory / CHECKPOINT)


class StackStep(Step):
    """A step of all runs in a stack as it is now: their gradients, rates and seeds."""

    def __init__(self, module: StackModule) -> None:
        self.module, self.workload, self.model = module, module.workload, module.model
        self.optimizer, self.names = module.optimizer, module.names
        self.parameters, placed = module.parameters_now, module.placed
        seeds = sorted({member.config["seed"] for member in placed})
        rows = [module.executions.seeds.index(seed) for seed in seeds]
        self.seed_rows = torch.tensor(rows, device=module.device)
        self.rates = np.array([member.lr for member in placed])[:, None] * np.array(
            [member.multipliers for member in placed]
        )  # [K, T]
        l2 = torch.tensor([workload_of(member.config).l2 for member in placed])
        self.l2 = [l2.to(module.device)] if l2.any() else []
        kind = f"stack, l2 {bool(self.l2)}"
        known = not has_buffers(module.model)
        kernel = partial(dense.in_place_of_stacks, self.workload, self.model)
        self.tracer = Tracer(self.losses, self.workload, kind, faster=kernel) if known else None

    def compute(self, indices: Tensor) -> Tensor:
        indices = indices.index_select(0, self.seed_rows)  # [U, B]
        losses, self.gradients = mean_over_batches(self.module.executions, indices, self._gradients)
        return losses

    def _gradients(self, indices: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        flat = self.workload.batch(indices.flatten())
        batch = {name: x.unflatten(0, indices.shape) for name, x in flat.items()}
        found = self.tracer and self.tracer.find(self.parameters, batch, *self.l2)
        return (found or by_autograd(self.losses))(self.parameters, batch, *self.l2)

    def losses(self, parameters: Sequence[Tensor], batch: Batch, *l2: Tensor) -> Tensor:
        named = dict(zip(self.names, parameters, strict=True))
        found = outputs(self.workload, self.model, named, batch)
        own = for_each_run(batch, len(parameters[0]))

        losses = self.workload.objectives(found, own)
        if not l2:
            return losses
        return vmap(penalised, (0, 0, 0))(losses, list(parameters), *l2)

    def prepare(self, step: int) -> None:
        self.optimizer.prepare(lr=self.rates[:, step])

    def apply(self) -> None:
        self.optimizer.apply(self.gradients)

    def take(self, indices: Tensor, step: int) -> Tensor:
        losses = self.compute(indices)
        self.optimizer.step(self.gradients, lr=self.rates[:, step])
        return losses


def grid(members: Sequence[Member]) -> list[int]:
    """Rows of ``members`` ordered by seed, the same number for each seed that has a run left: all
    that run, and as many others as fill the places; a run twice if nothing else is there."""
    rows: dict[int, tuple[list[int], list[int]]] = {}
    for row, member in enumerate(members):
        rows.setdefault(member.config["seed"], ([], []))[member.over].append(row)
    most = max(len(running) for running, _ in rows.values())
    filled = []
    for _, (running, over) in sorted(rows.items()):
        if running:
            filled += ([*running, *over] + running[:1] * most)[:most]
    return filled


def as_one(values: Sequence[Any]) -> Any:
    """The numbers of all runs, or the word that they share."""
    return values[0] if isinstance(values[0], bool | str | None) else values


def bytes_per_run(config: Mapping[str, Any]) -> int:
    """An estimate of the memory that one run of a stack takes: its parameters with gradients, state
    and temporaries, every layer's output, forward and backward, and its way if it keeps one."""
    workload = workload_of(config)
    weights, outputs = workload.extent()
    batch = batch_size(workload)
    way = weights * (total_steps(config) + 1) if workload.way else 0
    kept = way if way <= trajectory.MOST else 0
    return 4 * (8 * weights + 2 * batch * (outputs + workload.example_size()) + kept)
