"""Classifiers of images: their models and hyperparameters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from bench.errors import BenchError
from bench.metrics import Metric
from bench.settings import paths
from bench.settings.fields import accepts, each, section
from bench.workloads.images import Images
from bench.workloads.workload import count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.data.tensors import FeatureScaling
    from bench.workloads.workload import Batch

FEW = 300_000  # weights of a layer's sizes counted by calling it: without, torch loads sympy
INITIALISATION = ("init", "init_std", "init_bias")


@dataclass
class Model:
    family: str = accepts(MISSING, None, "mlp", "cnn", "resnet")
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
    kernel_size: int = accepts(3, "[1, inf)", kind=int)


@dataclass
class ResNet(Model):
    family: str = accepts("resnet", None, "resnet")
    channels: list[int] = each("[1, inf)")
    blocks: int = accepts(1, "[1, inf)", kind=int)
    augment: bool = False


FAMILIES: Mapping[Any, type[Model]] = {"mlp": MLP, "cnn": CNN, "resnet": ResNet}


class ImageClassifier(Images):
    """Images ``[B, C, H, W]`` to logits ``[B, classes]``; cross-entropy in nats.

    With ``label_smoothing`` s, targets of training are a mixture of the label (1 - s) and the
    uniform distribution (s), as in Szegedy et al. 2016, section 7. Validation and test go by the
    label alone.

    Attributes:
        model: of a ``family`` of ours; or of a class at ``_target_``, which is called with the
            other keys, and with ``image_shape`` and ``classes`` if it takes them.
    """

    model: Any = section(Model)
    label_smoothing: float = accepts(0.0, "[0, 1)")
    target: Optional[float] = accepts(None, "[0, 1]")  # noqa: UP045

    varies = ("l2", *(f"model.{key}" for key in INITIALISATION))
    loss_unit = "nats"

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

    def check(self) -> None:
        super().check()
        size = self.model.get("kernel_size", 1)
        if self.model.get("family") == "cnn" and size % 2 == 0:
            raise BenchError(f"workload.model.kernel_size={size}: must be odd")

    # -- model and loss ----------------------------------------------------------------------

    @property
    def memory_format(self) -> torch.memory_format:
        import torch

        convolves = self.model.get("family") in ("cnn", "resnet")
        return torch.channels_last if convolves else torch.contiguous_format

    @property
    def evaluation_batch(self) -> int:  # type: ignore[override]
        return 5000 if self.model.get("family") == "mlp" else 1000

    def layers(self) -> nn.Module:
        """The model as its constructors leave it."""
        from bench.workloads.cnn import cnn
        from bench.workloads.mlp import mlp
        from bench.workloads.resnet import resnet

        options = {key: value for key, value in self.model.items() if key not in INITIALISATION}
        if "_target_" in options:
            target = options.pop("_target_")
            kind = paths.found("workload.model._target_", target)
            offered = {"image_shape": self.shape.image_shape, "classes": self.shape.classes}
            return paths.called("workload.model", target, kind, options, offered)
        build = {"mlp": mlp, "cnn": cnn, "resnet": resnet}[options.pop("family")]
        return build(self.shape.image_shape, self.shape.classes, **options)  # type: ignore[operator]

    def build(self, seed: int) -> nn.Module:
        import torch

        from bench.workloads.initialisation import initialise

        if "_target_" in self.model:
            return self.layers()
        with torch.random.fork_rng(devices=[]):  # for what layers draw, which is not used
            model = self.layers()
        initialise(
            model,
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

    def objectives(self, output: Tensor, batch: Batch) -> Tensor:
        from torch.nn.functional import cross_entropy

        labels, smoothing = batch["labels"], self.label_smoothing
        losses = cross_entropy(
            output.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing
        )
        return losses.view_as(labels).mean(1)

    def extent(self) -> tuple[int, int]:
        if "_target_" in self.model:
            return super().extent()
        import torch

        from bench.workloads.models import counted

        try:
            with warnings.catch_warnings(action="ignore"), torch.random.fork_rng(devices=[]):
                with torch.device("meta"):
                    model, image = self.layers(), torch.empty(1, *self.shape.image_shape)
                if sum(p.numel() for p in model.parameters()) < FEW:
                    model, image = self.layers(), torch.zeros(image.shape)
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

    def deployed(self, model: nn.Module) -> nn.Module:
        """On images as the data set has them, from 0 to 255, by the statistics of the images it
        was trained on."""
        from bench.workloads.scaled import Scaled

        make, *arguments = self.made_by
        return Scaled.of(
            model,
            make(*arguments),
            val_size=self.val_size,
            split_seed=self.split_seed,
            examples=self.examples,
            feature_scaling=cast("FeatureScaling", self.feature_scaling),
            spread_decades=self.spread_decades,
        )

    # -- stacks ------------------------------------------------------------------------------

    def stacks(self) -> str | None:
        if self.model.get("family") not in ("mlp", "cnn"):
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
