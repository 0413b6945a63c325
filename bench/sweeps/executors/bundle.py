"""A Slurm job: ``python -m bench.sweeps.executors.bundle BATCH`` does the tasks of that job of the
array in which it stands, one after the other.

Slurm asks it to end shortly before its time is over, and when it is preempted, requeued or
cancelled: the run in hand leaves its checkpoint. A job whose time is over puts itself into the
queue again; what becomes of the others is Slurm's to say. Started again, it goes on.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench import interruption
from bench.interruption import Interrupted
from bench.runs import Unwritable
from bench.sweeps import making
from bench.sweeps.executors.batches import Batch, State

TIME_IS_OVER = signal.SIGUSR1
TELLS_EVERY = 2.0  # seconds
MOST_FRUITLESS = 3
TOO_SHORT = (
    "comes no further within the time of a job; give it more: hydra.launcher.time=..., or "
    "checkpoints more often"
)


def do(batch: Batch, number: int) -> int:
    """
    Returns:
        The status with which the process ends.
    """
    state = batch.state(number)
    tasks = batch.tasks(number)
    while state.done < len(tasks):
        task = tasks[state.done]
        told = Told(batch, number, state)
        try:
            if (asked := interruption.asked()) is not None:
                raise Interrupted(asked)
            outcome = making.make(task, told)
        except Unwritable as error:
            state.full = str(error)
            batch.tell(number, state)
            return 1
        except Interrupted as ended:
            if ended.signal == TIME_IS_OVER:
                told.count_if_fruitless()
                if state.fruitless == MOST_FRUITLESS:
                    state.end_task(making.fail(task, TOO_SHORT))
            batch.tell(number, state)
            if ended.signal == TIME_IS_OVER:
                requeue()
            return ended.status
        state.end_task(outcome)
        batch.tell(number, state)
    state.over = True
    batch.tell(number, state)
    return 0


class Told:
    """Writes down what a task tells of itself, now and then."""

    def __init__(self, batch: Batch, number: int, state: State) -> None:
        self.batch, self.number, self.state = batch, number, state
        self.first: int | None = None
        self.written = 0.0

    def __call__(self, steps: int, diverged: int) -> None:
        self.state.steps, self.state.diverged = steps, diverged
        if self.first is None:
            self.first = steps
        if time.monotonic() >= self.written + TELLS_EVERY:
            self.batch.tell(self.number, self.state)
            self.written = time.monotonic()

    def count_if_fruitless(self) -> None:
        """It was, if what it went on from is no further than the time before."""
        if self.first is not None and self.first > self.state.began:
            self.state.began, self.state.fruitless = self.first, 0
        else:
            self.state.fruitless += 1


def requeue() -> None:
    """What Slurm has against it stands in the log."""
    subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)


def note(number: int, _: object) -> None:
    """However often: Slurm ends who does not."""
    interruption.ask(number)


def main() -> int:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return do(Batch(Path(sys.argv[1])), int(os.environ["SLURM_ARRAY_TASK_ID"]))


if __name__ == "__main__":
    for asked_by in (TIME_IS_OVER, signal.SIGTERM):
        signal.signal(asked_by, note)
    sys.exit(main())
