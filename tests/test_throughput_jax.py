"""JAX, as a contender, trains what ours trains."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.settings.workloads import workload_of
from bench.throughput.measure import configuration
from bench.throughput.problem import Problem
from bench.workloads.workload import Workload

jax = pytest.importorskip("jax")

STEPS, BATCH, SEEDS = 4, 16, 2
RATES = (1e-3, 3e-3)


@pytest.mark.parametrize(
    ("name", "stacked"),
    [
        ("mnist_mlp", False),
        ("mnist_mlp", True),
        ("cifar10_linear", True),
        pytest.param("cifar10_cnn", False, marks=pytest.mark.slow),
        pytest.param("cifar10_cnn", True, marks=pytest.mark.slow),
    ],
)
def test_jax_takes_our_steps(name: str, stacked: bool) -> None:
    """The same losses and answers, from the same weights and batches, for each run of a stack."""
    from bench.throughput import jax_model
    from bench.throughput.jax_peer import Programs

    config = configuration(name, "cpu")
    workload, problem = workload_of(config), Problem.of(config)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1000, *workload.shape.image_shape, generator=generator)  # type: ignore[attr-defined]
    labels = torch.randint(0, 10, (1000,), generator=generator)
    order = torch.randint(0, 1000, (SEEDS, STEPS, BATCH), generator=generator)
    split = jax_model.Split(
        jax.numpy.asarray(images.permute(0, 2, 3, 1).numpy()),
        jax.numpy.asarray(labels.numpy().astype(np.int32)),
    )
    models = [[workload.build(seed) for _ in RATES] for seed in range(SEEDS)]
    starts = [[jax_model.start(params_of(model)) for model in row] for row in models]
    if stacked:
        stack = jax.tree.map(
            lambda *x: jax.numpy.stack(x).reshape(SEEDS, len(RATES), *x[0].shape),
            *(state for row in starts for state in row),
        )
        lrs = jax.numpy.broadcast_to(jax.numpy.float32(RATES), (SEEDS, len(RATES)))
    else:
        models, order, stack, lrs = [[models[0][0]]], order[:1], starts[0][0], RATES[0]
    programs = Programs(problem, stacked=stacked)
    indices = order.numpy().astype(np.int32)
    state, losses = programs.train(
        stack, jax.numpy.float32(lrs), indices if stacked else indices[0], split
    )
    found = programs.evaluate(state.params, split)
    ours = [
        [
            trained(workload, model, lr, images, labels, index)
            for model, lr in zip(row, RATES, strict=False)
        ]
        for row, index in zip(models, order, strict=True)
    ]
    expected = np.array(ours)  # [S, L, steps + 2]
    shape = expected.shape[:2]
    np.testing.assert_allclose(losses.reshape(*shape, STEPS), expected[..., :STEPS], rtol=1e-3)
    np.testing.assert_allclose(found["loss"].reshape(shape), expected[..., STEPS], rtol=1e-3)
    np.testing.assert_allclose(found["accuracy"].reshape(shape), expected[..., -1], atol=0.004)


def trained(
    workload: Workload,
    model: nn.Module,
    lr: float,
    images: torch.Tensor,
    labels: torch.Tensor,
    order: torch.Tensor,
) -> list[float]:
    """The loss of each step of PyTorch's Adam; then loss and accuracy on all examples."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    values = []
    for index in order:
        optimizer.zero_grad()
        loss = workload.objective(model(images[index]), {"labels": labels[index]})
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    with torch.no_grad():
        sums = workload.sums(model(images), {"labels": labels})
    return [*values, *(sums[key].item() / len(labels) for key in ("loss", "accuracy"))]


def params_of(model: Any) -> Any:
    """A model's parameters as JAX's has them: its images are ``[H, W, C]``."""
    from bench.throughput.jax_model import Layer, Params

    convolutions, dense, channels = [], [], 1
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.detach().permute(2, 3, 1, 0)
            channels = layer.out_channels
            convolutions.append((weight, layer.bias))
        elif isinstance(layer, nn.Linear):
            weight = layer.weight.detach().T  # [inputs, outputs]
            if not dense:  # its inputs were [C, H, W], flattened
                if not convolutions:
                    channels = 3 if layer.in_features == 3072 else 1
                pixels = weight.unflatten(0, (channels, -1))
                weight = pixels.transpose(0, 1).flatten(0, 1)
            dense.append((weight, layer.bias))

    def layers(pairs: Any) -> list[Any]:
        return [
            Layer(*(jax.numpy.array(x.detach().contiguous().numpy()) for x in pair))
            for pair in pairs
        ]

    return Params(layers(convolutions), layers(dense))


def test_epochs_go_through_all_examples_in_another_order_each() -> None:
    problem = Problem(**{**asdict(Problem.of(configuration("mnist_mlp", "cpu"))), "batch_size": 4})
    epochs = list(problem.epochs(10, 7, 0))
    assert [epoch.shape for epoch in epochs] == [(3, 4), (3, 4), (1, 4)]
    assert all(set(epoch.ravel()) == set(range(10)) for epoch in epochs[:2])
    assert (epochs[0] != epochs[1]).any()
    assert all((a == b).all() for a, b in zip(epochs, problem.epochs(10, 7, 0), strict=True))
