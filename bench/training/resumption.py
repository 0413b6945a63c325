"""Training that goes on where a checkpoint was made, and gives what it would have given.

A checkpoint is made between two steps, or at the end. That of a run alone is Lightning's, with
the weights, the optimizer's and the callbacks' state; to it the module adds, under `KEY`, what only
it knows, the rows of ``metrics.csv`` among it. A stack has one of its own. What Lightning keeps of
its loops is not used: there an item of several steps counts as one, and a run that ended within an
epoch has ended the epoch. The place in the data follows from the steps taken, as every epoch's
order does.
"""

from __future__ import annotations

import logging
import os
import pickle
import random
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench import interruption
from bench.continuation import CHECKPOINT
from bench.errors import BenchError
from bench.interruption import Interrupted
from bench.training.rows import Rows
from bench.training.ways import Way

if TYPE_CHECKING:
    from bench.training.module import TrainingModule

KEY = "bench"
MEMBER = ("steps", "loss", "averaged", "diverged", "stopped", "best", "waited")
TRAINING = ("validated_at", "train_seconds", "evaluated", "resumed_at", "interruptions")

SHARE = 50  # evaluations are followed by a checkpoint after so many times as long as one takes
FIRST = 0.02  # seconds that the first one is taken to take

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """What there is to go on from.

    Attributes:
        path: the checkpoint.
        content: all of it; tensors are read when they are used.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def state(self) -> dict[str, Any]:
        """What the module added."""
        return self.content[KEY]

    @classmethod
    def read(cls, path: Path) -> Saved:
        """
        Raises:
            BenchError: it is not there, is damaged, or is no checkpoint of a whole training.
        """
        try:
            with zipfile.ZipFile(path) as file:
                damaged = file.testzip()  # PyTorch writes checksums, and looks at none
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            _ = content[KEY]
        except (RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            raise BenchError(f"{path} cannot be read as plain numbers") from error
        except (OSError, ValueError, TypeError) as error:
            raise BenchError(f"{path} cannot be read ({error})") from error
        except KeyError as error:
            raise BenchError(f"{path} holds only weights") from error
        if damaged is not None:
            raise BenchError(f"{path} is damaged ({damaged})")
        return cls(path, content)

    def replay(self, module: TrainingModule) -> None:
        """Makes its curves the start of those of a training with the same members."""
        for member, saved in zip(module.members, self.state["members"], strict=True):
            if member.recorder is not None:
                rows = Rows.of(saved["rows"])
                member.recorder.replay(rows, total_seconds=self.state["total_seconds"])


class Paused(BaseException):
    """The training has come to where it was to stop for now; as `Interrupted`, it is no error."""


class Checkpoints:
    """When a training is saved, and where.

    Args:
        path: the file; None for none.
        seconds: at least so often; None for not by time.
        until: the step after which it pauses, once it is validated; None for nowhere.

    Attributes:
        tell: is told of the step where training begins, and of that of each checkpoint.
    """

    def __init__(self, path: Path | None, seconds: float | None, until: int | None = None) -> None:
        self.path, self.seconds, self.until = path, seconds, until
        self.tell: Callable[[int], None] = lambda step: None
        self.cost = FIRST
        self.last = time.perf_counter()
        self.step: int | None = None  # of the last one, or where the training began

    def pass_by(self, module: TrainingModule) -> None:
        """A point where everything that was done can be saved, and training can end.

        Raises:
            Interrupted: it was asked to.
            Paused: it is where it was to pause.
        """
        step, asked = module.steps_done, interruption.asked()
        pauses = self.until is not None and module.validated_at == step >= self.until
        kept = self.path is not None
        try:
            if self.step is None:
                self.step = step
                self.tell(step)
            if kept and step > self.step and (asked is not None or pauses or self._due(module)):
                self.write(module)
        except BenchError as error:  # a disk that is full may have room later
            log.warning("%s", error)
            self.last, kept = time.perf_counter(), False
        if asked is not None:
            steps = module.plan.total_steps
            log.info("interrupted by %s at step %d of %d", Signals(asked).name, step, steps)
            raise Interrupted(asked, *((step, steps) if kept else ()))
        if pauses:
            log.info("pauses at step %d of %d", step, module.plan.total_steps)
            raise Paused

    def _due(self, module: TrainingModule) -> bool:
        since = time.perf_counter() - self.last
        by_time = self.seconds is not None and since >= self.seconds
        return by_time or (module.validated_at == module.steps_done and since > SHARE * self.cost)

    def write(self, module: TrainingModule) -> None:
        """
        Raises:
            BenchError: it cannot be written; the one before is still there.
        """
        assert self.path is not None
        began = time.perf_counter()
        write(module.checkpoint(), self.path)
        self.tell(module.steps_done)
        self.step, self.last = module.steps_done, time.perf_counter()
        self.cost = self.last - began


def copy(checkpoint: Path, directory: Path) -> None:
    """Gives one to another run, for which no step was left to do."""
    path = directory / CHECKPOINT
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(checkpoint, path)


def write(content: Mapping[str, Any], path: Path) -> None:
    """Beside its place, and then into it: a reader finds the whole file, or the one before.

    Raises:
        BenchError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # PyTorch makes the one into the other
        partial.unlink(missing_ok=True)
        said = error if isinstance(error, OSError) else error.__context__
        reason = said.strerror if isinstance(said, OSError) else " ".join(str(error).split())
        raise BenchError(f"{path}: cannot be written ({reason})") from error


