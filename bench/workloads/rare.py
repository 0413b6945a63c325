"""A problem whose features are, but for a few, rare: what adaptive rates are said to be for."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.metrics import Metric
from bench.settings.fields import accepts
from bench.workloads.workload import Arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from bench.workloads.workload import Batch

SIZES = {"train": 12_000, "test": 5_000}


def wrong(output: Tensor, batch: Batch) -> Tensor:
    """How many answers, positive above 0, are not the label."""
    return ((output > 0) != (batch["label"] > 0)).sum()


class RareFeatures(Arrays):
    """Logistic regression on features ``[B, d]`` of 0 and 1, most of them rare, to a label of 1 or
    -1 (after Duchi et al. 2011, section 1: what is rare may be what is most informative).

    The k-th feature is there with probability ``most_common * k^-tail``, whatever else is there.
    The label is 1 with probability 1 / (1 + exp(-w·x)), where the teacher's weights w are drawn
    from N(0, ``deviation``²): a rare feature tells as much as a common one, where it is there. The
    model has no bias, as the teacher has none, and starts from zeros. 12,000 examples, from which
    those of validation are taken, and 5,000 to test.

    Attributes:
        data_seed: of the teacher and of all examples.
    """

    features: int = accepts(500, "[1, 10000]", kind=int, problem=True)
    most_common: float = accepts(0.5, "(0, 1]", problem=True)
    tail: float = accepts(1.0, "[0, 4]", problem=True)
    deviation: float = accepts(3.0, "[0, inf)", problem=True)
    data_seed: int = accepts(0, "[0, inf)", kind=int, problem=True)
    val_size: int = accepts(2000, "[0, inf)", kind=int)

    metrics = (Metric("error", "fraction", total=wrong),)

    @property
    def _sizes(self) -> Mapping[str, int]:
        return SIZES

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """The probability of each feature, ``[d]``."""
        import numpy as np

        return self.most_common * np.arange(1.0, self.features + 1) ** -self.tail

    @functools.cached_property
    def teacher(self) -> NDArray[np.float64]:
        """The weights that labels follow from, ``[d]``."""
        return self._stream(0).normal(0, self.deviation, self.features)

    def arrays(self) -> Mapping[str, Mapping[str, Any]]:
        import numpy as np

        found = {}
        for stream, (split, size) in enumerate(SIZES.items(), 1):
            draw = self._stream(stream)
            there = draw.random((size, self.features), np.float32) < self.frequencies
            positive = draw.random(size) < 1 / (1 + np.exp(-(there @ self.teacher)))
            label = np.where(positive, 1, -1).astype(np.float32)
            found[split] = {"inputs": there.astype(np.float32), "label": label}
        return found

    def _stream(self, number: int) -> np.random.Generator:
        """Independent of those of other numbers: of the teacher, and of each split."""
        import numpy as np

        seed = np.random.SeedSequence(self.data_seed, spawn_key=(number,))
        return np.random.default_rng(seed)

    def build(self, seed: int) -> nn.Module:
        from torch import nn

        layer = nn.Linear(self.features, 1, bias=False)
        nn.init.zeros_(layer.weight)
        return nn.Sequential(layer, nn.Flatten(0))

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        from torch.nn.functional import softplus

        return softplus(-output * batch["label"])

    def stacks(self) -> str | None:
        return None

    # -- what is known of it -----------------------------------------------------------------

    def least_error(self, split: str = "test") -> float:
        """Of whoever knows the teacher: the mean of min(p, 1 - p) over the examples of a split of
        `arrays`, where p is the probability that the label is 1."""
        import numpy as np

        logits = self._arrays[split]["inputs"].numpy() @ self.teacher
        return float(np.mean(1 / (1 + np.exp(np.abs(logits)))))
