"""Models, initialisation and loss against formulas and PyTorch's own layers."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.training.step import penalised
from bench.workloads import ImageClassifier
from bench.workloads.workload import Batch
from tests.conftest import build_model, classifier

MLP = {"family": "mlp", "init": "default", "init_std": 0.05, "init_bias": 0.25, "dropout": 0.0}
CNN = {**MLP, "family": "cnn", "channels": [32, 64, 64], "hidden_sizes": [128]}


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p for p in model.parameters() if p.ndim > 1]


def test_mlp_layers() -> None:
    model = build_model({**MLP, "hidden_sizes": [128, 128]}, (1, 28, 28), seed=0)
    assert [tuple(w.shape) for w in weights(model)] == [(128, 784), (128, 128), (10, 128)]
    assert model(torch.randn(3, 1, 28, 28)).shape == (3, 10)
    dropout = build_model({**MLP, "hidden_sizes": [8], "dropout": 0.5}, (1, 28, 28), seed=0)
    assert any(isinstance(module, nn.Dropout) for module in dropout.modules())


def test_cnn_layers() -> None:
    model = build_model(CNN, (3, 32, 32), seed=0)
    shapes = [tuple(w.shape) for w in weights(model)]
    assert shapes == [(32, 3, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (128, 1024), (10, 128)]
    assert all(
        w.is_contiguous(memory_format=torch.channels_last) for w in weights(model) if w.ndim == 4
    )
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_default_is_pytorchs_own() -> None:
    """Same bounds as nn.Linear: the largest of many uniform draws comes close to the bound."""
    model = build_model({**MLP, "hidden_sizes": [512]}, (1, 28, 28), seed=0)
    own, theirs = model[1], nn.Linear(784, 512)  # type: ignore[index]
    for ours, reference in ((own.weight, theirs.weight), (own.bias, theirs.bias)):
        assert ours.abs().max() <= 1 / math.sqrt(784)
        assert float(ours.detach().abs().max()) == pytest.approx(
            float(reference.detach().abs().max()), rel=0.02
        )
        assert float(ours.detach().std()) == pytest.approx(float(reference.detach().std()), rel=0.1)


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("kaiming", math.sqrt(2 / 784)),
        ("xavier", math.sqrt(2 / (784 + 512))),
        ("normal", 0.05),
        ("truncated_normal", 0.05 * 0.8796),  # of a normal cut at two deviations
        ("zeros", 0.0),
    ],
)
def test_initialisations(init: str, std: float) -> None:
    model = build_model({**MLP, "init": init, "hidden_sizes": [512]}, (1, 28, 28), seed=0)
    layer = model[1]  # type: ignore[index]
    assert float(layer.weight.detach().std()) == pytest.approx(std, rel=0.01)
    assert (layer.bias == 0.25).all()
    if init == "truncated_normal":
        assert layer.weight.abs().max() <= 0.1


def test_weights_follow_from_the_seed_alone() -> None:
    options = {**CNN, "init": "kaiming"}
    torch.manual_seed(0)
    one = build_model(options, (3, 32, 32), seed=5).state_dict()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    two = build_model(options, (3, 32, 32), seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    other = build_model(options, (3, 32, 32), seed=6).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_objective() -> None:
    output, labels = torch.randn(7, 10), torch.randint(0, 10, (7,))
    parameters, batch = [torch.randn(3, 4), torch.randn(4)], {"labels": labels}
    plain = classifier(MLP).objective(output, batch)
    assert plain == F.cross_entropy(output, labels)
    manual = -output.log_softmax(1)[range(7), labels].mean()
    assert plain == pytest.approx(float(manual))
    assert penalised(plain, parameters, 0.0) is plain
    decayed = penalised(plain, parameters, 0.1)
    assert decayed == pytest.approx(float(plain + 0.1 * (parameters[0] ** 2).sum()))
    smoothed = classifier(MLP, label_smoothing=0.3).objective(output, batch)
    assert smoothed == F.cross_entropy(output, labels, label_smoothing=0.3)
    uniform = -output.log_softmax(1).mean()
    assert smoothed == pytest.approx(float(0.7 * plain + 0.3 * uniform))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_objectives_of_several_runs(smoothing: float) -> None:
    """Each is what `objective` gives for it, with the same gradients."""
    workload = classifier(MLP, label_smoothing=smoothing)
    output = torch.randn(4, 7, 10, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 10, (4, 7))
    found = workload.objectives(output, {"labels": labels})
    wanted = torch.stack([
        workload.objective(x, {"labels": y}) for x, y in zip(output, labels, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(found, wanted)
    weights = torch.arange(1.0, 5.0, dtype=torch.float64)
    (ours,), (theirs,) = (torch.autograd.grad(x, output, weights) for x in (found, wanted))
    torch.testing.assert_close(ours, theirs)


def test_whoever_says_another_objective_has_it_in_stacks() -> None:
    class Halved(ImageClassifier):
        def objective(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
            return super().objective(output, batch) / 2

    class Renamed(Halved):
        pass

    output, batch = torch.randn(3, 7, 10), {"labels": torch.randint(0, 10, (3, 7))}
    whole = classifier(MLP).objectives(output, batch)
    for kind in (Halved, Renamed):
        workload = kind(name="made_up", model={})
        torch.testing.assert_close(workload.objectives(output, batch), whole / 2)
