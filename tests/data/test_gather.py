"""A split of bytes gives the batches of one that was scaled in advance, bit for bit."""

import logging
from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.command_line import CONF
from bench.data import Dataset, Split, prepare
from bench.kernels import gather
from bench.kernels.gather import ByteSplit
from bench.settings.schema import validate
from bench.training import Run
from bench.workloads import images, models

METHODS = ["none", "unit", "channel", "feature"]
FORMATS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 5, 7), (2, 3, 3), (3, 1, 1), (1, 1, 9), (4, 6, 1)]
SIZE, VAL_SIZE = 600, 100


@pytest.fixture(autouse=True)
def compiler():
    if gather.kernel() is None:
        pytest.skip("no C++ compiler")


@pytest.fixture
def no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    gather.kernel.cache_clear()
    yield
    gather.kernel.cache_clear()


@cache
def dataset(shape):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (SIZE, *shape), generator=generator, dtype=torch.uint8)
    images[:, 0] //= 3  # channels that differ
    images[:, :, -1, -1] = 7  # constant
    labels = torch.randint(10, (SIZE,), generator=generator)
    return Dataset("made-up", 10, Split(images, labels), Split(images[:5], labels[:5]))


def prepared(shape, method="feature", memory_format=torch.contiguous_format, *, in_place=True):
    return prepare(
        dataset(shape),
        feature_scaling=method,
        val_size=VAL_SIZE,
        split_seed=0,
        device="cpu",
        memory_format=memory_format,
        train_in_place=in_place,
    )


@cache
def both(*arguments):
    """The training split in place, and scaled in advance."""
    return prepared(*arguments).train, prepared(*arguments, in_place=False).train


def assert_same(ours, theirs):
    """Bits, and where they lie: a convolution looks at the strides."""
    assert ours.dtype == theirs.dtype
    assert ours.stride() == theirs.stride()
    assert torch.equal(ours.contiguous().view(torch.int32), theirs.contiguous().view(torch.int32))


# --- batches --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(
    shape=st.sampled_from(SHAPES),
    method=st.sampled_from(METHODS),
    memory_format=st.sampled_from(FORMATS),
    index=st.lists(st.integers(0, SIZE - VAL_SIZE - 1), max_size=40),
)
def test_any_batch(shape, method, memory_format, index):
    ours, theirs = both(shape, method, memory_format)
    index = torch.tensor(index, dtype=torch.int64)
    (images, labels), (wanted_images, wanted_labels) = ours.batch(index), theirs.batch(index)
    assert_same(images, wanted_images)
    assert torch.equal(labels, wanted_labels)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(
    "which", [slice(2), slice(7, 20), slice(None, None, 3), slice(-4, None), slice(9, 9)]
)
def test_those_of_a_slice(which, memory_format, monkeypatch):
    """And no others are scaled for it."""
    ours, theirs = both((3, 5, 7), "feature", memory_format)
    rooms, empty = [], ByteSplit.empty
    monkeypatch.setattr(ByteSplit, "empty", lambda self, n: rooms.append(n) or empty(self, n))
    (images, labels), (wanted_images, wanted_labels) = ours.batch(which), theirs.batch(which)
    assert rooms == [len(labels)] == [len(wanted_labels)]
    assert torch.equal(images, wanted_images)
    assert torch.equal(labels, wanted_labels)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_all_images(shape, method, memory_format, threads):
    ours, theirs = both(shape, method, memory_format)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        images = ours.images
    finally:
        torch.set_num_threads(before)
    assert len(ours) == len(theirs) == len(images)
    assert_same(images, theirs.batch(torch.arange(len(theirs)))[0])
    assert torch.equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_pixel_becomes_zero(shape, memory_format):
    ours, _ = both(shape, "feature", memory_format)
    assert ours.divisor[..., -1, -1].isinf().all()
    assert not ours.images[..., -1, -1].any()


@pytest.mark.parametrize("row", [-1, SIZE - VAL_SIZE])
def test_a_row_that_is_not_there(row):
    ours, _ = both((1, 28, 28), "unit")
    with pytest.raises(IndexError):
        ours.batch(torch.tensor([0, row]))


# --- the choice -----------------------------------------------------------------------------


def test_images_are_not_copied():
    parts = prepared((3, 32, 32))
    assert isinstance(parts.train, ByteSplit)
    assert parts.train.source.data_ptr() == dataset((3, 32, 32)).train.images.data_ptr()
    own = [parts.train.index, parts.train.labels, parts.train.shift, parts.train.divisor]
    assert sum(tensor.nbytes for tensor in own) < 0.05 * parts.train.source.nbytes


def test_validation_and_test_are_scaled_in_advance():
    ours, theirs = (prepared((3, 5, 7), in_place=in_place) for in_place in (True, False))
    assert_same(ours.val.images, theirs.val.images)
    assert_same(ours.test.images, theirs.test.images)


def test_images_that_do_not_lie_in_order_do_not_suit():
    images = dataset((3, 5, 7)).train.images
    assert gather.suits(images)
    assert not gather.suits(images.contiguous(memory_format=torch.channels_last))


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler(caplog):
    with caplog.at_level(logging.WARNING):
        splits = [prepared((1, 28, 28)).train for _ in range(2)]
    assert all(isinstance(split, Split) for split in splits)
    (record,) = caplog.records
    assert record.getMessage().startswith("Gathering of batches runs uncompiled, which is slower: ")


# --- runs -----------------------------------------------------------------------------------


@pytest.fixture
def train(tmp_path, fake_data):
    """Trains a few steps: the data, and the curves."""

    def made(name, *overrides):
        short = ["workload.val_size=1000", "trainer.max_steps=6", "trainer.log_every_n_steps=1"]
        directory = tmp_path / name
        directory.mkdir()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", [*short, "trainer.enable_progress_bar=false", *overrides])
            trained = Run([validate(config)], [directory])
        trained.train()
        header, *rows = (
            line.split(",") for line in (directory / "metrics.csv").read_text().splitlines()
        )
        seconds = header.index("seconds")
        return trained.workload.data.train, [row[:seconds] + row[seconds + 1 :] for row in rows]

    return made


@pytest.mark.parametrize(
    "overrides",
    [
        ["workload=mnist_mlp", "workload.feature_scaling=feature"],
        ["workload=cifar10_cnn", "workload.feature_scaling=channel"],
        pytest.param(
            ["workload=cifar10_cnn", "trainer.steps_per_execution=1"], marks=pytest.mark.slow
        ),
    ],
    ids=" ".join,
)
def test_a_training_is_the_same(train, monkeypatch, overrides):
    ours, curves = train("in-place", *overrides)
    monkeypatch.setattr(gather, "kernel", lambda: None)
    images.prepared.cache_clear()
    models.forget()
    theirs, wanted = train("in-advance", *overrides)
    assert isinstance(ours, ByteSplit)
    assert isinstance(theirs, Split)
    assert curves == wanted


@pytest.mark.parametrize("overrides", [["workload.batch_size=full"], ["trainer.precision=64-true"]])
def test_what_is_scaled_in_advance(train, overrides):
    data, _ = train("run", *overrides, "trainer.max_steps=2")
    assert isinstance(data, Split)
