"""Small convolutional networks."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from bench.workloads.mlp import mlp


def cnn(
    image_shape: Sequence[int],
    classes: int,
    *,
    channels: Sequence[int],
    kernel_size: int = 3,
    hidden_sizes: Sequence[int],
    dropout: float,
) -> nn.Sequential:
    """Images ``[B, C, H, W]`` to logits ``[B, classes]``.

    Each entry of ``channels`` is a convolution of that kernel size, an odd number, which keeps H
    and W, ReLU and 2x2 max-pooling, which halves them; a fully connected head with
    ``hidden_sizes`` follows.
    """
    depth, height, width = image_shape
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([depth, *channels]):
        convolution = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
        layers += [convolution, nn.ReLU(), nn.MaxPool2d(2)]
        height, width = height // 2, width // 2
    features = ([depth, *channels][-1], height, width)
    return nn.Sequential(
        *layers, *mlp(features, classes, hidden_sizes=hidden_sizes, dropout=dropout)
    )
