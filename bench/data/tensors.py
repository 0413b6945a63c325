"""Data sets as tensors in memory: loaded, split, scaled, and put in order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from bench.data import cache
from bench.data.formats import Arrays
from bench.data.specs import IMAGES
from bench.errors import BenchError
from bench.kernels import gather
from bench.kernels.gather import ByteSplit

FeatureScaling = Literal["none", "unit", "channel", "feature", "spread"]
Sampling = Literal["shuffle", "replacement", "sequential"]

SPREAD_DECADES = 4.0  # between the largest and the smallest factor, unless said otherwise

# What a seed draws beside the split, each from a stream of its own.
LABELS, FACTORS = 1, 2

# Sums of so many squared bytes stay below 2**24: exact in float32, in any order, on any device.
EXACT_SUM = 2**24 // 255**2


@dataclass(frozen=True)
class Split:
    images: Tensor  # [N, C, H, W], uint8, or float32 once prepared
    labels: Tensor  # [N], int64

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The images and labels at `index`; images keep their memory format. Those of a slice are
        not copied.

        index_select alone returns channels_last images contiguous, and takes ten times as long.
        """
        if isinstance(index, slice):
            return self.images[index], self.labels[index]
        if self.images.is_contiguous():
            images = self.images.index_select(0, index)
        else:
            images = self.images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
        return images, self.labels.index_select(0, index)


@dataclass(frozen=True)
class Dataset:
    name: str
    classes: int
    train: Split
    test: Split


@dataclass(frozen=True)
class Prepared:
    train: Split | ByteSplit
    val: Split | None
    test: Split


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """A data set, read from the cache in `data_dir` and verified; fetched first if it is not there,
    or damaged.

    Raises:
        BenchError: no such data set, or no source that can be reached.
    """
    if name not in IMAGES:
        raise BenchError(f"no data set {name!r}; there are {', '.join(IMAGES)}")
    spec = IMAGES[name]
    arrays = cache.obtain(spec, data_dir)
    return Dataset(name, spec.classes, split(arrays, "train"), split(arrays, "test"))


def split(arrays: Arrays, name: str) -> Split:
    return Split(
        torch.from_numpy(arrays[f"{name}-images"]),
        torch.from_numpy(arrays[f"{name}-labels"]).long(),
    )


def prepare(
    dataset: Dataset,
    *,
    feature_scaling: FeatureScaling,
    val_size: int,
    split_seed: int,
    examples: int | None = None,
    label_noise: float = 0.0,
    spread_decades: float | None = None,
    device: torch.device | str,
    memory_format: torch.memory_format = torch.contiguous_format,
    train_in_place: bool = False,
) -> Prepared:
    """Splits off the validation images and puts scaled float32 images on the device.

    With `train_in_place` the training images are not copied, where `gather` can do without: better
    for a training that reads them in batches, worse for one that reads all in each step.

    `unit` scales to 0-1. `channel` and `feature` standardise by the mean and standard deviation of
    each channel or pixel over the training split; a pixel that is constant there becomes 0
    everywhere. `spread` is `channel`, each pixel then times a factor of its own, 10 to the power of
    a uniform draw over `spread_decades` with mean 0.

    Of the training images the first `examples` of an order are kept, or all; that share
    `label_noise` of their labels is replaced, each by another one, any of them as likely. Split,
    order, labels and factors follow from `split_seed` alone.

    Raises:
        BenchError: `val_size` or `examples` leave no training image.
    """
    val_index, train_index = (
        part.to(device)
        for part in parts(dataset, val_size=val_size, split_seed=split_seed, examples=examples)
    )
    source = Split(dataset.train.images.to(device), dataset.train.labels.to(device))
    shift, divisor = scaling(source.images, train_index, feature_scaling)
    if feature_scaling == "spread":
        divisor = divisor / factors(source.images.shape[1:], split_seed, spread_decades).to(device)
    train_labels = with_noise(
        source.labels.index_select(0, train_index), label_noise, dataset.classes, split_seed
    )

    def scale(split: Split) -> Split:
        images = split.images.to(device).to(torch.float32, memory_format=memory_format)
        return Split(images.sub_(shift).div_(divisor), split.labels.to(device))

    def of_each_feature(x: Tensor) -> Tensor:
        return x.expand(1, *source.images.shape[1:]).contiguous(memory_format=memory_format)

    train: Split | ByteSplit
    if train_in_place and gather.suits(source.images):
        train = ByteSplit(
            source.images,
            train_index,
            train_labels,
            of_each_feature(shift),
            of_each_feature(divisor),
        )
    else:
        train = scale(Split(source.batch(train_index)[0], train_labels))
    val = scale(Split(*source.batch(val_index))) if val_size else None
    return Prepared(train, val, scale(dataset.test))


