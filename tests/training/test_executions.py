"""The order of samples and steps, by enumeration."""

from itertools import accumulate, chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.training.evaluation import Slices
from bench.training.executions import Executions
from bench.workloads import Arrays
from bench.workloads.workload import Place


def executions(**changes: object) -> Executions:
    options: dict[str, object] = {
        "size": 103,
        "batch_size": 10,
        "sampling": "shuffle",
        "drop_last": False,
        "seeds": [0],
        "steps": 4,
        "steps_left": lambda: None,
    }
    return Executions(**(options | changes))  # type: ignore[arg-type]


def flat(epoch: Executions) -> list[list[int]]:
    return [batch[0].tolist() for batch in chain.from_iterable(epoch)]


@given(
    size=st.integers(1, 200),
    batch_size=st.integers(1, 60),
    steps=st.integers(1, 20),
    drop_last=st.booleans(),
)
def test_every_sample_once_an_epoch(
    size: int, batch_size: int, steps: int, drop_last: bool
) -> None:
    epoch = executions(size=size, batch_size=batch_size, steps=steps, drop_last=drop_last)
    batches = flat(epoch)
    assert len(list(epoch)) == len(epoch)
    assert len(batches) == epoch.steps_per_epoch
    whole = size // epoch.batch_size * epoch.batch_size if drop_last else size
    samples = list(chain.from_iterable(batches))
    assert len(samples) == len(set(samples)) == whole
    assert all(len(batch) == epoch.batch_size for batch in batches[: size // epoch.batch_size])


@given(
    size=st.integers(1, 200),
    batch_size=st.integers(1, 60),
    accumulate=st.integers(1, 5),
    steps=st.integers(1, 20),
    drop_last=st.booleans(),
    taken=st.integers(0, 30),
)
def test_a_step_accumulates_successive_batches(
    size: int, batch_size: int, accumulate: int, steps: int, drop_last: bool, taken: int
) -> None:
    """Those that are left at the end make a step, too; a run may go on after some of the steps."""
    options = {"size": size, "batch_size": min(batch_size, size), "drop_last": drop_last}
    batches = flat(executions(**options, steps=steps))
    epoch = executions(**options, steps=steps, accumulate=accumulate)
    epoch.taken = taken
    found = [
        [part[0].tolist() for part in epoch.micro_batches(step)]
        for step in chain.from_iterable(epoch)
    ]
    groups = [batches[n : n + accumulate] for n in range(0, len(batches), accumulate)]
    assert epoch.steps_per_epoch == len(groups)
    assert found == groups[taken:]
    assert len(list(chain.from_iterable(epoch))) == len(groups)  # the next epoch is whole


def test_the_order_does_not_depend_on_the_grouping() -> None:
    assert flat(executions(steps=1)) == flat(executions(steps=4)) == flat(executions(steps=50))


def test_the_order_depends_on_seed_and_epoch() -> None:
    first = executions()
    again, other_seed, other_epoch = executions(), executions(seeds=[1]), executions()
    other_epoch.set_epoch(1)
    assert flat(first) == flat(again)
    assert flat(first) != flat(other_seed)
    assert flat(first) != flat(other_epoch)


def test_the_last_item_ends_with_the_steps_that_are_left() -> None:
    taken = 0

    def left() -> int:
        return 6 - taken

    sizes = []
    for item in executions(steps_left=left):
        sizes.append(len(item))
        taken += len(item)
        if left() == 0:
            break
    assert sizes == [4, 2]


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_each_batch(world_size: int) -> None:
    alone = flat(executions())
    shares = [flat(executions(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for step, batch in enumerate(alone):
        parts = [share[step] for share in shares]
        assert len({len(part) for part in parts}) == 1
        assert set(chain.from_iterable(parts)) == set(batch)


@given(
    steps_per_epoch=st.integers(1, 20),
    steps=st.integers(1, 30),
    ends=st.sets(st.integers(1, 20)),
    ends_in=st.dictionaries(st.integers(0, 2), st.sets(st.integers(1, 20)), max_size=3),
    taken=st.integers(0, 20),
)
def test_items_end_where_they_must_and_are_else_as_long_as_they_may_be(
    steps_per_epoch: int, steps: int, ends: set[int], ends_in: dict[int, set[int]], taken: int
) -> None:
    every = range(1, steps_per_epoch + 1)
    ends, ends_in = ends & {*every}, {epoch: own & {*every} for epoch, own in ends_in.items()}
    items = executions(
        size=10 * steps_per_epoch,
        steps=steps,
        ends=sorted(ends),
        ends_in={epoch: sorted(own) for epoch, own in ends_in.items()},
    )
    items.taken = min(taken, steps_per_epoch)
    most = 0
    for epoch in range(4):
        items.set_epoch(epoch)
        after, must = items.taken, {0, *ends_in.get(epoch, ends)}
        found = list(accumulate((len(item) for item in items), initial=after))[1:]
        last = {step: max(end for end in must if end < step) for step in every}
        may = {step for step in every if (step - last[step]) % steps == 0}
        expected = sorted(step for step in may | must | {steps_per_epoch} if step > after)
        assert found == expected
        most = max(most, len(may | must | {steps_per_epoch}) - 1)
    assert len(items) == most


class Numbers(Arrays):
    def arrays(self):
        return {split: {"x": np.arange(size)} for split, size in (("train", 3), ("test", 25))}


@pytest.mark.parametrize(("processes", "size"), [(1, 4), (3, 4), (3, 100), (40, 100)])
def test_slices_cover_a_split_once(processes: int, size: int) -> None:
    workload = Numbers(name="numbers")
    workload.load(Place(torch.device("cpu"), torch.float32))
    shares = [
        list(Slices(workload, "test", size, rank=rank, processes=processes))
        for rank in range(processes)
    ]
    assert all(shares)  # or a process would not take part in the sum over all
    assert sorted(torch.cat([batch["x"] for share in shares for batch in share]).tolist()) == list(
        range(25)
    )
