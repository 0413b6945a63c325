"""The kernel's gradients of a dense network are autograd's, or it is not used."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.kernels import dense as kernels
from bench.kernels import stacked
from bench.kernels.crew import Crew
from bench.training import dense
from bench.training.side_by_side import for_each_run, outputs
from bench.training.tracing import Gradients, Losses, by_autograd, record
from bench.workloads.workload import Workload
from tests.conftest import classifier

needs_kernel = pytest.mark.skipif(
    kernels.kernel() is None, reason="no compiler, or PyTorch's BLAS is not to be had"
)


def chain(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for width, following in pairwise(sizes):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batch(size: int, width: int, seed: int = 0, classes: int = 10) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 1, 1, width, generator=generator)
    return {"images": images, "labels": torch.randint(classes, (size,), generator=generator)}


def losses_of(model: nn.Module, workload: Workload) -> Losses:
    names = [name for name, _ in model.named_parameters()]

    def losses(parameters: Sequence[Tensor], data: Mapping[str, Tensor]) -> Tensor:
        own = dict(zip(names, parameters, strict=True))
        return workload.objective(functional_call(model, own, (data["images"],)), data)

    return losses


def gradients(model: nn.Module, workload: Workload) -> Gradients:
    return by_autograd(losses_of(model, workload))


def made(
    model: nn.Module, workload: Workload, data: Mapping[str, Tensor], crew: Crew | None = None
) -> tuple[Gradients, Gradients]:
    """In place of the list, and autograd's."""
    parameters = [p.detach().requires_grad_() for p in model.parameters()]
    recorded = record(losses_of(model, workload), parameters, data)
    assert recorded is not None
    found = dense.in_place_of(workload, model, crew, recorded, parameters, data)
    assert found is not recorded
    return found, gradients(model, workload)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@needs_kernel
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("sizes", [(7, 10), (784, 128, 128, 10), (33, 5, 17, 1, 10), (300, 192, 3)])
@pytest.mark.parametrize("size", [1, 37, 128])
@pytest.mark.parametrize(("smoothing", "helpers"), [(0.0, None), (0.1, None), (0.0, 1), (0.1, 3)])
def test_to_the_last_bit(
    sizes: tuple[int, ...],
    size: int,
    smoothing: float,
    helpers: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "WORTH_SHARING", 0)
    torch.manual_seed(0)
    classes = sizes[-1]
    model, workload = chain(*sizes), classifier({"family": "mlp"}, label_smoothing=smoothing)
    crew = None if helpers is None else Crew(helpers)
    found, wanted = made(model, workload, batch(size, sizes[0], classes=classes), crew)
    for seed in (1, 2):
        parameters = [torch.randn_like(p).requires_grad_() for p in model.parameters()]
        data = batch(size, sizes[0], seed, classes)
        loss, ours = found(parameters, data)
        expected, theirs = wanted(parameters, data)
        assert torch.equal(loss, expected)
        assert all(map(torch.equal, ours, theirs))
        assert not loss.requires_grad


@needs_kernel
def test_what_is_no_number_stays_so() -> None:
    model, workload = chain(6, 4, 10), classifier({"family": "mlp"})
    found, wanted = made(model, workload, batch(5, 6))
    for value in (torch.nan, torch.inf):
        data = batch(5, 6, 1)
        data["images"][2, 0, 0, 3] = value
        parameters = [p.detach().requires_grad_() for p in model.parameters()]
        for x, y in zip(found(parameters, data)[1], wanted(parameters, data)[1], strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(6, 10, bias=False)),
        nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(6, 10)),
        nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 10)),
        nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.ReLU(), nn.Linear(4, 10)),
        nn.Sequential(nn.Flatten()),
    ],
)
def test_other_models_go_by_their_list(model: nn.Module) -> None:
    assert dense.plan_of(classifier({"family": "mlp"}), model, batch(5, 6)) is None


def test_a_penalty_goes_by_the_list() -> None:
    model = chain(6, 10)
    assert dense.plan_of(classifier({"family": "mlp"}, l2=0.1), model, batch(5, 6)) is None


@needs_kernel
def test_parameters_of_another_form_go_by_the_list() -> None:
    """As a callback may leave them: the kernel reads memory, and must not read beyond it."""
    model, workload, data = chain(6, 4, 10), classifier({"family": "mlp"}), batch(5, 6)
    found, wanted = made(model, workload, data)
    usual = [p.detach() for p in model.parameters()]
    transposed = usual[0].t().contiguous().t()
    for first in (transposed, usual[0].clone(), usual[0]):
        parameters = [
            p.requires_grad_() for p in (first.detach(), *(p.detach() for p in usual[1:]))
        ]
        ours, theirs = found(parameters, data)[1], wanted(parameters, data)[1]
        assert all(map(torch.equal, ours, theirs))
    for first in (torch.randn(3, 6), torch.randn(4, 5), torch.randn(4, 6).double()):
        with pytest.raises(RuntimeError):
            found([first.requires_grad_(), *(p.detach().requires_grad_() for p in usual[1:])], data)
    emptied = [p.clone() for p in usual]
    emptied[0].untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="parameter 0 lies outside its storage"):
        found(emptied, data)


