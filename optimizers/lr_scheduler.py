"""A schedule as a `torch.optim.lr_scheduler.LRScheduler`, for loops that want one."""

from __future__ import annotations

import torch

from .schedules import Schedule


class ScheduledLR(torch.optim.lr_scheduler.LRScheduler):
    """Multiplies the learning rate of each param_group by `schedule(step)`, in closed form."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, schedule: Schedule, last_epoch: int = -1
    ) -> None:
        self.schedule = schedule
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        return [lr * self.schedule(self.last_epoch) for lr in self.base_lrs]
