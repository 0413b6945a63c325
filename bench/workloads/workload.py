"""What a workload is: all that training, records and reports know of what is minimised.

A workload is a class in one file. Its hyperparameters are typed fields, from which the
configuration's schema is made; ``conf/workload/<name>.yaml``, or the command line, names the class
by ``_target_`` and gives values.

Batches are dictionaries of tensors ``[B, ...]`` by name. In a stack, `losses`, `objective`, `sums`
and the model are mapped over runs by ``torch.func.vmap``: they are pure functions of tensors, and
whatever they do with one run's answers they do with all.

Nothing here imports torch before data or models are asked for: runs are planned without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union, dataclass_transform

from omegaconf import MISSING

from bench.errors import BenchError
from bench.metrics import Metric
from bench.settings.fields import accepts, whole_or

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.data.specs import Specification

Batch = Mapping[str, "Tensor"]
Index = Union["Tensor", slice]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Place:
    """Where the data of a run lie: on which device, and floating-point numbers in which dtype."""

    device: torch.device
    dtype: torch.dtype


@dataclass_transform(eq_default=False, kw_only_default=True)
@dataclass(eq=False, kw_only=True)
class Workload:
    """Something to minimise: a model, the loss of its answers, and what they are judged by.

    A subclass is made a dataclass by being one of these. It says `metrics`, `train_size`, `build`,
    `batch` and `losses`; everything else has a default.

    Attributes:
        target: the value of the first metric on the validation split that counts as reached.
        metrics: the first one selects, stops and has the target. The loss is measured anyway.
        inputs: the tensors of a batch that the model is called with, in its order.
        loss_unit: of what `losses` gives, such as nats.
        varies: its keys in which runs of one stack may differ, beside the seed: nothing of what the
            model computes follows from them, or it is given to each run.
        way: the parameter, ``[d]``, of which a run keeps where it is after every step: of what is a
            picture of the run. Empty for none, which costs nothing.
        evaluation_batch: examples that are evaluated at a time.
        evaluation_batch_of_stacks: the same where runs are evaluated together, over all of them.
    """

    name: str = MISSING
    _target_: str = MISSING
    target: Optional[float] = None  # noqa: UP045 - OmegaConf reads this form

    metrics: ClassVar[Sequence[Metric]] = ()
    inputs: ClassVar[Sequence[str]] = ()
    loss_unit: ClassVar[str] = ""
    varies: ClassVar[Sequence[str]] = ()
    way: ClassVar[str] = ""
    evaluation_batch: ClassVar[int] = 1000
    evaluation_batch_of_stacks: ClassVar[int] = 8000

    # How it is gone through. A subclass of `Examples` lets a person say it.
    batch_size: ClassVar[int | str] = "full"
    sampling: ClassVar[str] = "sequential"
    drop_last: ClassVar[bool] = False
    l2: ClassVar[float] = 0.0

    data_dir: ClassVar[Path | None] = None  # set for each one: where data sets are kept

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "objective" in vars(cls) and "objectives" not in vars(cls):
            cls.objectives = Workload.objectives  # type: ignore[method-assign]
        dataclass(eq=False, kw_only=True)(cls)

    # -- what a workload says ----------------------------------------------------------------

    @property
    def train_size(self) -> int:
        """Examples to train on; 1 for a function without data."""
        return 1

    def build(self, seed: int) -> nn.Module:
        """The model, every parameter and buffer drawn from ``seed``. Python's, NumPy's and
        PyTorch's global generators start from it, too, and are put back afterwards."""
        raise NotImplementedError

    def batch(self, index: Index, split: str = "train") -> Batch:
        """The examples of a split at ``index``, int64 ``[B]`` or a slice: tensors ``[B, ...]`` by
        name on the device of the last `load`. Empty for a function without data."""
        return {}

    def losses(self, output: Any, batch: Batch) -> Tensor:
        """Of each example, ``[B]``, from the model's output; or of each part of it that counts,
        such as a text's characters, ``[B, T]``."""
        raise NotImplementedError

    # -- what may be said otherwise ----------------------------------------------------------

    def objective(self, output: Any, batch: Batch) -> Tensor:
        """What training minimises on a batch, without dimensions; without the l2 term."""
        return self.losses(output, batch).mean()

    def objectives(self, output: Any, batch: Batch) -> Tensor:
        """`objective` of each of K runs, ``[K]``, from outputs and batches ``[K, B, ...]``: where
        all can be had at once, it costs less than to map one over runs, as is done by default, and
        wherever a subclass says another `objective` without this."""
        from torch.func import vmap

        return vmap(self.objective, (0, 0 if batch else None))(output, batch)

    def sums(self, output: Any, batch: Batch) -> dict[str, Tensor]:
        """By name, what `Metric.value` makes values of once it is summed over a split: the
        ``loss``, the ``count`` of what was judged, and each metric's total. No dimensions."""
        losses = self.losses(output, batch)
        return {"loss": losses.sum(), "count": count(losses), **self.totals(output, batch)}

    def totals(self, output: Any, batch: Batch) -> dict[str, Tensor]:
        """Of the metrics that say their own."""
        return {m.name: m.total(output, batch) for m in self.metrics if m.total is not None}

    def size(self, split: str) -> int:
        """Examples in a split of `SPLITS`; 0 where there is none. A function is evaluated as it
        is."""
        return self.train_size if split == "train" else 1

    @property
    def validates(self) -> bool:
        """Whether there is a validation split; known before data are loaded."""
        return True

    @property
    def source(self) -> Specification | None:
        """The data set of ours that it is made of."""
        return None

    def fetch(self) -> None:
        """Gets the data onto this machine, unless they are there; without torch."""
        if self.source is not None:
            from bench.data.cache import obtain

            obtain(self.source, self.data_dir)

    def load(self, place: Place) -> None:
        """Gets the data ready for `batch`."""

    def release(self) -> None:
        """Lets go of what `load` got: another workload's data come."""

    def check(self) -> None:
        """
        Raises:
            BenchError: values that no field can refuse alone.
        """

    def remarks(self, model: nn.Module) -> Mapping[str, float]:
        """What only this workload can say of a trained model, measured once at the end; by names
        such as ``test/excess``."""
        return {}

    def deployed(self, model: nn.Module) -> nn.Module:
        """The trained model as somebody wants to use it: on data as they are, rather than as they
        are trained on."""
        return model

    @classmethod
    def schema(cls, given: Mapping[str, Any]) -> Any:
        """The class, or an instance of OmegaConf's, whose fields are the keys of the section
        ``workload``, where these values are given."""
        return cls

    @property
    def checksum(self) -> str | None:
        """Of the data, if they are fetched: what a run is repeated with."""
        return None if self.source is None else self.source.checksum

    # -- stacks ------------------------------------------------------------------------------

    def stacks(self) -> str | None:
        """Why its runs cannot be trained as a stack; None if they can. By default the model is
        looked at: whether it is random, or remembers."""
        from bench.workloads.models import refusal_to_stack

        return refusal_to_stack(self)

    def sharing_that_pays(self, device: str) -> float:
        """How many runs must share a seed, and so their batches, for a stack to be faster than
        parallel processes: measured with ``scripts/benchmark_throughput``. On a CPU only what is
        shared saves time; on a GPU small models wait for kernel launches, which any stack shares.
        """
        return 1 if device == "cuda" else inf

    def extent(self) -> tuple[int, int]:
        """How many weights the model has, and how many numbers its layers give for one example.

        Raises:
            BenchError: there is no such model.
        """
        from bench.workloads.models import extent

        return extent(self)

    def example_size(self) -> int:
        """How many numbers an example has."""
        from bench.workloads.models import example_size

        return example_size(self)

    # -- for everybody -----------------------------------------------------------------------

    @property
    def metric(self) -> Metric:
        """The one that selects: the loss where no other is named."""
        return self.metrics[0] if self.metrics else Metric("loss", self.loss_unit)

    def values(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The loss and each metric, from the sums over a split."""
        return {"loss": sums["loss"] / sums["count"]} | {
            m.name: m.value(sums) for m in self.metrics
        }

    @property
    def units(self) -> dict[str, str]:
        return {"loss": self.loss_unit} | {m.name: m.unit for m in self.metrics}

    def call(self, model: Callable[..., Any], batch: Batch) -> Any:
        return model(*(batch[name] for name in self.inputs))


def count(losses: Tensor) -> Tensor:
    """How many there are, as a tensor beside their sum."""
    import torch

    return losses.new_full(
        (), losses.numel(), dtype=torch.promote_types(losses.dtype, torch.float32)
    )


class Examples(Workload):
    """A workload with examples, which are gone through in batches."""

    inputs: ClassVar[Sequence[str]] = ("inputs",)
    varies: ClassVar[Sequence[str]] = ("l2",)

    batch_size: Union[int, str] = whole_or(128, "full")  # type: ignore[misc] # noqa: UP007
    sampling: str = accepts(  # type: ignore[misc]
        "shuffle", None, "shuffle", "replacement", "sequential"
    )
    drop_last: bool = False  # type: ignore[misc]
    l2: float = accepts(0.0, "[0, inf)")  # type: ignore[misc]

    def check(self) -> None:
        if isinstance(self.batch_size, int) and self.batch_size > self.train_size:
            raise BenchError(
                f"workload.batch_size={self.batch_size}: at most the {self.train_size} training "
                "samples, or 'full'"
            )


class Arrays(Examples):
    """Examples from arrays in memory, of which some are set aside for validation.

    A subclass says `arrays`, `build` and `losses`.
    """

    val_size: int = accepts(0, "[0, inf)", kind=int)
    split_seed: int = accepts(0, "[0, inf)", kind=int)

    def arrays(self) -> Mapping[str, Mapping[str, Any]]:
        """The ``train`` and ``test`` split, and ``val`` unless ``val_size`` sets examples aside:
        NumPy arrays or tensors ``[N, ...]`` by name. The first axis goes by examples."""
        raise NotImplementedError

    @property
    def train_size(self) -> int:
        return self._sizes["train"] - self.val_size

    @property
    def validates(self) -> bool:
        return self.val_size > 0 or "val" in self._sizes

    def size(self, split: str) -> int:
        if split == "val" and self.val_size:
            return self.val_size
        return self.train_size if split == "train" else self._sizes.get(split, 0)

    def check(self) -> None:
        total = self._sizes["train"]
        if self.val_size >= total:
            raise BenchError(
                f"workload.val_size={self.val_size}: must leave training samples; "
                f"{self.name} has {total}"
            )
        if self.val_size and "val" in self._sizes:
            raise BenchError(
                f"workload.val_size={self.val_size}: must be 0; {self.name} has a val split"
            )
        super().check()

    def load(self, place: Place) -> None:
        from bench.workloads.arrays import placed

        self._splits = placed(self._arrays, self.val_size, self.split_seed, place)

    def release(self) -> None:
        del self._splits

    def batch(self, index: Index, split: str = "train") -> Batch:
        tensors = self._splits[split]
        if isinstance(index, slice):
            return {name: x[index] for name, x in tensors.items()}
        return {name: x.index_select(0, index) for name, x in tensors.items()}

    @property
    def _sizes(self) -> Mapping[str, int]:
        """Examples in each split of `arrays`. Whoever knows them says them without data."""
        return {split: len_of(named) for split, named in self._arrays.items()}

    @functools.cached_property
    def _arrays(self) -> dict[str, dict[str, Tensor]]:
        from bench.workloads.arrays import checked

        return checked(type(self).__name__, self.arrays())


def len_of(split: Mapping[str, Any]) -> int:
    """Examples in a split."""
    return len(next(iter(split.values()))) if split else 0
