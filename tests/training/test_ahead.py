"""Batches that are gathered ahead are those that would have been."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.kernels import crew, gather
from bench.kernels.crew import Crew
from bench.kernels.gather import ByteSplit
from bench.training.ahead import Ahead
from bench.workloads.workload import Batch

needs_compiler = pytest.mark.skipif(
    crew.kernel() is None or gather.kernel() is None, reason="no C++ compiler"
)


def split(size: int = 50) -> ByteSplit:
    images = torch.randint(256, (size, 1, 4, 5), dtype=torch.uint8)
    shift, divisor = torch.rand(1, 1, 4, 5) * 100, 1 + torch.rand(1, 1, 4, 5)
    return ByteSplit(images, torch.randperm(size), torch.randint(10, (size,)), shift, divisor)


@needs_compiler
@pytest.mark.parametrize("reuses", [False, True])
def test_in_order_out_of_order_and_unasked_for(reuses: bool) -> None:
    data = split()
    ahead = Ahead(data, Crew(1))
    ahead.reuses = reuses

    def take(indices: Tensor) -> Batch:
        batch, (images, labels) = ahead.take(indices), data.batch(indices[0])
        assert torch.equal(batch["images"], images)
        assert torch.equal(batch["labels"], labels)
        return batch

    items = [torch.randint(50, (1, size)) for size in (33, 33, 7, 40, 40, 1)]
    ahead.expect(items[:3])
    first, second = take(items[0]), take(items[1])
    assert (first["images"] is take(items[2])["images"]) is False
    other = torch.randint(50, (1, 7))  # part of a step, say
    ahead.expect(items[3:])
    for indices in (items[3], other, items[4], items[4], items[5]):
        take(indices)
    if not reuses:  # whoever keeps one, keeps it
        for batch, indices in ((first, items[0]), (second, items[1])):
            assert torch.equal(batch["images"], data.batch(indices[0])[0])


@needs_compiler
def test_what_is_expected_after_an_early_end() -> None:
    data = split()
    ahead = Ahead(data, Crew(1))
    items = [torch.randint(50, (1, 20)) for _ in range(6)]
    ahead.expect(items)
    ahead.take(items[0])
    ahead.expect(items[3:])
    for indices in items[3:]:
        assert torch.equal(ahead.take(indices)["images"], data.batch(indices[0])[0])


@needs_compiler
def test_examples_that_are_not_there() -> None:
    with pytest.raises(IndexError):
        Ahead(split(), Crew(1)).expect([torch.tensor([[0]]), torch.tensor([[50]])])


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    yield torch.set_num_threads
    torch.set_num_threads(1)


@pytest.mark.usefixtures("fake_data")
@pytest.mark.parametrize("extra", [[], ["trainer.accumulate_grad_batches=2"]])
def test_a_run_is_the_same_with_a_core_to_spare(
    extra: list[str],
    shell: Callable[..., tuple[int, str]],
    threads: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As alone on a machine of two cores, and in a process of a sweep."""
    taken: list[bool] = []
    plain = Ahead.take

    def take(self: Ahead, indices: Tensor) -> Batch:
        taken.append(self.next is not None and self.next.indices is indices)
        return plain(self, indices)

    monkeypatch.setattr(Ahead, "take", take)
    for count in (1, 2):
        threads(count)
        said = ["workload=mnist_mlp", "trainer.max_epochs=1", f"study=of_{count}", *extra]
        code, output = shell(*said, "trainer.enable_progress_bar=false")
        assert code == 0, output
    one, two = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in sorted(tmp_path.glob("runs/of_*/*/*/*/checkpoints/last.ckpt"))
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    if not extra:
        assert sum(taken) > len(taken) / 2
