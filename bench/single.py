"""One run from the shell, and what a person is told of it."""

from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.errors import BenchError
from bench.records import Record
from bench.settings.jobs import Job, run


def main(job: Job) -> Record | None:
    """Makes the run unless it is made already, and prints what came of it.

    Returns:
        Its record; None in a process that is not the first of several.

    Raises:
        BenchError: the run cannot be made as configured, or failed.
    """
    console = Console()
    record = job.finished()
    if record is not None:
        console.print(f"already made: {job.directory}", style="dim", markup=False)
    else:
        say = partial(console.print, style="dim", markup=False, highlight=False, soft_wrap=True)
        made = run([job], say=say)
        if not made:  # another process writes
            return None
        (record,) = made
    if record.status == "failed":
        raise BenchError(f"failed: {record.reason}; the traceback is in {job.directory}/run.log")
    console.print(summary(record))
    study = Path(job.config["runs_dir"], job.config["study"])
    for line in (f"run:     {job.directory}", f"curves:  tensorboard --logdir {study}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return record


OF_STEPS = {"train/loss", "train/grad_norm", "train/update_norm"}  # of the last one that was logged


def summary(record: Record) -> Table:
    """Final metrics, the target, and the time it took."""
    table = Table(
        title=Text(f"{record.workload}, {record.optimizer}: {record.status}"), show_header=False
    )
    if record.reason:
        table.add_row("reason", Text(record.reason))
    for name, value in record.metrics.items():
        if value is not None and name not in OF_STEPS:
            fixed = value == 0 or 1e-3 <= abs(value) < 1000
            table.add_row(Text(name), f"{value:.4f}" if fixed else f"{value:.6g}")
    target = record.target
    if target["value"] is not None:
        reached = (
            "not reached"
            if target["step"] is None
            else f"reached at step {target['step']}, after {target['seconds']:.1f} s of training"
        )
        within = "≥" if record.metric["higher_is_better"] else "≤"
        table.add_row(Text(f"{target['metric']} {within} {target['value']}"), reached)
    table.add_row("steps, epochs", f"{record.steps}, {record.epochs:g}")
    seconds = {key: record.timing[f"{key}_seconds"] or 0.0 for key in ("train", "eval", "total")}
    table.add_row("seconds", ", ".join(f"{key} {value:.1f}" for key, value in seconds.items()))
    return table
