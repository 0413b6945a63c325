"""Training that goes on where a checkpoint was made, and gives what it would have given.

A checkpoint of Lightning's holds the weights, the optimizer's and the callbacks' state. To it the
module adds, under `KEY`, what only it knows. What Lightning keeps of its loops is not used: there
an item of several steps counts as one, and a run that ended within an epoch has ended the epoch.
The place in the data follows from the steps taken, as every epoch's order does.

The curves are those of ``metrics.csv`` up to the checkpoint.
"""

from __future__ import annotations

import csv
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.continuation import CHECKPOINT
from bench.errors import BenchError
from bench.training import lightning

if TYPE_CHECKING:
    from bench.training.module import TrainingModule
    from bench.training.recorder import Recorder

KEY = "bench"
MEMBER = ("steps", "loss", "averaged", "diverged", "stopped", "best", "waited")


@dataclass(frozen=True)
class Saved:
    """What a run left to go on from.

    Attributes:
        checkpoint: the file.
        state: what the module added to it.
        rows: of ``metrics.csv``, those written before it.
    """

    checkpoint: Path
    state: dict[str, Any]
    rows: list[dict[str, float]]

    @classmethod
    def read(cls, directory: Path) -> Saved:
        """
        Raises:
            BenchError: something is missing or damaged.
        """
        path = directory / CHECKPOINT
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[KEY]
            with open(directory / "metrics.csv", newline="") as file:
                rows = [
                    {name: float(value) for name, value in row.items() if value}
                    for row in csv.DictReader(file)
                    if row.get("seconds")  # the others are of a person's own callbacks
                ]
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise BenchError(f"{path} cannot be read as plain numbers") from error
        except (OSError, ValueError, TypeError) as error:
            raise BenchError(f"{directory} cannot be continued: {error}") from error
        except KeyError as error:
            raise BenchError(f"{path} holds only weights") from error
        if len(rows) < state["rows"]:
            raise BenchError(f"{directory}/metrics.csv has lost rows")
        return cls(path, state, rows[: state["rows"]])

    def replay(self, recorder: Recorder) -> None:
        """Makes its curves the start of another run's."""
        recorder.replay(self.rows, total_seconds=self.state["total_seconds"])

    def copy(self, directory: Path) -> None:
        """Gives the checkpoint to another run, for which no step was left to do."""
        path = directory / CHECKPOINT
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(self.checkpoint, path)


def state(module: TrainingModule) -> dict[str, Any]:
    """What a run that trains alone needs beside weights and optimizer; numbers and tensors only, so
    that reading it executes nothing."""
    (member,) = module.members
    recorder = member.recorder
    if recorder is not None:
        recorder.csv.save()
    return {
        "steps": module.steps_done,
        "member": {name: getattr(member, name) for name in MEMBER},
        "reason": recorder and recorder.reason,
        "rows": recorder and recorder.rows,
        "validated_at": module.validated_at,
        "train_seconds": module.train_seconds,
        "eval_seconds": module.evaluation.seconds,
        "total_seconds": recorder and recorder.seconds,
        "random": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(module.device)
            if module.device.type == "cuda"
            else None,
        },
    }


def adopt(module: TrainingModule, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Takes over what `state` gave, and from the checkpoint what Lightning is not to restore."""
    saved: dict[str, Any] = checkpoint[KEY]
    (member,) = module.members
    for name, value in saved["member"].items():
        setattr(member, name, value)
    if member.diverged and member.recorder is not None:
        member.recorder.status, member.recorder.reason = "diverged", saved["reason"]
    module.steps_done, module.validated_at = saved["steps"], saved["validated_at"]
    module.train_seconds, module.evaluation.seconds = saved["train_seconds"], saved["eval_seconds"]
    module.trainer.should_stop = member.over
    lightning.leave_to_us(module.trainer, checkpoint)
    return saved


def set_random_state(saved: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(saved["random"]["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(saved["random"]["cuda"], device)
