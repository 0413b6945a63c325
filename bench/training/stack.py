"""K runs that differ only in numbers, as one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import stack_module_state, vmap
from torch.nn import functional as F

from bench.data import DATASETS, Prepared
from bench.training.module import Member, TrainingModule
from bench.training.side_by_side import logits
from bench.training.tracing import Tracer, by_autograd
from bench.workloads import extent, objective
from optimizers.stack import Stack


class StackModule(TrainingModule):
    """Trains models of one shape side by side: parameters are ``[K, ...]``.

    The K runs lie ordered by seed, G for each of U seeds, so that a batch ``[U, B, ...]`` serves
    the G runs of its seed without being copied. When runs are over, the stack shrinks to the
    largest number that a seed has left; where a seed has fewer, such runs keep the places. Runs
    that were stopped early come back for the test.

    Args:
        models: one for each member, initialised.
    """

    def __init__(
        self, members: Sequence[Member], data: Prepared, models: Sequence[nn.Module]
    ) -> None:
        rows = grid(members)
        placed = [
            # Where a seed has fewer runs than another, one of them is trained again, unrecorded.
            replace(members[k], recorder=None, diverged=True) if k in rows[:place] else members[k]
            for place, k in enumerate(rows)
        ]
        super().__init__(placed, data)
        self.placed = placed
        self.stopped: list[tuple[Member, list[Tensor]]] = []  # with their weights
        self.model = models[0]
        stacked, _ = stack_module_state([models[k] for k in rows])
        self.names = list(stacked)
        self.stacked = nn.ParameterList(stacked.values())
        self.evaluation_batch = max(100, 8000 // len(rows))

    @property
    def running(self) -> list[Member]:
        return self.placed

    def configure_optimizers(self) -> list[Any]:
        """None that Lightning should know of: ours steps all runs at once."""
        return []

    def on_train_start(self) -> None:
        super().on_train_start()
        configs = [member.config["optimizer"] for member in self.placed]
        options = {
            key: as_one([config[key] for config in configs])
            for key in configs[0]
            if key not in ("name", "_target_")
        }
        for member in self.placed:
            member.lr = member.config["optimizer"]["lr"]
        parameters = [p.detach().clone() for p in self.stacked]
        self.optimizer = Stack(configs[0]["name"], parameters, options, names=self.names)
        self.stacked = nn.ParameterList()
        self._adopt(parameters)

    def _adopt(self, parameters: Sequence[Tensor]) -> None:
        """Goes on with these parameters, whose rows are the runs in `placed`."""
        self.parameters_now = [p.requires_grad_() for p in parameters]
        seeds = sorted({member.config["seed"] for member in self.placed})
        self.seed_rows = torch.tensor(
            [self.executions.seeds.index(seed) for seed in seeds], device=self.device
        )
        self.rates = np.array([member.lr for member in self.placed])[:, None] * np.array(
            [member.multipliers for member in self.placed]
        )  # [K, T]
        l2 = torch.tensor([member.config["workload"]["l2"] for member in self.placed])
        self.l2 = [l2.to(self.device)] if l2.any() else []
        parts = [self.workload[part] for part in ("dataset", "model", "label_smoothing")]
        self.tracer = Tracer(self._losses, json.dumps([*parts, len(self.placed)]))
        self.capture_step()

    def compute(self, indices: Tensor) -> Tensor:
        indices = indices.index_select(0, self.seed_rows)  # [U, B]
        losses, self.gradients = self.mean_over_batches(indices, self._gradients)
        return losses

    def _gradients(self, indices: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        images, labels = self.data.train.batch(indices.flatten())
        data = (images.unflatten(0, indices.shape), labels.unflatten(0, indices.shape), *self.l2)
        gradients = self.tracer.find(self.parameters_now, *data) or by_autograd(self._losses)
        return gradients(self.parameters_now, *data)

    def _losses(
        self, parameters: Sequence[Tensor], images: Tensor, labels: Tensor, *l2: Tensor
    ) -> Tensor:
        found = logits(self.model, dict(zip(self.names, parameters, strict=True)), images)
        own = labels.repeat_interleave(len(found) // len(labels), 0)  # [K, B]
        common = {"label_smoothing": self.workload["label_smoothing"]} | ({} if l2 else {"l2": 0.0})
        objectives = vmap(partial(objective, **common))
        return objectives(found, own, list(parameters), *l2)

    def prepare(self, step: int) -> None:
        self.optimizer.prepare(lr=self.rates[:, step])

    def apply_gradients(self) -> None:
        self.optimizer.apply(self.gradients)

    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        parameters = dict(zip(self.names, self.parameters_now, strict=True))
        found = logits(self.model, parameters, images.unsqueeze(0))
        wanted = labels.expand(len(self.placed), -1)  # [K, B]
        loss = F.cross_entropy(found.flatten(0, 1), wanted.flatten(), reduction="none")
        return loss.view_as(wanted).sum(1), (found.argmax(2) == wanted).sum(1)

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

    def on_test_start(self) -> None:
        """The runs that trained to the end, and those that were stopped as they were then."""
        rows = [row for row, member in enumerate(self.placed) if not member.over]
        self.parameters_now = [
            torch.stack([*p[rows], *(weights[i] for _, weights in self.stopped)])
            for i, p in enumerate(self.parameters_now)
        ]
        self.placed = [*(self.placed[row] for row in rows), *(member for member, _ in self.stopped)]

    def save_weights(self) -> None:
        """Writes for each run that was tested what its checkpoint would hold when it
        trained alone, as far as it is the model's."""
        for row, member in enumerate(self.placed):
            if member.recorder is not None:
                own = {
                    f"model.{name}": p[row].detach().clone()
                    for name, p in zip(self.names, self.parameters_now, strict=True)
                }
                path = member.recorder.directory / "checkpoints" / "last.ckpt"
                path.parent.mkdir(exist_ok=True)
                torch.save({"state_dict": own}, path)


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
    and temporaries, and every layer's output, forward and backward."""
    workload = config["workload"]
    specification = DATASETS[workload["dataset"]]
    weights, outputs = extent(workload["model"], specification.image_shape, specification.classes)
    images = prod(specification.image_shape)
    return 4 * (8 * weights + 2 * workload["batch_size"] * (outputs + images))
