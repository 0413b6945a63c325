"""Workloads on which optimizers differ: their data, losses and layers, against what is written out
by hand."""

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from bench.command_line import CONF
from bench.errors import BenchError
from bench.settings.schema import validate
from bench.settings.workloads import workload_of
from bench.training import Run
from bench.workloads import Autoencoder, HeavyTailed
from bench.workloads.heavy_tailed import barcoded, class_sizes
from bench.workloads.models import drawn, refusal_to_stack
from bench.workloads.resnet import Augment
from tests.conftest import fake_dataset


@pytest.fixture(autouse=True)
def hydra_config(fake_data: None) -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def configured(*said: str) -> dict[str, object]:
    return validate(compose("config", ["study=s", *said]))


# --- a heavy tail ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "tail"), [(10, 1.0), (650, 1.0), (650, 0.0), (1280, 2.5)])
def test_classes_follow_a_power_law(classes: int, tail: float) -> None:
    sizes = class_sizes(24_000, classes, tail)
    exact = np.arange(1, classes + 1) ** -tail
    exact *= 24_000 / exact.sum()
    assert sizes.sum() == 24_000
    assert np.abs(sizes - exact).max() < 1


def test_a_class_is_a_digit_and_a_number() -> None:
    """Read back from the squares, and from the image below them."""
    dataset, source = barcoded("mnist", None, 650, 1.0), fake_dataset("mnist")
    assert dataset.classes == 650
    for part, of in ((dataset.train, source.train), (dataset.test, source.test)):
        bits = part.images[:, 0, 0, 0:14:2].long() // 255
        assert torch.equal(part.images[:, 0, 1, 1:14:2].long() // 255, bits)
        numbers = (bits * 2 ** torch.arange(7)).sum(1)
        assert torch.equal(numbers, part.labels // 10)
        digit_of = {
            image[:, 2:].numpy().tobytes(): int(n)
            for image, n in zip(of.images, of.labels, strict=True)
        }
        digits = [digit_of[image[:, 2:].numpy().tobytes()] for image in part.images[::97]]
        assert digits == (part.labels[::97] % 10).tolist()
    counts = torch.bincount(dataset.train.labels, minlength=650)
    assert counts.tolist() == class_sizes(24_000, 650, 1.0).tolist()


def test_rare_classes_have_half_of_the_examples() -> None:
    workload = workload_of(configured("workload=mnist_heavy_tailed"))
    assert isinstance(workload, HeavyTailed)
    sizes = class_sizes(24_000, 650, 1.0)
    first = workload.first_rare
    assert sizes[first:].sum() <= 12_000 <= sizes[first - 1 :].sum()
    output = torch.nn.functional.one_hot(torch.tensor([0, first, 649, 3]), 650).float()
    labels = torch.tensor([0, first, 648, 649])
    sums = {k: float(v) for k, v in workload.sums(output, {"labels": labels}).items()}
    assert workload.values(sums)["accuracy"] == 0.5
    assert workload.values(sums)["rare_accuracy"] == pytest.approx(1 / 3)


# --- autoencoders ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_an_autoencoder_is_judged_by_its_input(loss: str) -> None:
    workload = workload_of(configured("workload=mnist_autoencoder", f"workload.loss={loss}"))
    assert isinstance(workload, Autoencoder)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(5, 1, 28, 28, generator=generator, dtype=torch.float64)
    output = torch.randn(5, 784, generator=generator, dtype=torch.float64)
    x, p = pixels.flatten(1).numpy(), 1 / (1 + np.exp(-output.numpy()))
    entropy = -(x * np.log(p) + (1 - x) * np.log(1 - p))
    expected = entropy if loss == "cross_entropy" else (p - x) ** 2 / 2
    found = workload.losses(output, {"images": pixels})
    assert np.allclose(found.numpy(), expected.sum(1), rtol=1e-12)
    sums = {k: float(v) for k, v in workload.sums(output, {"images": pixels}).items()}
    values = workload.values(sums)
    assert values["reconstruction_error"] == pytest.approx(((p - x) ** 2).mean())
    assert values["loss"] == pytest.approx(expected.sum(1).mean())


def test_its_layers_go_in_and_out() -> None:
    model = drawn(workload_of(configured("workload=mnist_autoencoder")), 0)
    sizes = [layer.out_features for layer in model if isinstance(layer, torch.nn.Linear)]
    assert sizes == [512, 128, 30, 128, 512, 784]


def test_alone_as_in_a_stack(tmp_path: Path) -> None:
    """Of each that may be stacked."""
    for name in ("mnist_autoencoder", "mnist_heavy_tailed", "mnist_overfit", "rare_features"):
        said = [f"runs_dir={tmp_path}", f"workload={name}", "trainer.max_steps=5", "seed=1"]
        said += ["workload.hidden_sizes=[16,4]"] if name == "mnist_autoencoder" else []
        rates = ("optimizer.lr=1e-3", "optimizer.lr=1e-2")
        configs = [configured(*said, lr) for lr in rates]
        stack = Run(configs, [tmp_path / name / lr for lr in rates]).train()
        (alone,) = Run([configs[1]], [tmp_path / name / "alone"]).train()
        assert alone.metrics == pytest.approx(stack[1].metrics, rel=1e-4)


# --- a residual network ---------------------------------------------------------------------------


def test_a_residual_network_has_the_published_number_of_weights() -> None:
    """He et al. 2016, table 6: 0.27 million with 20 layers."""
    said = ["workload=cifar10_resnet", "workload.model.blocks=3", "workload.model.augment=false"]
    model = drawn(workload_of(configured(*said)), 0)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) + 1 == 20
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.27e6, rel=0.02)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_it_cannot_share_a_stack() -> None:
    workload = workload_of(configured("workload=cifar10_resnet"))
    assert "random stream" in str(refusal_to_stack(workload))
    plain = configured("workload=cifar10_resnet", "workload.model.augment=false")
    assert "running_mean" in str(workload_of(plain).stacks())


