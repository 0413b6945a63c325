"""Data sets of images, whatever is made of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from bench.data import IMAGES
from bench.errors import BenchError
from bench.settings import paths
from bench.settings.fields import accepts
from bench.workloads.workload import Examples, Place

if TYPE_CHECKING:
    import torch

    from bench.data import Dataset, Prepared
    from bench.data.specs import Specification
    from bench.workloads.workload import Batch, Index


@dataclass(frozen=True)
class Shape:
    """What is known of a data set of images before it is fetched."""

    image_shape: tuple[int, ...]
    classes: int
    train_size: int
    test_size: int


class Images(Examples):
    """Images ``[B, C, H, W]`` with a label each, ``[B]``.

    Attributes:
        dataset: one of ours, or the path of a function that gives a `bench.data.Dataset`.
        spread_decades: of ``feature_scaling=spread``, between the largest and the smallest factor
            of a pixel; None for 4.
        examples: of the training split that are trained on; None for all.
        label_noise: share of the training labels that are wrong.
    """

    dataset: str = "mnist"
    feature_scaling: str = accepts("channel", None, "none", "unit", "channel", "feature", "spread")
    spread_decades: Optional[float] = accepts(None, "[0, 30]", problem=True)  # noqa: UP045
    examples: Optional[int] = accepts(None, "[1, inf)", kind=int, problem=True)  # noqa: UP045
    label_noise: float = accepts(0.0, "[0, 1]", problem=True)
    val_size: int = accepts(5000, "[0, inf)", kind=int)
    split_seed: int = accepts(0, "[0, inf)", kind=int)

    inputs = ("images",)
    data: ClassVar[Any] = None  # `Prepared`, of each one that is loaded

    @functools.cached_property
    def shape(self) -> Shape:
        if self.dataset in IMAGES:
            known = IMAGES[self.dataset]
            return Shape(known.image_shape, known.classes, known.train_size, known.test_size)
        own = obtained(self.dataset, None)
        return Shape(tuple(own.train.images.shape[1:]), own.classes, len(own.train), len(own.test))

    def check(self) -> None:
        if self.dataset not in IMAGES and "." not in self.dataset:
            raise BenchError(
                f"workload.dataset={self.dataset} is not accepted: it must be one of "
                f"{', '.join(IMAGES)}, or the path of a function that gives a Dataset"
            )
        if self.train_size < 1:
            raise BenchError(
                f"workload.val_size={self.val_size}: must leave training samples; "
                f"{self.dataset} has {self.shape.train_size}"
            )
        if self.examples is not None and self.examples > self.train_size:
            raise BenchError(
                f"workload.examples={self.examples}: at most the {self.train_size:,} training "
                f"samples that workload.val_size={self.val_size} leaves"
            )
        if self.spread_decades is not None and self.feature_scaling != "spread":
            raise BenchError(
                f"workload.spread_decades={self.spread_decades}: needs "
                "workload.feature_scaling=spread"
            )
        super().check()

    @property
    def train_size(self) -> int:
        return self.size("train")

    @property
    def validates(self) -> bool:
        return self.val_size > 0

    def size(self, split: str) -> int:
        if self.data is not None:
            return len(getattr(self.data, split) or ())
        train = self.shape.train_size - self.val_size
        train = train if self.examples is None else min(train, self.examples)
        return {"train": train, "val": self.val_size, "test": self.shape.test_size}[split]

    @property
    def source(self) -> Specification | None:
        return IMAGES.get(self.dataset)

    @property
    def made_by(self) -> tuple[Any, ...]:
        """The function that gives the data set, and what it is called with."""
        return obtained, self.dataset, self.data_dir

    def load(self, place: Place) -> None:
        self.data = prepared(  # type: ignore[misc]
            self.made_by,
            feature_scaling=self.feature_scaling,
            spread_decades=self.spread_decades,
            val_size=self.val_size,
            split_seed=self.split_seed,
            examples=self.examples,
            label_noise=self.label_noise,
            device=place.device,
            memory_format=self.memory_format,
            dtype=place.dtype,
            full_batch=self.batch_size == "full",
        )

    def release(self) -> None:
        self.data = None  # type: ignore[misc]

    def batch(self, index: Index, split: str = "train") -> Batch:
        images, labels = getattr(self.data, split).batch(index)
        return {"images": images, "labels": labels}

    def example_size(self) -> int:
        return prod(self.shape.image_shape)

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the images."""
        import torch

        return torch.contiguous_format


def obtained(dataset: str, data_dir: Path | None) -> Dataset:
    """One of ours, fetched if it is not there, or what a person's function gives."""
    from bench.data import tensors

    return tensors.load(dataset, data_dir) if dataset in IMAGES else _own(dataset)


@functools.lru_cache(maxsize=1)
def _own(path: str) -> Dataset:
    from bench.data import Dataset

    key = "workload.dataset"
    dataset = paths.called(key, path, paths.found(key, path, "my_module.my_images"))
    if not isinstance(dataset, Dataset):
        raise BenchError(f"{key}={path}: gives no bench.data.Dataset")
    return dataset


@functools.lru_cache(maxsize=1)
def prepared(
    made_by: tuple[Any, ...],
    *,
    dtype: torch.dtype,
    full_batch: bool,
    **options: Any,
) -> Prepared:
    """The prepared splits; those of the last run are kept for the next one like it."""
    import torch

    from bench import data

    make, *arguments = made_by
    loaded = make(*arguments)
    if dtype == torch.float32:
        return data.prepare(loaded, train_in_place=not full_batch, **options)
    splits = data.prepare(loaded, **options)

    def cast(split: Any) -> Any:
        return split and data.Split(split.images.to(dtype), split.labels)

    return data.Prepared(cast(splits.train), cast(splits.val), cast(splits.test))
