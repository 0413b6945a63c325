"""What a contender that is not PyTorch has to know of a workload."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An image classifier without dropout, its images standardised by channel."""

    dataset: str
    channels: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    kernel_size: int
    batch_size: int
    val_size: int
    split_seed: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Problem":
        workload, model = config["workload"], config["workload"]["model"]
        assert model["family"] in ("mlp", "cnn")
        assert model["dropout"] == 0
        assert workload["feature_scaling"] == "channel"
        return cls(
            channels=tuple(model.get("channels", ())),
            hidden_sizes=tuple(model["hidden_sizes"]),
            kernel_size=model.get("kernel_size", 3),
            **{key: workload[key] for key in ("dataset", "batch_size", "val_size", "split_seed")},
        )

    def epochs(self, size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
        """The batches of each epoch, ``[steps, B]``; its last one is filled up from its first."""
        generator = np.random.default_rng(seed)
        length = -(-size // self.batch_size)
        while steps > 0:
            order = generator.permutation(size).astype(np.int32)
            yield np.resize(order, (length, self.batch_size))[:steps]
            steps -= length
