"""The times of one run, taken in the same places whoever trains."""

import sys
import time
from dataclasses import dataclass

WARM_UP = 50  # optimizer steps


@dataclass(frozen=True)
class Timing:
    """Seconds.

    Attributes:
        step: an optimizer step with all that happens between two of them (batches, logging,
            progress bar, checkpoints), validation and the first `WARM_UP` steps aside; None if
            there were no others.
        validation: a pass over the validation split.
        run: the whole run, from building the model to the last file, with its evaluation on test
            data; the data sets are in memory before.
        threads: what it computed with.
        compiled: of a first call, beside all this.
    """

    step: float | None
    validation: float
    run: float
    threads: int
    compiled: float = 0.0

    def epoch(self, steps: int) -> float:
        """An epoch of so many steps, and one validation."""
        assert self.step is not None
        return steps * self.step + self.validation


class Clock:
    """Is told what happens in a run that starts now."""

    def __init__(self) -> None:
        self.started = now()
        self.warm: tuple[float, int] | None = None
        self.step: float | None = None
        self.validations: list[float] = []

    def stepped(self, steps: int) -> None:
        """So many steps are done."""
        if self.warm is None and steps >= WARM_UP:
            self.warm = now(), steps

    def trained(self, steps: int) -> None:
        """All steps are done, and the validations that belong between them."""
        if self.warm is not None and steps > self.warm[1]:
            spent = now() - self.warm[0] - sum(self.validations)
            self.step = spent / (steps - self.warm[1])

    def validation_starts(self) -> None:
        self.validation_started = now()

    def validation_ends(self) -> None:
        self.validations.append(now() - self.validation_started)

    def stop(self) -> Timing:
        run = now() - self.started
        import torch

        mean = sum(self.validations) / len(self.validations)
        return Timing(self.step, mean, run, torch.get_num_threads())


def now() -> float:
    """Seconds, once everything that was asked of a GPU is done."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
