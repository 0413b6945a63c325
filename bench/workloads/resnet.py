"""Small residual networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from bench.workloads.mlp import mlp

PADDING = 4


def resnet(
    image_shape: Sequence[int],
    classes: int,
    *,
    channels: Sequence[int],
    blocks: int,
    augment: bool,
    hidden_sizes: Sequence[int],
    dropout: float,
) -> nn.Sequential:
    """Images ``[B, C, H, W]`` to logits ``[B, classes]``: He et al. 2016, section 4.2.

    A 3x3 convolution to ``channels[0]``, then for each entry of ``channels`` that many blocks, the
    first of which halves H and W but in the first stage; the mean over places, and a fully
    connected head. With projections (their option B) where the shape changes.
    """
    first = channels[0]
    layers: list[nn.Module] = [Augment()] if augment else []
    layers += [nn.Conv2d(image_shape[0], first, 3, padding=1, bias=False)]
    layers += [nn.BatchNorm2d(first), nn.ReLU()]
    for stage, (inputs, outputs) in enumerate(pairwise([first, *channels])):
        layers.append(Block(inputs, outputs, stride=1 if stage == 0 else 2))
        layers += [Block(outputs, outputs, stride=1) for _ in range(blocks - 1)]
    layers.append(nn.AdaptiveAvgPool2d(1))
    head = mlp((channels[-1], 1, 1), classes, hidden_sizes=hidden_sizes, dropout=dropout)
    return nn.Sequential(*layers, *head)


class Block(nn.Module):
    """``relu(x + f(x))``, where f is convolution, norm, ReLU, convolution, norm."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return (self.shortcut(x) + self.residual(x)).relu()


class Augment(nn.Module):
    """Of each image ``[C, H, W]``, while training: a random cut of its size from the image with
    four pixels of zeros around it, and its mirror image half the time."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return images
        examples, _, height, width = images.shape
        down, right = torch.randint(2 * PADDING + 1, (2, examples, 1), device=images.device)
        mirrored = torch.rand(examples, 1, device=images.device) < 0.5
        rows = down + torch.arange(height, device=images.device)  # [B, H]
        columns = right + torch.arange(width, device=images.device)  # [B, W]
        columns = columns.flip(1).where(mirrored, columns)
        padded = nn.functional.pad(images, (PADDING,) * 4).permute(0, 2, 3, 1)
        example = torch.arange(examples, device=images.device)[:, None, None]
        return padded[example, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