@needs_kernel
def test_a_blas_that_gives_other_numbers_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    model, workload = chain(6, 10), classifier({"family": "mlp"})
    right = gradients(model, workload)

    def slightly_other(*arguments: Any) -> tuple[Tensor, Sequence[Tensor]]:
        loss, found = right(*arguments)
        return loss, [torch.nextafter(found[0], found[0] + 1), *found[1:]]

    parameters = [p.detach().requires_grad_() for p in model.parameters()]
    with caplog.at_level(logging.INFO):
        found = dense.in_place_of(workload, model, None, slightly_other, parameters, batch(5, 6))
    assert found is slightly_other
    assert "not used" in caplog.text


@pytest.mark.parametrize("sizes", [(784, 128, 128, 10), (5, 10), (17, 3, 200, 1)])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_gradients_are_cut_into_parts_that_make_the_whole(
    sizes: tuple[int, ...], parts: int
) -> None:
    cuts = kernels.cut(sizes, parts)
    for layer, features in enumerate(sizes[:-1]):
        places = sorted((start, end) for own, start, end in cuts if own == layer)
        assert [k for start, end in places for k in range(start, end)] == [*range(features)]
    costs = [(end - start) * sizes[layer + 1] for layer, start, end in cuts]
    assert costs == sorted(costs, reverse=True)


@needs_kernel
def test_gradients_lie_where_they_lay() -> None:
    """So that an optimizer need not look for them."""
    model = chain(6, 4, 10)
    found, _ = made(model, classifier({"family": "mlp"}), batch(5, 6))
    first, again = (found(list(model.parameters()), batch(5, 6, seed))[1] for seed in (1, 2))
    assert [x.data_ptr() for x in first] == [x.data_ptr() for x in again]


# --- stacks -----------------------------------------------------------------------------------


def stack_of(model: nn.Module, runs: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(runs, *p.shape, generator=generator).requires_grad_()
        for p in model.parameters()
    ]


def batches(seeds: int, size: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    each = [batch(size, width, 10 * seed + n) for n in range(seeds)]
    return {name: torch.stack([own[name] for own in each]) for name in each[0]}


def made_of_stacks(
    model: nn.Module, workload: Workload, parameters: Sequence[Tensor], data: Mapping[str, Tensor]
) -> tuple[Gradients, Gradients]:
    """In place of the list, and the list."""
    names = [name for name, _ in model.named_parameters()]

    def losses(parameters: Sequence[Tensor], data: Mapping[str, Tensor]) -> Tensor:
        own = dict(zip(names, parameters, strict=True))
        found = outputs(workload, model, own, data)
        return workload.objectives(found, for_each_run(data, len(parameters[0])))

    recorded = record(losses, parameters, data)
    assert recorded is not None
    return dense.in_place_of_stacks(workload, model, recorded, parameters, data), recorded


@pytest.mark.skipif(stacked.kernel() is None, reason="no compiler, or no BLAS to be had")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("sizes", [(784, 128, 128, 10), (33, 5, 17, 10), (300, 192, 10), (40, 10)])
@pytest.mark.parametrize("size", [1, 37, 128])
@pytest.mark.parametrize(("runs", "seeds"), [(1, 1), (3, 1), (6, 2), (4, 4)])
def test_a_stack(sizes: tuple[int, ...], size: int, runs: int, seeds: int) -> None:
    """Each run's numbers are those that it has alone, up to rounding; and the list's to the last
    bit, which the kernel is asked for before it is used."""
    model, workload = chain(*sizes), classifier({"family": "mlp"}, label_smoothing=0.1)
    parameters, data = stack_of(model, runs), batches(seeds, size, sizes[0])
    found, recorded = made_of_stacks(model, workload, parameters, data)
    alone = gradients(model, workload)
    for seed in (1, 2):
        parameters, data = stack_of(model, runs, seed), batches(seeds, size, sizes[0], seed)
        loss, ours = found(parameters, data)
        if found is not recorded:
            expected, theirs = recorded(parameters, data)
            assert torch.equal(loss, expected)
            assert all(map(torch.equal, ours, theirs))
        for run in range(runs):
            own = {name: x[run // (runs // seeds)] for name, x in data.items()}
            loss_alone, wanted = alone([p[run].detach().requires_grad_() for p in parameters], own)
            torch.testing.assert_close(loss[run], loss_alone, rtol=1e-5, atol=1e-5)
            for x, y in zip(ours, wanted, strict=True):
                scale = float(y.abs().max())
                torch.testing.assert_close(x[run], y, rtol=1e-4, atol=1e-4 * scale + 1e-6)


@pytest.mark.skipif(stacked.kernel() is None, reason="no compiler, or no BLAS to be had")
def test_a_stack_by_other_ways() -> None:
    """By its list where a run is penalised; elsewhere in memory; and not beyond what there is."""
    model, workload, data = chain(40, 24, 10), classifier({"family": "mlp"}), batches(1, 37, 40)
    parameters = stack_of(model, 2)
    found, recorded = made_of_stacks(model, workload, parameters, data)
    assert found is not recorded
    penalised = dense.in_place_of_stacks(
        workload, model, recorded, parameters, data, torch.zeros(2)
    )
    assert penalised is recorded
    moved = [p.detach().clone().requires_grad_() for p in parameters]
    ours, theirs = (by(moved, data)[1] for by in (found, recorded))
    assert all(map(torch.equal, ours, theirs))
    with pytest.raises(RuntimeError):
        found([p[:1].detach().requires_grad_() for p in parameters[:1]] + parameters[1:], data)
