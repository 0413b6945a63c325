"""Fused layers give what PyTorch's own give, bit for bit."""

import logging
from collections.abc import Iterator, Sequence
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from bench.command_line import CONF
from bench.kernels import pooling
from bench.kernels.fusion import ReluMaxPool, fuse
from bench.settings.schema import validate
from bench.training import Run
from tests.conftest import build_model

MODEL: dict[str, Any] = {
    "family": "cnn", "channels": [5, 8], "hidden_sizes": [6], "dropout": 0.0,
    "init": "default", "init_std": 0.05, "init_bias": 0.0,
}  # fmt: skip
IMAGES = (3, 13, 10)


@pytest.fixture(autouse=True)
def compiler() -> None:
    if pooling.library() is None:
        pytest.skip("no C++ compiler")


def reference(x: Tensor) -> Tensor:
    return F.max_pool2d(F.relu(x), 2)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def bits(x: Tensor) -> Tensor:
    """What tells numbers apart, -0 from 0 too; every NaN is the same."""
    return x.contiguous().view(torch.int32).where(~x.isnan(), -1)


def assert_same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(bits(a), bits(b))


def small_model(seed: int = 0) -> nn.Module:
    return build_model(MODEL, IMAGES, seed=seed)


def batch(seed: int, size: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = channels_last(torch.randn(size, *IMAGES, generator=generator))
    return images, torch.randint(10, (size,), generator=generator)


# -- the operator --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(2, 7), st.integers(2, 7)),
    values=st.lists(
        st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.0, -1.0, 1e-45, 3e38, inf, -inf, nan])
        | st.floats(width=32),
        min_size=1,
    ),
    seed=st.integers(0, 2**31),
    layout=st.sampled_from(["channels_last", "contiguous", "expanded"]),
)
def test_numbers_are_pytorchs(
    shape: tuple[int, ...], values: list[float], seed: int, layout: str
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.tensor(values)[torch.randint(len(values), size, generator=generator)]

    x = channels_last(draw(*shape))
    assert pooling.suits(x)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, wanted = ReluMaxPool()(ours), reference(theirs)
    assert_same([y], [wanted])
    assert y.is_contiguous(memory_format=torch.channels_last)
    if layout == "expanded":
        grad = draw(shape[0], 1, 1, 1).expand(y.shape)
    else:
        grad = draw(*y.shape)
        grad = channels_last(grad) if layout == "channels_last" else grad
    assert_same(torch.autograd.grad(y, ours, grad), torch.autograd.grad(wanted, theirs, grad))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = channels_last(torch.randn(9, 32, 15, 17)).requires_grad_()
        y = ReluMaxPool()(x)
        assert_same([y], [reference(x)])
        grad = torch.randn_like(y)
        assert_same(torch.autograd.grad(y, x, grad), torch.autograd.grad(reference(x), x, grad))
    finally:
        torch.set_num_threads(before)


def test_registration() -> None:
    x = channels_last(torch.randn(2, 3, 5, 4)).requires_grad_()
    torch.library.opcheck(pooling.relu_max_pool, (x,))
    y, winner = pooling.relu_max_pool(x.detach())
    torch.library.opcheck(pooling.relu_max_pool_backward, (y, winner, 5, 4))


def test_a_traced_step_bakes_nothing_in() -> None:
    def step(parameters: dict[str, Tensor], images: Tensor, labels: Tensor) -> list[Tensor]:
        loss = F.cross_entropy(functional_call(model, parameters, (images,)), labels)
        return [loss, *torch.autograd.grad(loss, list(parameters.values()))]

    model = fuse(small_model())
    traced = make_fx(step)(dict(model.named_parameters()), *batch(0))
    operators = [str(node.target) for node in traced.graph.nodes]
    assert operators.count("bench.relu_max_pool.default") == 2
    assert operators.count("bench.relu_max_pool_backward.default") == 2
    assert not any("max_pool2d" in name for name in operators)
    other, plain = dict(small_model(seed=1).named_parameters()), small_model(seed=1)
    loss = F.cross_entropy(plain(batch(1)[0]), batch(1)[1])
    wanted = [loss, *torch.autograd.grad(loss, list(plain.parameters()))]
    assert_same(traced(other, *batch(1)), wanted)


def test_second_derivatives() -> None:
    """PyTorch's own pooling has none under vmap for channels_last."""

    def hessian(pool: nn.Module, x: Tensor) -> Tensor:
        (g,) = torch.autograd.grad(pool(x).pow(3).sum(), x, create_graph=True)
        eye = torch.eye(x.numel()).view(-1, *x.shape)
        return torch.autograd.grad(g, x, eye, is_grads_batched=True)[0]

    x = torch.randn(2, 3, 5, 4).requires_grad_()
    ours = hessian(ReluMaxPool(), channels_last(x.detach()).requires_grad_())
    assert torch.equal(ours, hessian(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), x))
    assert ours.count_nonzero() > 0


