"""Every rule that PyTorch has too, against PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import optimizers
from optimizers.lr_scheduler import ScheduledLR
from optimizers.schedules import Cosine
from tests.cases import CASES, TOLERANCE, Case
from tests.optimizers.helpers import descend, make_parameters, relative_error


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """As the default too: NAdam's oracle keeps a product of scalars in the default dtype."""
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("path", ["eager", "compiled"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_path_of_parameters(case: Case, dtype: torch.dtype, path: str) -> None:
    ours, theirs = make_parameters(dtype=dtype), make_parameters(dtype=dtype)
    descend([case.optimizer(ours, path=path), case.oracle(theirs)], ours, theirs)
    assert relative_error(ours, theirs) <= TOLERANCE[dtype]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_with_param_groups_and_a_schedule(case: Case, dtype: torch.dtype) -> None:
    ours, theirs = make_parameters(dtype=dtype), make_parameters(dtype=dtype)

    def grouped(p: list[torch.Tensor]) -> list[dict[str, object]]:
        return [{"params": p[:2]}, {"params": p[2:], "weight_decay": 0.2}]

    a, b = case.optimizer(grouped(ours)), case.oracle(grouped(theirs))
    for optimizer in (a, b):
        optimizer.param_groups[1]["lr"] *= 0.2
    schedule = Cosine(total_steps=35, warmup_steps=5)
    if "form" in case.settings:  # forms agree with PyTorch's only while the rate is constant
        schedulers = []
    else:
        schedulers = [ScheduledLR(a, schedule), torch.optim.lr_scheduler.LambdaLR(b, schedule)]
    descend([a, b], ours, theirs, schedulers=schedulers)
    assert relative_error(ours, theirs) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_heavy_ball_follows_pytorch_through_a_schedule(name: str, dtype: torch.dtype) -> None:
    ours, theirs = make_parameters(dtype=dtype), make_parameters(dtype=dtype)
    a = optimizers.OPTIMIZERS[name](ours, lr=0.1, form="heavy_ball")
    b = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, nesterov=name == "nesterov")
    schedule = Cosine(total_steps=40)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, schedule) for o in (a, b)]
    descend([a, b], ours, theirs, schedulers=schedulers)
    assert relative_error(ours, theirs) <= TOLERANCE[dtype]
