"""A trained classifier on images as they are."""

from __future__ import annotations

from torch import Tensor, nn

from bench.data import Dataset
from bench.data.tensors import FeatureScaling, factors, parts, scaling


class Scaled(nn.Module):
    """Images as the data set has them, from 0 to 255, [B, C, H, W], to logits [B, classes].

    Attributes:
        model: the network alone; takes images as `scale` gives them.
    """

    def __init__(self, model: nn.Module, *, shift: Tensor, divisor: Tensor) -> None:
        super().__init__()
        self.model = model
        self.shift: Tensor
        self.divisor: Tensor
        self.register_buffer("shift", shift)
        self.register_buffer("divisor", divisor)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        dataset: Dataset,
        *,
        val_size: int,
        split_seed: int,
        examples: int | None,
        feature_scaling: FeatureScaling,
        spread_decades: float | None,
    ) -> Scaled:
        """By the statistics of the images that a run with these settings was trained on."""
        images = dataset.train.images
        _, train = parts(dataset, val_size=val_size, split_seed=split_seed, examples=examples)
        shift, divisor = scaling(images, train, feature_scaling)
        if feature_scaling == "spread":
            divisor = divisor / factors(images.shape[1:], split_seed, spread_decades)
        return cls(model, shift=shift, divisor=divisor)

    def scale(self, images: Tensor) -> Tensor:
        """In the model's dtype."""
        scaled = (images.float() - self.shift) / self.divisor
        return scaled.to(next(self.model.parameters()).dtype)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.scale(images))
