"""Models side by side against each model on its own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.training.side_by_side import outputs
from tests.conftest import build_model, classifier

OPTIONS = {"init": "kaiming", "init_std": 0.01, "init_bias": 0.1, "dropout": 0.0}


def networks(runs: int, *, family: str, hidden_sizes: list[int]) -> list[nn.Module]:
    model = {"family": family, "hidden_sizes": hidden_sizes, **OPTIONS}
    if family == "cnn":
        model["channels"] = [4]
    return [build_model(model, (1, 6, 6), seed=seed).double() for seed in range(runs)]


@pytest.mark.parametrize(("seeds", "each"), [(1, 1), (1, 3), (3, 1), (2, 3)])
@pytest.mark.parametrize(("family", "hidden"), [("mlp", []), ("mlp", [8, 7]), ("cnn", [8])])
def test_logits_and_gradients(seeds: int, each: int, family: str, hidden: list[int]) -> None:
    models = networks(seeds * each, family=family, hidden_sizes=hidden)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(seeds, 5, 1, 6, 6, dtype=torch.float64, generator=generator)
    weights = torch.randn(seeds * each, 5, 10, dtype=torch.float64, generator=generator)
    stacked = {
        name: torch.stack([dict(model.named_parameters())[name].detach() for model in models])
        for name, _ in models[0].named_parameters()
    }
    for p in stacked.values():
        p.requires_grad_()
    workload = classifier({"family": family})
    found = outputs(workload, models[0], stacked, {"images": images})
    gradients = torch.autograd.grad((weights * found).sum(), list(stacked.values()))
    for k, model in enumerate(models):
        own = functional_call(model, {}, (images[k // each],))
        torch.testing.assert_close(found[k], own)
        expected: tuple[Tensor, ...] = torch.autograd.grad(
            (weights[k] * own).sum(), list(model.parameters())
        )
        for gradient, wanted in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient[k], wanted)
            assert gradient.is_contiguous() or family == "cnn"


def twice(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 4), layer, nn.Linear(4, 4), layer)


@pytest.mark.parametrize(
    ("shape", "make"),
    [
        ((6,), lambda: nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))),
        ((6,), lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU())),
        ((2, 6), lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU())),
        ((2, 2, 3), lambda: nn.Sequential(nn.Flatten(2), nn.Linear(6, 3))),
        ((2, 3), lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.Flatten())),
        ((2, 3), lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 3, bias=False))),
        ((2, 3), lambda: twice(nn.ReLU())),
        ((2, 3), lambda: twice(nn.Linear(4, 4))),
    ],
)
def test_other_sequences_of_the_same_layers(
    shape: tuple[int, ...], make: Callable[[], nn.Module]
) -> None:
    """What looks like a fully connected network, but computes something else."""
    torch.manual_seed(0)
    models = [make().double() for _ in range(4)]
    own = [dict(model.named_parameters()) for model in models]
    stacked = {name: torch.stack([p[name].detach() for p in own]) for name in own[0]}
    x = torch.randn(2, 5, *shape, dtype=torch.float64)
    expected = torch.stack([model(x[k // 2]) for k, model in enumerate(models)])
    found = outputs(classifier({"family": "mlp"}), models[0], stacked, {"images": x})
    torch.testing.assert_close(found, expected)
