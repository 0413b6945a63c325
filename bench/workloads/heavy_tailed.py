"""Images of many classes, few of which are common."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BenchError
from bench.metrics import Metric, Sums
from bench.settings.fields import accepts
from bench.workloads.classifiers import ImageClassifier
from bench.workloads.images import Shape, obtained

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from bench.data import Dataset, Split
    from bench.workloads.workload import Batch

DIGITS = 10
TRAIN, TEST = 24_000, 4_000  # of no digit more than MNIST has, down to some 100 classes
BIT = 2  # pixels on either side


def rare_accuracy(sums: Sums) -> float:
    return sums["rare_correct"] / sums["rare"] if sums["rare"] else math.nan


class HeavyTailed(ImageClassifier):
    """Barcoded MNIST with a heavy tail (Kunstner et al. 2024, section 2 and appendix A): a class is
    a digit with a number, which is written in binary, as squares, into the first rows.

    Of the k-th class there are as many examples as k to the power of ``-tail``: in all 24,000, from
    which those of validation are taken, and 4,000 to test. Images of a digit are taken in the order
    of the data set, from the start again where there are too few.

    The second metric is the accuracy on the classes, from the rarest on, that have half of the
    training examples.
    """

    dataset: str = accepts("mnist", None, "mnist", "fashion_mnist")
    classes: int = accepts(650, "[10, 1280]", kind=int, problem=True)
    tail: float = accepts(1.0, "[0, 4]", problem=True)
    val_size: int = accepts(4000, "[0, inf)", kind=int)

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        return (*super().metrics, Metric("rare_accuracy", "fraction", True, of=rare_accuracy))

    @functools.cached_property
    def shape(self) -> Shape:
        return Shape((1, 28, 28), self.classes, TRAIN, TEST)

    @property
    def made_by(self) -> tuple[Any, ...]:
        return barcoded, self.dataset, self.data_dir, self.classes, self.tail

    @functools.cached_property
    def first_rare(self) -> int:
        """The commonest of the rare classes."""
        sizes = class_sizes(TRAIN, self.classes, self.tail)
        return int(np.searchsorted(sizes.cumsum(), TRAIN / 2)) + 1

    def totals(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        rare = batch["labels"] >= self.first_rare
        correct = output.argmax(1) == batch["labels"]
        return super().totals(output, batch) | {
            "rare": rare.sum(),
            "rare_correct": (correct & rare).sum(),
        }


def class_sizes(examples: int, classes: int, tail: float) -> NDArray[np.int64]:
    """So many examples in proportion to k^-tail, ``[classes]``, by the largest remainder."""
    share = np.arange(1, classes + 1) ** -float(tail)
    exact = examples * share / share.sum()
    sizes = exact.astype(np.int64)
    left = examples - sizes.sum()
    sizes[np.argsort(sizes - exact, kind="stable")[:left]] += 1
    return sizes


def barcoded(dataset: str, data_dir: Path | None, classes: int, tail: float) -> Dataset:
    """
    Raises:
        BenchError: a digit has no image.
    """
    from bench.data import Dataset

    source = obtained(dataset, data_dir)
    train, test = (
        _barcoded(part, class_sizes(size, classes, tail))
        for part, size in ((source.train, TRAIN), (source.test, TEST))
    )
    return Dataset(source.name, classes, train, test)


def _barcoded(source: Split, sizes: NDArray[np.int64]) -> Split:
    import torch

    from bench.data import Split

    labels = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
    places = torch.empty_like(labels)
    for digit in range(DIGITS):
        wanted = (labels % DIGITS == digit).nonzero().flatten()
        those = (source.labels == digit).nonzero().flatten()
        if not len(those):
            raise BenchError(f"workload.dataset: has no image of class {digit}")
        places[wanted] = those[torch.arange(len(wanted)) % len(those)]
    images = source.images[places].clone()
    numbers = labels // DIGITS
    for bit in range(math.ceil(math.log2(len(sizes) / DIGITS))):
        square = images[:, :, :BIT, BIT * bit : BIT * (bit + 1)]
        square.copy_(
            (255 * (numbers >> bit & 1)).to(torch.uint8)[:, None, None, None].expand_as(square)
        )
    return Split(images, labels)
