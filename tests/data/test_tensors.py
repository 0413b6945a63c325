"""Tensors: loading, the validation split, scaling against numpy, the order of an epoch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.data import (
    IMAGES,
    Dataset,
    Split,
    default_data_dir,
    epoch_order,
    load,
    prepare,
    tensors,
)
from bench.errors import BenchError
from tests.data.fake_data import COLOUR, InMemory, colour_spec, grey_spec, make_arrays

SIZE, TEST_SIZE = 600, 40


@pytest.fixture(scope="module")
def dataset():
    arrays = make_arrays(SIZE, TEST_SIZE, (3, 5, 4))
    arrays["train-images"][:, :, 0, 0] = 7  # constant in training, not in test
    arrays["train-images"][:, 1] //= 3  # channels that differ
    return Dataset("synthetic", 10, tensors.split(arrays, "train"), tensors.split(arrays, "test"))


def prepared(dataset, **changes):
    settings = {"feature_scaling": "none", "val_size": 100, "split_seed": 0, "device": "cpu"}
    return prepare(dataset, **{**settings, **changes})


# --- load -----------------------------------------------------------------------------------


def test_load_fetches_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(IMAGES, "colour", colour_spec())
    dataset = load("colour", tmp_path)
    assert (dataset.name, dataset.classes) == ("colour", 10)
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert np.array_equal(split.images, COLOUR[f"{name}-images"])
        assert np.array_equal(split.labels, COLOUR[f"{name}-labels"])
        assert len(split) == len(split.images)


def test_load_fetches_nothing_that_is_there(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setitem(IMAGES, "colour", colour_spec(InMemory(COLOUR, log=log)))
    for _ in range(2):
        load("colour", tmp_path)
    assert log.read_text() == "fetched\n"


def test_load_mends_what_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setitem(IMAGES, "grey", grey_spec())
    images = load("grey", tmp_path).train.images
    (tmp_path / "grey" / "train-images.npy").write_bytes(b"")
    assert torch.equal(load("grey", tmp_path).train.images, images)


def test_load_of_an_unknown_name():
    with pytest.raises(BenchError, match="no data set 'minst'; there are mnist, cifar10, fashion"):
        load("minst")


def test_the_default_directory_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_data_dir().name == "optimizer-bench"


# --- batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_batch_keeps_the_memory_format(dataset, memory_format):
    train = prepared(dataset, memory_format=memory_format).train
    index = torch.tensor([5, 2, 2, 499])
    images, labels = train.batch(index)
    assert images.is_contiguous(memory_format=memory_format)
    assert torch.equal(images, train.images[index])
    assert torch.equal(labels, train.labels[index])


# --- the validation split -------------------------------------------------------------------


@given(
    size=st.integers(1, 60),
    fraction=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**63),
)
def test_validation_and_training_part_the_images(size, fraction, seed):
    numbers = torch.arange(size)
    split = Split(numbers.to(torch.uint8).view(-1, 1, 1, 1), numbers)
    val_size = int(fraction * size)
    parts = prepared(Dataset("numbers", 10, split, split), val_size=val_size, split_seed=seed)
    val = parts.val.labels if parts.val is not None else torch.tensor([], dtype=torch.int64)
    assert len(val) == val_size
    assert torch.equal(torch.cat([parts.train.labels, val]).sort().values, numbers)
    assert torch.equal(parts.train.images.flatten(), parts.train.labels.float())
    assert torch.equal(parts.test.labels, numbers)


def test_the_split_follows_from_its_seed_alone(dataset):
    one, same, other = (prepared(dataset, split_seed=seed).val.images for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, dataset.train.images[:100].float())


def test_without_validation(dataset):
    parts = prepared(dataset, val_size=0)
    assert parts.val is None
    assert torch.equal(parts.train.images, dataset.train.images.float())


@pytest.mark.parametrize("val_size", [-1, SIZE, 10**9])
def test_a_validation_split_that_leaves_no_training_image(dataset, val_size):
    with pytest.raises(BenchError, match=rf"workload\.val_size={val_size}: .* 0 to 599"):
        prepared(dataset, val_size=val_size)


# --- scaling --------------------------------------------------------------------------------


def scaled_by_numpy(images, train, method):
    images, train = images.numpy().astype(np.float64), train.numpy().astype(np.float64)
    if method == "none":
        return images
    if method == "unit":
        return images / 255
    axes = (0, 2, 3) if method == "channel" else 0
    mean, deviation = train.mean(axes, keepdims=True), train.std(axes, keepdims=True)
    return (images - mean) / np.where(deviation > 0, deviation, np.inf)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("method", ["none", "unit", "channel", "feature"])
def test_scaling_against_numpy(dataset, method, memory_format):
    raw = prepared(dataset)
    parts = prepared(dataset, feature_scaling=method, memory_format=memory_format)
    for name in ("train", "val", "test"):
        images = getattr(parts, name).images
        expected = scaled_by_numpy(getattr(raw, name).images, raw.train.images, method)
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=memory_format)
        # float32 rounds each of the mean, the difference, the deviation and the quotient
        np.testing.assert_allclose(images.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_scaling_changes_no_source(dataset):
    before = dataset.test.images.clone()
    prepared(dataset, feature_scaling="feature")
    assert torch.equal(dataset.test.images, before)


def test_a_pixel_that_is_constant_in_training_becomes_zero(dataset):
    parts = prepared(dataset, feature_scaling="feature")
    for split in (parts.train, parts.val, parts.test):
        assert not split.images[:, :, 0, 0].any()
        assert split.images.isfinite().all()


@pytest.mark.parametrize("size", [1, tensors.EXACT_SUM, tensors.EXACT_SUM + 1])
def test_the_statistics_are_exact_for_the_brightest_images(size):
    images = torch.full((size, 1, 1, 1), 255, dtype=torch.uint8)
    mean, deviation = tensors.scaling(images, torch.arange(size), "feature")
    assert mean.item() == 255
    assert deviation.item() == float("inf")


def test_unknown_scaling(dataset):
    with pytest.raises(BenchError, match="feature_scaling='z': expected one of none, unit, cha"):
        prepared(dataset, feature_scaling="z")


# --- the order of an epoch ------------------------------------------------------------------

sizes, seeds, epochs = st.integers(1, 200), st.integers(0, 2**64), st.integers(0, 2**31)


@given(size=sizes, seed=seeds, epoch=epochs)
def test_shuffling_shows_each_image_once(size, seed, epoch):
    order = epoch_order(size, sampling="shuffle", seed=seed, epoch=epoch)
    assert order.dtype == torch.int64
    assert torch.equal(order.sort().values, torch.arange(size))


@given(size=sizes, seed=seeds, epoch=epochs)
def test_replacement_draws_existing_images(size, seed, epoch):
    order = epoch_order(size, sampling="replacement", seed=seed, epoch=epoch)
    assert order.shape == (size,)
    assert order.dtype == torch.int64
    assert order.min() >= 0
    assert order.max() < size


@given(size=sizes, seed=seeds, epoch=epochs)
def test_sequential_is_the_order_of_the_data(size, seed, epoch):
    order = epoch_order(size, sampling="sequential", seed=seed, epoch=epoch)
    assert torch.equal(order, torch.arange(size))


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_the_order_follows_from_seed_and_epoch_alone(sampling):
    def order(seed, epoch):
        return tuple(epoch_order(1000, sampling=sampling, seed=seed, epoch=epoch).tolist())

    global_state = torch.get_rng_state()
    pairs = [(seed, epoch) for seed in (0, 1, 2, 2**32) for epoch in (0, 1, 2)]
    orders = [order(*pair) for pair in pairs]
    assert orders == [order(*pair) for pair in pairs]
    assert len(set(orders)) == len(pairs)
    assert torch.equal(torch.get_rng_state(), global_state)


def test_neighbouring_seeds_and_epochs_are_not_correlated():
    size = 10_000
    orders = np.stack(
        [
            epoch_order(size, sampling="shuffle", seed=seed, epoch=epoch).numpy()
            for seed in range(4)
            for epoch in range(4)
        ]
    )
    correlations = np.corrcoef(orders)[np.triu_indices(len(orders), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(size)  # five standard deviations


def test_unknown_sampling():
    with pytest.raises(BenchError, match="sampling='random': expected one of shuffle, repl"):
        epoch_order(3, sampling="random", seed=0, epoch=0)


# --- what makes it harder -------------------------------------------------------------------


def test_spread_multiplies_each_pixel_by_its_own_factor(dataset):
    usual, spread = (prepared(dataset, feature_scaling=method) for method in ("channel", "spread"))
    for part in ("train", "val", "test"):
        ratio = getattr(spread, part).images / getattr(usual, part).images
        assert torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-5)
    decades = tensors.factors(torch.Size([100, 100]), 0, 3.0).log10()
    assert decades.min() >= -1.5
    assert decades.max() <= 1.5
    assert torch.histc(decades, 6) / 10_000 == pytest.approx(1 / 6, abs=0.02)
    other = prepared(dataset, feature_scaling="spread", split_seed=1)
    assert not torch.equal(other.test.images, spread.test.images)
    none = prepared(dataset, feature_scaling="spread", spread_decades=0.0)
    assert torch.equal(none.train.images, usual.train.images)


def test_fewer_examples_are_the_first_of_an_order(dataset):
    whole, few, fewer = (prepared(dataset, examples=size) for size in (None, 50, 20))
    assert torch.equal(few.val.images, whole.val.images)
    sets = [
        {tuple(x.flatten().tolist()) for x in part.train.images} for part in (whole, few, fewer)
    ]
    assert [len(found) for found in sets] == [500, 50, 20]
    assert sets[2] < sets[1] < sets[0]


def test_label_noise_changes_that_share_of_the_training_labels(dataset):
    clean, noisy = (prepared(dataset, label_noise=share) for share in (0.0, 0.3))
    wrong = clean.train.labels != noisy.train.labels
    assert wrong.sum() == 150
    assert torch.equal(clean.train.images, noisy.train.images)
    assert torch.equal(clean.val.labels, noisy.val.labels)
    assert torch.equal(clean.test.labels, noisy.test.labels)
    away = (noisy.train.labels - clean.train.labels)[wrong] % 10
    assert set(away.tolist()) == set(range(1, 10))
