"""When the curvature of a run is measured along its training. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.settings.schema import evaluation_steps, steps_per_epoch, total_steps


def curvature_steps(config: Mapping[str, Any]) -> list[int]:
    """The optimizer steps after which it is, as ``trainer.curvature`` has it: so many of those
    after which a run is validated, spread evenly over them, and its last step. Empty by default."""
    trainer = config["trainer"]
    wanted = trainer.get("curvature")
    if not wanted:
        return []
    total = total_steps(config)
    known = evaluation_steps(config)
    if known is None:
        epoch = steps_per_epoch(config)
        every = trainer["val_check_interval"] or epoch
        within = epoch // every  # of an epoch
        count = total // epoch * within + total % epoch // every
        chosen = [n // within * epoch + (n % within + 1) * every for n in _spread(count, wanted)]
    else:
        chosen = [known[n] for n in _spread(len(known), wanted)]
    return sorted({*chosen[: wanted - 1], total} if total not in chosen else chosen)


def _spread(count: int, wanted: int) -> list[int]:
    """So many of the numbers below ``count``, the last among them."""
    if wanted == 1:
        return [count - 1] if count else []
    return sorted(set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist()))
