"""Fully connected networks; without hidden layers, (multinomial) logistic regression."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(
    image_shape: Sequence[int], classes: int, *, hidden_sizes: Sequence[int], dropout: float
) -> nn.Sequential:
    """Images ``[B, C, H, W]`` to logits ``[B, classes]``: linear, ReLU, dropout, ..., linear."""
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [math.prod(image_shape), *hidden_sizes]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(sizes[-1], classes))
    return nn.Sequential(*layers)
