"""The rows of one run's ``metrics.csv``, as compact as a checkpoint of a long run needs them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


class Rows:
    """Rows of numbers by name. There are few kinds, each with its names in their order."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, ...], int] = {}
        self.kind = array("q")  # of each row
        self.values = array("d")  # of all rows, one after another

    def __len__(self) -> int:
        return len(self.kind)

    def __iter__(self) -> Iterator[dict[str, float]]:
        kinds, start = list(self.kinds), 0
        for kind in self.kind:
            names = kinds[kind]
            end = start + len(names)
            yield dict(zip(names, self.values[start:end], strict=True))
            start = end

    def append(self, row: Mapping[str, float]) -> None:
        self.kind.append(self.kinds.setdefault(tuple(row), len(self.kinds)))
        self.values.extend(row.values())

    def state(self) -> dict[str, Any]:
        """Plain numbers, and tensors."""
        return {
            "kinds": [list(names) for names in self.kinds],
            "kind": torch.from_numpy(np.array(self.kind)),
            "values": torch.from_numpy(np.array(self.values)),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Rows:
        """From what `state` gave."""
        rows = cls()
        rows.kinds = {tuple(names): kind for kind, names in enumerate(state["kinds"])}
        rows.kind.extend(state["kind"].tolist())
        rows.values.extend(state["values"].tolist())
        return rows
