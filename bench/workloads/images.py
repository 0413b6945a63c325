"""Classifiers of images: their data, models and hyperparameters."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from bench.data import IMAGES
from bench.errors import BenchError
from bench.metrics import Metric
from bench.settings import paths
from bench.settings.fields import accepts, each, section
from bench.workloads.workload import Examples, Place, count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.data import Dataset, Prepared
    from bench.data.specs import Specification
    from bench.data.tensors import FeatureScaling
    from bench.workloads.workload import Batch, Index

INITIALISATION = ("init", "init_std", "init_bias")


@dataclass
class Model:
    family: str = accepts(MISSING, None, "mlp", "cnn")
    init: str = accepts(
        "default", None, "default", "kaiming", "xavier", "truncated_normal", "normal", "zeros"
    )
    init_std: float = accepts(0.01, "(0, inf)")
    init_bias: float = accepts(0.0, "(-inf, inf)")
    hidden_sizes: list[int] = each("[1, inf)")
    dropout: float = accepts(0.0, "[0, 1)")


@dataclass
class MLP(Model):
    family: str = accepts("mlp", None, "mlp")


@dataclass
class CNN(Model):
    family: str = accepts("cnn", None, "cnn")
    channels: list[int] = each("[1, inf)")


FAMILIES: Mapping[Any, type[Model]] = {"mlp": MLP, "cnn": CNN}


@dataclass(frozen=True)
class Shape:
    """What is known of a data set of images before it is fetched."""

    image_shape: tuple[int, ...]
    classes: int
    train_size: int
    test_size: int


class ImageClassifier(Examples):
    """Images ``[B, C, H, W]`` to logits ``[B, classes]``; cross-entropy in nats.

    With ``label_smoothing`` s, targets of training are a mixture of the label (1 - s) and the
    uniform distribution (s), as in Szegedy et al. 2016, section 7. Validation and test go by the
    label alone.

    Attributes:
        dataset: one of ours, or the path of a function that gives a `bench.data.Dataset`.
        model: of a ``family`` of ours; or of a class at ``_target_``, which is called with the
            other keys, and with ``image_shape`` and ``classes`` if it takes them.
    """

    dataset: str = "mnist"
    model: Any = section(Model)
    feature_scaling: str = accepts("channel", None, "none", "unit", "channel", "feature")
    val_size: int = accepts(5000, "[0, inf)", kind=int)
    split_seed: int = accepts(0, "[0, inf)", kind=int)
    label_smoothing: float = accepts(0.0, "[0, 1)")
    target: Optional[float] = accepts(None, "[0, 1]")  # noqa: UP045

    inputs = ("images",)
    varies = ("l2", *(f"model.{key}" for key in INITIALISATION))
    loss_unit = "nats"
    data: ClassVar[Any] = None  # `Prepared`, of each one that is loaded

    @classmethod
    def schema(cls, given: Mapping[str, Any]) -> Any:
        model = given.get("model", {})
        if "_target_" in model:
            free = DictConfig({"_target_": MISSING}, flags={"struct": False})
            return OmegaConf.structured(cls(model=free))
        kind = FAMILIES.get(model.get("family"), Model)
        return OmegaConf.structured(cls(model=OmegaConf.structured(kind)))

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        return (Metric("accuracy", "fraction", True, 1 / self.shape.classes, correct),)

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
        super().check()

    # -- data --------------------------------------------------------------------------------

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
        return {"train": train, "val": self.val_size, "test": self.shape.test_size}[split]

    @property
    def source(self) -> Specification | None:
        return IMAGES.get(self.dataset)

    def load(self, place: Place) -> None:
        self.data = prepared(  # type: ignore[misc]
            self.dataset,
            self.data_dir,
            feature_scaling=self.feature_scaling,
            val_size=self.val_size,
            split_seed=self.split_seed,
            device=place.device,
            memory_format=self.memory_format,
            dtype=place.dtype,
            full_batch=self.batch_size == "full",
        )

    def release(self) -> None:
        self.data = None  # type: ignore[misc]

    def batch(self, index: Index, split: str = "train") -> Batch:
        part = getattr(self.data, split)
        if isinstance(index, slice):
            return {"images": part.images[index], "labels": part.labels[index]}
        images, labels = part.batch(index)
        return {"images": images, "labels": labels}

    # -- model and loss ----------------------------------------------------------------------

    @property
    def memory_format(self) -> torch.memory_format:
        import torch

        convolves = self.model.get("family") == "cnn"
        return torch.channels_last if convolves else torch.contiguous_format

    @property
    def evaluation_batch(self) -> int:  # type: ignore[override]
        return 5000 if self.model.get("family") == "mlp" else 1000

    def layers(self) -> nn.Module:
        """The model as its constructors leave it."""
        from bench.workloads.cnn import cnn
        from bench.workloads.mlp import mlp

        options = {key: value for key, value in self.model.items() if key not in INITIALISATION}
        if "_target_" in options:
            target = options.pop("_target_")
            kind = paths.found("workload.model._target_", target)
            offered = {"image_shape": self.shape.image_shape, "classes": self.shape.classes}
            return paths.called("workload.model", target, kind, options, offered)
        build = {"mlp": mlp, "cnn": cnn}[options.pop("family")]
        return build(self.shape.image_shape, self.shape.classes, **options)  # type: ignore[operator]

    def build(self, seed: int) -> nn.Module:
        import torch

        from bench.workloads.initialisation import initialise

        if "_target_" in self.model:
            return self.layers()
        with torch.device("meta"):
            model = self.layers()
        initialise(
            model.to_empty(device="cpu"),
            **{key: self.model[key] for key in INITIALISATION},
            generator=torch.Generator().manual_seed(seed),
        )
        return model.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(output, batch["labels"], reduction="none")

    def sums(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """With the sum that PyTorch's own kernel takes, on the way."""
        from torch.nn.functional import cross_entropy

        loss = cross_entropy(output, batch["labels"], reduction="sum")
        return {"loss": loss, "count": count(output[:, 0]), **self.totals(output, batch)}

    def objective(self, output: Tensor, batch: Batch) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(output, batch["labels"], label_smoothing=self.label_smoothing)

    def extent(self) -> tuple[int, int]:
        if "_target_" in self.model:
            return super().extent()
        import torch

        from bench.workloads.models import counted

        try:
            with torch.device("meta"), warnings.catch_warnings(action="ignore"):
                model, image = self.layers(), torch.empty(1, *self.shape.image_shape)
                return counted(model, lambda: model(image))
        except (RuntimeError, ArithmeticError, TypeError, IndexError) as error:
            sizes = ", ".join(
                f"{key}={self.model[key]}"
                for key in ("channels", "hidden_sizes")
                if key in self.model
            )
            shape = "x".join(map(str, self.shape.image_shape))
            why = str(error).partition("\n")[0]
            raise BenchError(
                f"workload.model: {sizes}: cannot be built on {shape} images ({why})"
            ) from error

    def example_size(self) -> int:
        return prod(self.shape.image_shape)

    def deployed(self, model: nn.Module) -> nn.Module:
        """On images as the data set has them, from 0 to 255, by the statistics of the images it
        was trained on."""
        from bench.workloads.scaled import Scaled

        return Scaled.of(
            model,
            obtained(self.dataset, self.data_dir),
            val_size=self.val_size,
            split_seed=self.split_seed,
            feature_scaling=cast("FeatureScaling", self.feature_scaling),
        )

    # -- stacks ------------------------------------------------------------------------------

    def stacks(self) -> str | None:
        if "_target_" in self.model:
            return super().stacks()
        return "dropout draws from one random stream" if self.model["dropout"] > 0 else None

    def sharing_that_pays(self, device: str) -> float:
        """vmap turns small convolutions into grouped ones, which are many times slower on a CPU;
        what an MLP shares is one large product."""
        if device == "cpu" and self.model.get("family") == "mlp":
            return 2
        return super().sharing_that_pays(device)


def correct(output: Tensor, batch: Batch) -> Tensor:
    return (output.argmax(1) == batch["labels"]).sum()


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
    dataset: str,
    data_dir: Path | None,
    *,
    dtype: torch.dtype,
    full_batch: bool,
    **options: Any,
) -> Prepared:
    """The prepared splits; those of the last run are kept for the next one like it."""
    import torch

    from bench import data

    loaded = obtained(dataset, data_dir)
    if dtype == torch.float32:
        return data.prepare(loaded, train_in_place=not full_batch, **options)
    splits = data.prepare(loaded, **options)

    def cast(split: Any) -> Any:
        return split and data.Split(split.images.to(dtype), split.labels)

    return data.Prepared(cast(splits.train), cast(splits.val), cast(splits.test))
