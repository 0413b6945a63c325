"""A workload: which data, which model, which loss, and the accuracy that counts as reached."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from bench.errors import BenchError
from bench.workloads.cnn import cnn
from bench.workloads.initialisation import initialise
from bench.workloads.mlp import mlp


@dataclass(frozen=True)
class Family:
    """A kind of model: ``build(image_shape, classes, **options)``, its fastest layout, and how many
    images it evaluates at a time."""

    build: Callable[..., nn.Module]
    memory_format: torch.memory_format = torch.contiguous_format
    evaluation_batch: int = 1000


FAMILIES: Mapping[str, Family] = {
    "mlp": Family(mlp, evaluation_batch=5000),
    "cnn": Family(cnn, torch.channels_last),
}


INITIALISATION = ("init", "init_std", "init_bias")


def shape_of(model: Mapping[str, Any], image_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The layers of a workload's configuration, initialised as PyTorch does."""
    own = {k: v for k, v in model.items() if k not in ("family", *INITIALISATION)}
    return FAMILIES[model["family"]].build(image_shape, classes, **own)


def extent(model: Mapping[str, Any], image_shape: tuple[int, ...], classes: int) -> tuple[int, int]:
    """How many weights a model has, and how many numbers its layers give for one image; nothing of
    it is allocated.

    Raises:
        BenchError: there is no such model on these images.
    """
    outputs = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal outputs
        outputs += output[0].numel()

    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            module = shape_of(model, image_shape, classes)
            for layer in module.modules():
                layer.register_forward_hook(count)
            module(torch.empty(1, *image_shape))
    except (RuntimeError, ArithmeticError, TypeError, IndexError) as error:
        sizes = ", ".join(
            f"{key}={model[key]}" for key in ("channels", "hidden_sizes") if key in model
        )
        shape = "x".join(map(str, image_shape))
        why = str(error).partition("\n")[0]
        raise BenchError(
            f"workload.model: {sizes}: cannot be built on {shape} images ({why})"
        ) from error
    return sum(p.numel() for p in module.parameters()), outputs


def build_model(
    model: Mapping[str, Any], image_shape: tuple[int, ...], classes: int, *, seed: int
) -> nn.Module:
    """The model of a workload's configuration, its weights drawn from ``seed`` alone."""
    with torch.device("meta"):  # no weights are drawn here, so no global random state is used
        module = shape_of(model, image_shape, classes)
    module = module.to_empty(device="cpu")
    initialise(
        module,
        **{key: model[key] for key in INITIALISATION},
        generator=Generator().manual_seed(seed),
    )
    return module.to(memory_format=FAMILIES[model["family"]].memory_format)  # type: ignore[call-overload]


def objective(
    logits: Tensor,
    labels: Tensor,
    parameters: Iterable[Tensor],
    l2: float | Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """What training minimises: mean cross-entropy (nats) of ``logits`` [B, classes], plus ``l2``
    times the sum of squared weights (biases are left out).

    Targets are a mixture of the label (1 - s) and the uniform distribution (s = label_smoothing),
    as in Szegedy et al. 2016, section 7. Validation and test go by the label alone.
    """
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if isinstance(l2, Tensor) or l2 > 0:
        loss = loss + l2 * sum(p.square().sum() for p in parameters if p.ndim > 1)
    return loss