# -- the layers ----------------------------------------------------------------------------------


def test_only_the_pairs_are_replaced() -> None:
    plain, model = small_model(), fuse(small_model())
    kinds = [type(layer).__name__ for layer in model.children()]
    assert kinds[:6] == ["Conv2d", "ReluMaxPool", "Identity"] * 2
    assert kinds[6:] == ["Flatten", "Linear", "ReLU", "Linear"]
    ours, theirs = model.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    assert_same(list(ours.values()), list(theirs.values()))


@pytest.mark.parametrize(
    ("pool", "fused"),
    [
        (nn.MaxPool2d((2, 2), stride=(2, 2)), True),
        (nn.MaxPool2d(3), False),
        (nn.MaxPool2d(2, stride=1), False),
        (nn.MaxPool2d(2, padding=1), False),
        (nn.MaxPool2d(2, dilation=2), False),
        (nn.MaxPool2d(2, ceil_mode=True), False),
        (nn.AvgPool2d(2), False),
    ],
    ids=str,
)
def test_other_pooling_is_left(pool: nn.Module, fused: bool) -> None:
    inner = nn.Sequential(nn.ReLU(), pool)
    model = fuse(nn.Sequential(nn.Identity(), inner))
    assert isinstance(inner[0], ReluMaxPool) == fused
    x = channels_last(torch.randn(2, 3, 7, 7))
    assert_same([model(x)], [pool(F.relu(x))])


@pytest.mark.parametrize(
    "x",
    [
        channels_last(torch.randn(2, 3, 5, 4)).double(),
        channels_last(torch.randn(2, 3, 5, 4)).bfloat16(),
        torch.randn(2, 3, 5, 4),
        torch.randn(3, 5, 4),
    ],
    ids=["float64", "bfloat16", "contiguous", "one image"],
)
def test_what_does_not_suit_goes_to_pytorch(x: Tensor) -> None:
    assert not pooling.suits(x)
    x.requires_grad_()
    y, wanted = ReluMaxPool()(x), reference(x)
    assert torch.equal(y, wanted)
    (ours,), (theirs,) = (torch.autograd.grad(out.sum(), x) for out in (y, wanted))
    assert torch.equal(ours, theirs)


def test_under_vmap() -> None:
    models = [small_model(seed) for seed in range(3)]
    stacked, _ = stack_module_state(models)  # type: ignore[arg-type]
    images, _ = batch(0)
    ours, theirs = (
        vmap(lambda own, model=model: functional_call(model, own, (images,)))(stacked)
        for model in (fuse(small_model()), small_model())
    )
    assert torch.equal(ours, theirs)


def test_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    pooling.library.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            ours = [fuse(small_model())(batch(seed)[0]) for seed in range(2)]
    finally:
        pooling.library.cache_clear()
    assert_same(ours, [small_model()(batch(seed)[0]) for seed in range(2)])
    (record,) = caplog.records
    assert record.getMessage().startswith("Max-pooling runs uncompiled, which is slower: ")


# -- a run ---------------------------------------------------------------------------------------


@pytest.fixture
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.usefixtures("fake_data", "hydra_config")
def test_a_training_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = validate(
        compose(
            "config",
            [
                "workload=cifar10_cnn", "workload.val_size=1000", "workload.batch_size=64",
                "trainer.max_steps=8", "trainer.log_every_n_steps=1",
                "trainer.enable_progress_bar=false",
            ],
        )
    )  # fmt: skip

    def train(name: str) -> tuple[Run, str]:
        directory = tmp_path / name
        directory.mkdir()
        run = Run([config], [directory])
        run.train()
        rows = (directory / "metrics.csv").read_text().splitlines()
        seconds = rows[0].split(",").index("seconds")
        cells = [row.split(",") for row in rows]
        return run, str([row[:seconds] + row[seconds + 1 :] for row in cells])

    fused, curves = train("fused")
    monkeypatch.setattr("bench.training.run.fuse", lambda model: model)
    plain, wanted = train("plain")
    assert any(isinstance(layer, ReluMaxPool) for layer in fused.models[0].modules())
    assert not any(isinstance(layer, ReluMaxPool) for layer in plain.models[0].modules())
    assert curves == wanted
    assert_same(list(fused.models[0].parameters()), list(plain.models[0].parameters()))