def state(module: TrainingModule) -> dict[str, Any]:
    """What a training needs beside weights and optimizer; plain numbers, words and tensors, so that
    reading it executes nothing."""
    recorders = [member.recorder for member in module.members if member.recorder is not None]
    return {
        "runs": module.runs,
        "made": module.made,
        "environment": module.environment,
        "steps": module.steps_done,
        **{name: getattr(module, name) for name in TRAINING},
        "eval_seconds": module.evaluation.seconds,
        "total_seconds": max((recorder.seconds for recorder in recorders), default=0.0),
        "members": [
            {name: getattr(member, name) for name in MEMBER}
            | {
                "reason": member.recorder and member.recorder.reason,
                "rows": member.recorder and member.recorder.rows.state(),
                "way": member.way and member.way.points(),
            }
            for member in module.members
        ],
        "random": random_state(module.device),
    }


def adopt(module: TrainingModule, saved: Mapping[str, Any]) -> None:
    """Takes over what `state` gave, of this training or of a shorter one."""
    for member, own in zip(module.members, saved["members"], strict=True):
        for name in MEMBER:
            setattr(member, name, own[name])
        member.way = None if own["way"] is None else Way([own["way"].clone()])
        if member.diverged and member.recorder is not None:
            member.recorder.status, member.recorder.reason = "diverged", own["reason"]
    for name in TRAINING:
        setattr(module, name, saved[name])
    module.steps_done, module.evaluation.seconds = saved["steps"], saved["eval_seconds"]
    if is_of(module.runs, saved):
        module.interruptions += 1
    else:
        module.resumed_at, module.interruptions = saved["steps"], 0
    module.trainer.should_stop = all(member.over for member in module.members)
    module.resumed = saved["random"]


def is_of(runs: list[str], saved: Mapping[str, Any]) -> bool:
    """Whether it was saved by these very runs."""
    return bool(saved["runs"] == runs)


def random_state(device: torch.device) -> dict[str, Any]:
    """Of all generators that a workload, or a person's callback, may draw from."""
    name, key, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - others draw from it
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (name, key.tolist(), *rest),  # type: ignore[union-attr]
        "python": random.getstate(),
    }


def set_random_state(saved: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(saved["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(saved["cuda"], device)
    np.random.set_state(saved["numpy"])  # noqa: NPY002
    random.setstate(saved["python"])
