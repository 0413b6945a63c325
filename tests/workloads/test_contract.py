"""A workload that does not keep the contract is refused by name, before anything is trained."""

import random
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.errors import BenchError
from bench.metrics import Metric
from bench.workloads import Arrays
from bench.workloads.initialisation import initialise
from bench.workloads.models import check_contract, drawn, loaded
from bench.workloads.workload import Place

CPU = Place(torch.device("cpu"), torch.float32)


class Line(Arrays):
    """Keeps the contract; cases change one thing of it."""

    def arrays(self) -> Any:
        x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(12, 2)
        return {split: {"inputs": x, "y": x[:, 0]} for split in ("train", "val", "test")}

    def build(self, seed: int) -> Any:
        return nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))

    def losses(self, output: Any, batch: Any) -> Any:
        return (output - batch["y"]).square()


def workload(**changed: Any) -> Arrays:
    return type("Line", (Line,), changed)(name="line")


def check(asked: Arrays) -> None:
    check_contract(loaded(asked, CPU), drawn(asked, 3), 3)


def built(make: Any) -> dict[str, Any]:
    return {"build": lambda self, seed: make()}


def frozen() -> nn.Module:
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    return layer


def with_buffer(value: torch.Tensor) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    model.register_buffer("extra", value)
    return model


REFUSED: list[tuple[dict[str, Any], str]] = [
    (built(lambda: None), "build gives a NoneType"),
    (built(lambda: 1 / 0), "cannot be built .ZeroDivisionError"),
    (built(lambda: nn.Flatten(0)), "has no parameters"),
    (built(frozen), "bias of its model requires no gradient"),
    (built(lambda: nn.Linear(3, 1)), "cannot be called with inputs 2x2"),
    (built(lambda: nn.Linear(2, 1)), "as many numbers as there are examples"),
    (built(lambda: with_buffer(torch.empty(2))), "extra of its model is drawn by nobody"),
    (built(lambda: with_buffer(torch.empty(2, dtype=torch.int64))), "extra .* drawn by nobody"),
    (
        built(lambda: with_buffer(torch.tensor(time.perf_counter(), dtype=torch.float64))),
        "extra of its model is not decided by the seed",
    ),
    ({"losses": lambda self, y, batch: (y - batch["y"]).square().mean()}, r"losses gives \[\]"),
    ({"losses": lambda self, y, batch: y > 0}, "losses gives torch.bool"),
    ({"losses": lambda self, y, batch: batch["price"]}, "losses: KeyError: 'price'"),
    ({"objective": lambda self, y, batch: y}, "objective must be a tensor without dimensions"),
    ({"sums": lambda self, y, batch: {"loss": y.sum()}}, "sums: gives loss, no count"),
    ({"metrics": (Metric("mae"),)}, "sums: gives loss, count, no mae"),
    ({"metrics": (Metric("mae", total=lambda y, b: y.abs()),)}, r"sums: mae is \[2\]"),
    ({"metrics": (Metric("r2", of=lambda sums: sums["r"]),)}, "metric r2: KeyError: 'r'"),
    ({"metrics": (Metric("loss"),)}, "loss is measured anyway"),
    ({"metrics": ("mae",)}, "'mae' is no Metric"),
    ({"size": lambda self, split: 12 * (split != "val")}, "val split has no examples"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_what_breaks_the_contract_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        check(workload(**changed))


def test_data_that_are_not_finite() -> None:
    arrays = Line(name="line").arrays()
    arrays["train"]["y"] = np.full(12, np.nan, dtype=np.float32)
    with pytest.raises(BenchError, match="train y: has values that are not finite"):
        check(workload(arrays=lambda self: arrays))


LAYERS = {
    "layer norm": lambda: nn.LayerNorm(2),
    "batch norm": lambda: nn.BatchNorm1d(2),
    "numpy": lambda: with_first(nn.Linear(2, 2), np.random.normal()),  # noqa: NPY002
    "python": lambda: with_first(nn.Linear(2, 2), random.random()),
    "a mask of the largest bytes": lambda: with_buffer(torch.full((2,), 255, dtype=torch.uint8))[0],
}


def with_first(layer: nn.Linear, value: float) -> nn.Module:
    nn.init.constant_(layer.bias, value)
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_what_keeps_it_passes_and_leaves_every_generator(name: str) -> None:
    layer = LAYERS[name]
    width = {"a mask of the largest bytes": 1}.get(name, 2)
    asked = workload(**built(lambda: nn.Sequential(layer(), nn.Linear(width, 1), nn.Flatten(0))))
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]  # noqa: NPY002
    check(asked)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index,union-attr]  # noqa: NPY002
    one, other = (dict(drawn(asked, seed).named_parameters()) for seed in (0, 1))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_every_layer_of_ours_is_reset() -> None:
    """Layers without memory yet: what is not linear resets itself."""
    with torch.device("meta"):
        model = nn.Sequential(
            nn.LayerNorm(4), nn.BatchNorm1d(4), nn.Embedding(3, 4), nn.MultiheadAttention(4, 2)
        )
    options: Any = {"init": "default", "init_std": 0.1, "init_bias": 0.0}
    asked = workload(
        **built(
            lambda: initialise(
                model.to_empty(device="cpu"), **options, generator=torch.Generator().manual_seed(0)
            )
        )
    )
    state = drawn(asked, 0).state_dict()
    assert torch.equal(state["0.weight"], torch.ones(4))
    assert torch.equal(state["1.running_var"], torch.ones(4))
    assert all(bool(x.isfinite().all()) for x in state.values())
