"""Autoencoders of images: what goes in is to come out, through a layer that is narrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.metrics import Metric, Sums
from bench.settings.fields import accepts, each
from bench.workloads.images import Images

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.workloads.workload import Batch


def mean_error(sums: Sums) -> float:
    return sums["error"] / sums["count"]


class Autoencoder(Images):
    """Images ``[B, C, H, W]`` from 0 to 1 to logits of their pixels, ``[B, C H W]``, through layers
    of ``hidden_sizes`` and those in reverse (Hinton & Salakhutdinov 2006, with ReLU).

    The loss is summed over pixels: their cross-entropy in nats, or half the squared error of the
    sigmoids of the logits. The metric is that error's mean over pixels, not halved.
    """

    hidden_sizes: list[int] = each("[1, inf)")
    loss: str = accepts("cross_entropy", None, "cross_entropy", "squared_error", problem=True)
    init: str = accepts("default", None, "default", "kaiming", "xavier")
    feature_scaling: str = accepts("unit", None, "unit")

    metrics = (Metric("reconstruction_error", of=mean_error),)
    evaluation_batch = 5000

    def build(self, seed: int) -> nn.Module:
        import torch

        from bench.workloads.initialisation import initialise
        from bench.workloads.mlp import mlp

        shape, sizes = self.shape.image_shape, list(self.hidden_sizes)
        with torch.random.fork_rng(devices=[]):  # for what layers draw, which is not used
            pixels = torch.Size(shape).numel()
            model = mlp(shape, pixels, hidden_sizes=[*sizes, *sizes[-2::-1]], dropout=0.0)
        return initialise(
            model,
            init=self.init,
            init_std=0.0,
            init_bias=0.0,
            generator=torch.Generator().manual_seed(seed),
        )

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        pixels = batch["images"].flatten(1)
        if self.loss == "squared_error":
            return (output.sigmoid() - pixels).square().sum(1) / 2
        return binary_cross_entropy_with_logits(output, pixels, reduction="none").sum(1)

    def totals(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        pixels = batch["images"].flatten(1)
        return {"error": (output.sigmoid() - pixels).square().mean(1).sum()}

    def stacks(self) -> str | None:
        return None

    def sharing_that_pays(self, device: str) -> float:
        return 2 if device == "cpu" else super().sharing_that_pays(device)
