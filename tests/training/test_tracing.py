"""A recorded list of operators gives what autograd gives, or is refused."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from bench.training.tracing import SHORTER, Losses, Recorder, Tracer, aten, by_autograd, record
from bench.workloads.workload import Batch
from tests.conftest import build_model, classifier


def network(*, family: str = "mlp", dropout: float = 0.0) -> nn.Module:
    options: dict[str, Any] = {"hidden_sizes": [16]} | (
        {"channels": [4]} if family == "cnn" else {}
    )
    return build_model({"family": family, "dropout": dropout, **options}, (1, 8, 8))


def losses_of(model: nn.Module) -> Losses:
    names = [name for name, _ in model.named_parameters()]

    def losses(parameters: Sequence[Tensor], batch: Batch) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        return F.cross_entropy(functional_call(model, named, (batch["images"],)), batch["labels"])

    return losses


def batch(seed: int, size: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 1, 8, 8, generator=generator)
    return {"images": images, "labels": torch.randint(10, (size,), generator=generator)}


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_to_the_last_bit(family: str) -> None:
    model = network(family=family)
    losses, parameters = losses_of(model), list(model.parameters())
    recorded = record(losses, parameters, batch(0))
    assert recorded is not None
    with torch.no_grad():
        for p in parameters:
            p.mul_(1.5)  # neither weights nor data are those of the recording
    expected_loss, expected = by_autograd(losses)(parameters, batch(1))
    loss, gradients = recorded(parameters, batch(1))
    assert torch.equal(loss, expected_loss)
    assert not loss.requires_grad
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert torch.equal(gradient, wanted)
        assert not gradient.requires_grad


def test_the_operators_are_those_that_torch_traces() -> None:
    model = network(family="cnn")
    losses, leaves = losses_of(model), [p.detach().requires_grad_() for p in model.parameters()]
    data = batch(0)

    def flat(*tensors: Tensor) -> list[Tensor]:
        seen = dict(zip(data, tensors[len(leaves) :], strict=True))
        value, found = by_autograd(losses)(tensors[: len(leaves)], seen)
        return [value, *found]

    recorder = Recorder([*leaves, *data.values()])
    with recorder:
        found = flat(*leaves, *data.values())
    recorder.graph.output([recorder.node(x) for x in found])
    recorder.graph.eliminate_dead_code()
    theirs = make_fx(flat)(*leaves, *data.values()).graph
    theirs.eliminate_dead_code()
    names = {shorter: overload for overload, shorter in SHORTER.items()}
    ours = [node.target for node in recorder.graph.nodes if node.op == "call_function"]
    left_out = (aten.detach.default, aten.ones_like.default, aten.t.default)
    kept = [node.target for node in theirs.nodes if node.op == "call_function"]
    assert [target for target in kept if target not in left_out] == [
        names.get(target, target) for target in ours if target is not torch.t
    ]
    assert ours.count(torch.t) < kept.count(aten.t.default)


def test_indices_that_are_numbers_are_repeatable() -> None:
    losses = losses_of(Places())
    recorded = record(
        lambda weights, seen: losses([], seen) * weights[0], [torch.ones(())], batch(0)
    )
    assert recorded is not None
    for seed in (1, 2):
        seen = batch(seed)
        assert torch.equal(recorded([torch.ones(())], seen)[0], losses([], seen))


def test_recordings_are_kept_with_the_workload_by_shape_and_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.training.tracing.MOST", 3)
    model, one, two = network(), classifier({"family": "mlp"}), classifier({"family": "mlp"})
    parameters = list(model.parameters())
    first, second = Tracer(losses_of(model), one), Tracer(losses_of(model), one)
    found = first.find(parameters, batch(0))
    assert found is not None
    assert second.find(parameters, batch(1)) is found
    assert first.find(parameters, batch(0, size=5)) is not found
    assert Tracer(losses_of(model), one, "stack").find(parameters, batch(0)) is not found
    assert Tracer(losses_of(model), two).find(parameters, batch(0)) is not found
    wide = [p.detach().double() for p in parameters]
    assert Tracer(losses_of(model), one).find(wide, batch(0)) is not found
    assert (len(Tracer.kept[one]), len(Tracer.kept[two])) == (3, 1)  # the oldest made room
    assert Tracer(losses_of(model), one).find(parameters, batch(0)) is not found


class Looks(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        logits = images.flatten(1)[:, :10]
        return logits if logits.sum() > 0 else -logits


class Holds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10))
        self.register_buffer("shift", torch.arange(10.0))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10] * self.weight + self.shift


class Masks(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)[:, :10]
        return pixels - pixels[pixels > 0].mean()


class Places(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)[:, :10]
        return pixels + pixels[torch.arange(len(pixels)), pixels.argmax(1)].unsqueeze(1)


class Counts(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        ones = torch.ones_like(images).flatten(1)[:, :10]
        return images.flatten(1)[:, :10] * ones.add_(1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (network(dropout=0.5), "is random"),
        (Looks(), "not traced"),
        (Holds(), "no parameters"),
        (Masks(), "depends on values"),
        (Counts(), "writes to what stays"),
    ],
)
def test_what_a_list_cannot_repeat_is_refused(
    model: nn.Module, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = torch.get_rng_state()
    with caplog.at_level(logging.INFO):
        assert record(losses_of(model), list(model.parameters()), batch(0)) is None
    (line,) = caplog.messages
    assert reason in line
    assert torch.equal(torch.get_rng_state(), state)
