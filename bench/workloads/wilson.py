"""A problem on which adaptive methods find another solution, which does not generalise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union

from bench.errors import BenchError
from bench.metrics import Metric
from bench.settings.fields import accepts, whole_or
from bench.workloads.workload import SPLITS, Arrays

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.workloads.workload import Batch

SHARED, PRIVATE = 3, 5  # features of all examples; places that each one has to itself


def wrong(output: Tensor, batch: Batch) -> Tensor:
    """How many answers have not the sign of their label; zero has none."""
    return (output * batch["label"] <= 0).sum()


class Wilson(Arrays):
    """Features ``[B, d]`` to a label of 1 or -1, linear from zero, squared error
    (Wilson et al. 2017, arXiv:1705.08292, section 3.3).

    Feature 1 is the label; 2 and 3 are 1; each positive example has one more that is 1, and each
    negative one five, which no other has. So feature 1 alone decides. Validation and test examples
    are made alike, with features of their own. Where more than half are positive, full-batch
    descent ends where all are told right; AdaGrad, Adam and RMSProp with eps = 0, whose steps go by
    signs, where every example that was not trained on is called positive.

    Attributes:
        examples: in each split.
        positive: how many of them have label 1.
    """

    examples: int = accepts(40, "[2, 1000]", kind=int)
    positive: int = accepts(28, "[1, inf)", kind=int)
    batch_size: Union[int, str] = whole_or("full", "full")  # type: ignore[misc] # noqa: UP007

    metrics = (Metric("error", "fraction", total=wrong),)

    def check(self) -> None:
        super().check()
        if self.positive >= self.examples:
            raise BenchError(
                f"workload.positive={self.positive}: must be less than the {self.examples} examples"
            )

    @property
    def _sizes(self) -> Mapping[str, int]:
        return dict.fromkeys(SPLITS, self.examples)

    @property
    def features(self) -> int:
        return SHARED + len(SPLITS) * PRIVATE * self.examples

    def arrays(self) -> Mapping[str, Mapping[str, Any]]:
        import numpy as np

        label = np.where(np.arange(self.examples) < self.positive, 1, -1).astype(np.float32)
        found = {}
        for n, split in enumerate(SPLITS):
            x = np.zeros((self.examples, self.features), np.float32)
            x[:, :SHARED] = 1
            x[:, 0] = label
            for i in range(self.examples):
                first = SHARED + PRIVATE * (n * self.examples + i)
                x[i, first : first + (1 if label[i] > 0 else PRIVATE)] = 1
            found[split] = {"inputs": x, "label": label}
        return found

    def build(self, seed: int) -> nn.Module:
        from torch import nn

        layer = nn.Linear(self.features, 1, bias=False)
        nn.init.zeros_(layer.weight)
        return nn.Sequential(layer, nn.Flatten(0))

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        return (output - batch["label"]).square()

    def stacks(self) -> str | None:
        return None