def test_augmented_images_are_cuts_of_the_image_or_its_mirror() -> None:
    images = torch.rand(64, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    augment = Augment()
    assert torch.equal(augment.eval()(images), images)
    torch.manual_seed(0)
    found = augment.train()(images)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    seen = set()
    for k, cut in enumerate(found):
        cuts = {
            (down, right, mirrored): part
            for down in range(9)
            for right in range(9)
            for mirrored in (False, True)
            for part in [padded[k, :, down : down + 6, right : right + 5]]
        }
        which = [
            at for at, part in cuts.items() if torch.equal(cut, part.flip(2) if at[2] else part)
        ]
        assert len(which) == 1 or not cut.any()
        seen.update(which)
    assert {mirrored for *_, mirrored in seen} == {False, True}
    assert {down for down, _, _ in seen} == {right for _, right, _ in seen} == set(range(9))


def test_wider_kernels_keep_the_size() -> None:
    """DeepOBS's 2c2d, as its paper has it: 3,274,634 weights."""
    said = ["workload=fashion_mnist_cnn", "workload.model.channels=[32,64]"]
    said += ["workload.model.kernel_size=5", "workload.model.hidden_sizes=[1024]"]
    weights, _ = workload_of(configured(*said)).extent()
    by_hand = [(25 * 1 + 1) * 32, (25 * 32 + 1) * 64, (7 * 7 * 64 + 1) * 1024, 1025 * 10]
    assert weights == sum(by_hand) == 3_274_634
    with pytest.raises(BenchError, match="kernel_size=4: must be odd"):
        configured(*said, "workload.model.kernel_size=4")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("workload.examples=55001", "workload.examples=55001: at most the 55,000"),
        ("workload.spread_decades=2", "needs workload.feature_scaling=spread"),
        ("workload.label_noise=1.5", "label_noise"),
    ],
)
def test_wrong_values_are_a_line(said: str, expected: str) -> None:
    with pytest.raises(BenchError, match=expected):
        configured("workload=mnist_mlp", said)


def test_an_example_has_as_many_numbers_as_pixels() -> None:
    for name in ("mnist_heavy_tailed", "mnist_autoencoder", "cifar10_resnet"):
        workload = workload_of(configured(f"workload={name}"))
        assert workload.example_size() == prod(workload.shape.image_shape)  # type: ignore[attr-defined]
