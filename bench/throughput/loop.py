"""A run as a competent person writes it in plain PyTorch: data in memory, `X[indices]`, fused Adam.

Memory format, allocator and initialisation are PyTorch's defaults. A scalar is logged every 50
steps; validation comes after each epoch and at the end, then the test, as in our runs. Compiled:
the same with `torch.compile` of model and loss.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from bench.data import Split, load, prepare
from bench.settings.workloads import workload_of
from bench.throughput.clock import Clock, Timing
from bench.workloads import ImageClassifier

LOG_EVERY = 50
EVALUATION_BATCH = 1000


class Loop:
    def __init__(self, config: Mapping[str, Any], device: str, *, compiled: bool = False) -> None:
        self.config, self.workload, self.device = config, config["workload"], device
        self.data = prepare(
            load(self.workload["dataset"]),
            feature_scaling=self.workload["feature_scaling"],
            val_size=self.workload["val_size"],
            split_seed=self.workload["split_seed"],
            device=device,
        )
        self.loss, self.compile_seconds = loss_of, 0.0
        if compiled:
            started = time.perf_counter()
            self.loss = self.compile()
            self.compile_seconds = time.perf_counter() - started

    def compile(self) -> Callable[..., Tensor]:
        """For batches of both sizes that an epoch has; serves every model of this shape."""
        os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # or a later process has it for less
        compiled = torch.compile(loss_of, fullgraph=True, dynamic=False)
        model = plain_model(self.config).to(self.device)
        X, y, size = self.data.train.images, self.data.train.labels, self.workload["batch_size"]
        for count in {size, len(X) % size or size}:
            compiled(model, X[:count], y[:count]).backward()
        return compiled

    def run(self, directory: Path, *, steps: int, lr: float, seed: int) -> Timing:
        clock = Clock()
        torch.manual_seed(seed)
        model = plain_model(self.config).to(self.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        X, y = self.data.train.images, self.data.train.labels
        assert self.data.val is not None
        with SummaryWriter(str(directory)) as writer:
            step = 0
            while step < steps:
                order = torch.randperm(len(X), device=self.device)
                for indices in order.split(self.workload["batch_size"])[: steps - step]:
                    loss = self.loss(model, X[indices], y[indices])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    step += 1
                    if step % LOG_EVERY == 0:
                        writer.add_scalar("train/loss", loss.item(), step)
                    clock.stepped(step)
                clock.validation_starts()
                for name, value in evaluate(model, self.data.val).items():
                    writer.add_scalar(f"val/{name}", value, step)
                clock.validation_ends()
            clock.trained(step)
            for name, value in evaluate(model, self.data.test).items():
                writer.add_scalar(f"test/{name}", value, step)
        return replace(clock.stop(), compiled=self.compile_seconds)


def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(images), labels)


def plain_model(config: Mapping[str, Any]) -> nn.Module:
    """The workload's model as its constructors leave it: our initialisation and layout aside."""
    workload = workload_of(config)
    assert isinstance(workload, ImageClassifier)
    return workload.layers()


@torch.no_grad()
def evaluate(model: nn.Module, split: Split) -> dict[str, float]:
    loss = correct = torch.zeros((), device=split.labels.device)
    batches = zip(
        split.images.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH), strict=True
    )
    for images, labels in batches:
        logits: Tensor = model(images)
        loss = loss + F.cross_entropy(logits, labels, reduction="sum")
        correct = correct + (logits.argmax(1) == labels).sum()
    return {"loss": loss.item() / len(split), "accuracy": correct.item() / len(split)}
