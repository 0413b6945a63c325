"""Batches that are gathered ahead are those that would have been."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.training.ahead import Ahead
from bench.workloads.workload import Batch


def test_in_order_out_of_order_and_unasked_for() -> None:
    asked: list[int] = []

    def gather(indices: Tensor) -> Batch:
        asked.append(int(indices[0]))
        return {"x": indices * 10}

    items = [torch.tensor([k]) for k in range(6)]
    ahead = Ahead(gather)
    ahead.expect(items[:3])
    for k in (0, 1, 2):
        assert torch.equal(ahead.take(items[k])["x"], items[k] * 10)
    assert asked == [0, 1, 2]
    ahead.expect(items[3:])
    other = torch.tensor([7])  # part of a step, say
    for indices in (items[3], other, items[4], items[4], items[5]):
        assert torch.equal(ahead.take(indices)["x"], indices * 10)


def test_what_fails_is_raised_where_it_is_wanted() -> None:
    def gather(indices: Tensor) -> Batch:
        if indices[0] == 1:
            raise ValueError("no such row")
        return {}

    items = [torch.tensor([0]), torch.tensor([1])]
    ahead = Ahead(gather)
    ahead.expect(items)
    ahead.take(items[0])
    with pytest.raises(ValueError, match="no such row"):
        ahead.take(items[1])


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
        taken.append(self.next is not None and self.next[0] is indices)
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
