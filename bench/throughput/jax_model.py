"""The image classifiers in JAX: models, loss, Adam and runs, as pure functions of pytrees.

A run is trained by a `jax.lax.scan` over its steps; a stack of runs is that under `jax.vmap`.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod, sqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

EVALUATION_BATCH = 1000
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class Layer(NamedTuple):
    weight: Array  # of a dense layer [inputs, outputs], of a convolution [h, w, inputs, outputs]
    bias: Array  # [outputs]


class Params(NamedTuple):
    convolutions: list[Layer]
    dense: list[Layer]


class State(NamedTuple):
    """Of a run: its parameters, Adam's moments, and how many steps were taken."""

    params: Params
    m: Params
    v: Params
    t: Array


class Split(NamedTuple):
    """Scaled in advance: bytes that are scaled in each batch are slower here."""

    images: Array  # [N, H, W, C], float32
    labels: Array  # [N], int32


def init(
    seed: int,
    *,
    image_shape: Sequence[int],
    classes: int,
    channels: Sequence[int],
    hidden_sizes: Sequence[int],
    kernel_size: int,
) -> Params:
    """PyTorch's default: weights and biases uniform in ±1/sqrt(fan_in). Images are ``[H, W, C]``.
    Drawn by NumPy: JAX's own draws take it seconds to compile."""
    generator = np.random.default_rng(seed)

    def layer(*shape: int) -> Layer:
        bound = 1 / sqrt(prod(shape[:-1]))
        drawn = (generator.uniform(-bound, bound, size) for size in (shape, shape[-1:]))
        return Layer(*(jnp.asarray(x, jnp.float32) for x in drawn))

    height, width, depth = image_shape
    shrunk = 2 ** len(channels)
    depths = (depth, *channels)
    widths = (height // shrunk * (width // shrunk) * depths[-1], *hidden_sizes, classes)
    return Params(
        [layer(kernel_size, kernel_size, *pair) for pair in pairwise(depths)],
        [layer(*pair) for pair in pairwise(widths)],
    )


def start(params: Params) -> State:
    m, v = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
    return State(params, m, v, jnp.zeros((), jnp.int32))


def logits(params: Params, images: Array) -> Array:
    """``[B, classes]`` of images ``[B, H, W, C]``."""
    x = images
    for weight, bias in params.convolutions:
        x = lax.conv_general_dilated(
            x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = pooled(jax.nn.relu(x + bias))
    x = x.reshape(len(x), -1)
    *hidden, last = params.dense
    for weight, bias in hidden:
        x = jax.nn.relu(x @ weight + bias)
    return x @ last.weight + last.bias


def pooled(x: Array) -> Array:
    """2x2 max-pooling of ``[B, H, W, C]``."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))


def losses(logits: Array, labels: Array) -> Array:
    """Cross-entropy of each example in nats, ``[B]``."""
    true = jax.nn.one_hot(labels, logits.shape[-1])
    return -(true * jax.nn.log_softmax(logits)).sum(-1)


def loss(params: Params, images: Array, labels: Array) -> Array:
    return losses(logits(params, images), labels).mean()


def adam(state: State, gradients: Params, lr: Array) -> State:
    t = state.t + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state.m, gradients)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state.v, gradients)
    rate, correction = lr / (1 - BETA1**t), 1 - BETA2**t
    params = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v / correction) + EPS), state.params, m, v
    )
    return State(params, m, v, t)


def step(state: State, lr: Array, index: Array, split: Split) -> tuple[State, Array]:
    """One step on the batch ``index [B]``; also its loss."""
    images, labels = split.images[index], split.labels[index]
    value, gradients = jax.value_and_grad(loss)(state.params, images, labels)
    return adam(state, gradients, lr), value


def train(state: State, lr: Array, order: Array, split: Split) -> tuple[State, Array]:
    """Steps through the batches ``order [steps, B]``; also the loss of each, ``[steps]``."""
    return lax.scan(lambda state, index: step(state, lr, index, split), state, order)


def evaluate(params: Params, split: Split, first: Array) -> tuple[Array, Array]:
    """Sums of loss and of right answers over a thousand examples."""
    part = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, first, EVALUATION_BATCH), split)
    answers = logits(params, part.images)
    return losses(answers, part.labels).sum(), (answers.argmax(-1) == part.labels).sum()


def stacked(train: Callable[..., Any]) -> Callable[..., Any]:
    """`step` or `train` for a stack ``[S, L]`` of runs: S seeds, each with its batches, which L
    learning rates share."""
    return jax.vmap(jax.vmap(train, (0, 0, None, None)), (0, 0, 0, None))


evaluate_stack = jax.vmap(jax.vmap(evaluate, (0, None, None)), (0, None, None))