def parts(
    dataset: Dataset, *, val_size: int, split_seed: int, examples: int | None = None
) -> tuple[Tensor, Tensor]:
    """The places, in order, of the training images set aside for validation, and of the others, or
    of as many of them as `examples` says."""
    size = len(dataset.train)
    if not 0 <= val_size < size:
        raise BenchError(
            f"workload.val_size={val_size}: {dataset.name} has {size:,} training images, "
            f"so 0 to {size - 1:,} can be set aside"
        )
    order = torch.randperm(size, generator=generator(split_seed))
    val, train = (part.sort().values for part in (order[:val_size], order[val_size:][:examples]))
    return val, train


def with_noise(labels: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """`labels` [N], of which that share, rounded, is replaced by other ones."""
    if share == 0:
        return labels
    draws = generator(seed, LABELS)
    places = torch.randperm(len(labels), generator=draws)[: round(share * len(labels))]
    away = torch.randint(1, classes, (len(places),), generator=draws)
    places, away = places.to(labels.device), away.to(labels.device)
    return labels.index_add(0, places, away) % classes


def factors(shape: torch.Size, seed: int, decades: float | None = None) -> Tensor:
    """What `spread` multiplies each pixel with: of an image's shape, float32."""
    drawn = torch.rand(shape, generator=generator(seed, FACTORS), dtype=torch.float64)
    decades = SPREAD_DECADES if decades is None else decades
    return (10 ** ((drawn - 0.5) * decades)).float()


def scaling(images: Tensor, index: Tensor, method: FeatureScaling) -> tuple[Tensor, Tensor]:
    """What to subtract from images [N, C, H, W], and what then to divide by; float32. Of `spread`
    without the factors.

    The statistics are those of the images at `index`. The sums behind them are exact, hence the
    same on every device.

    Raises:
        BenchError: no such method.
    """
    if method in ("none", "unit"):
        maximum = 1.0 if method == "none" else 255.0
        return torch.zeros((), device=images.device), torch.full((), maximum, device=images.device)
    if method not in ("channel", "feature", "spread"):
        raise BenchError(
            f"feature_scaling={method!r}: expected one of {', '.join(get_args(FeatureScaling))}"
        )
    total, squares = torch.zeros(2, *images.shape[1:], dtype=torch.int64, device=images.device)
    for chunk in index.split(EXACT_SUM):
        pixels = images.index_select(0, chunk).float()
        total += pixels.sum(0).long()
        squares += pixels.square_().sum(0).long()
    count = len(index)
    if method in ("channel", "spread"):
        count *= total[0].numel()
        total, squares = (sums.sum((1, 2), keepdim=True) for sums in (total, squares))  # [C, 1, 1]
    mean = total.cpu().double() / count
    variance = squares.cpu().double() / count - mean.square()
    deviation = variance.sqrt().where(variance > 0, torch.inf)  # what is constant becomes 0
    return mean.float().to(images.device), deviation.float().to(images.device)


def epoch_order(size: int, *, sampling: Sampling, seed: int, epoch: int) -> Tensor:
    """The images of an epoch in the order in which they are seen, [size], int64, on the CPU.

    A pure function of its arguments: a run that resumes needs no state.

    Raises:
        BenchError: no such sampling.
    """
    match sampling:
        case "shuffle":
            return torch.randperm(size, generator=generator(seed, epoch))
        case "replacement":
            return torch.randint(size, (size,), generator=generator(seed, epoch))
        case "sequential":
            return torch.arange(size)
    raise BenchError(f"sampling={sampling!r}: expected one of {', '.join(get_args(Sampling))}")


def generator(seed: int, *key: int) -> torch.Generator:
    """SeedSequence hashes its input, so neighbouring seeds and epochs give unrelated streams."""
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
