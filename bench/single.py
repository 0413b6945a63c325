"""One run from the shell, and what a person is told of it."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from bench import beside
from bench.errors import BenchError
from bench.metrics import Metric
from bench.processes import is_first
from bench.records import Record
from bench.report import text
from bench.runs import run_when_free
from bench.settings.jobs import Job
from bench.settings.schema import total_steps


def main(job: Job) -> Record | None:
    """Makes the run unless it is made already; prints what it is before anything heavy is loaded,
    and in the end what came of it.

    Returns:
        Its record; None in a process that is not the first of several, or that only plans.

    Raises:
        BenchError: the run cannot be made as configured, or failed.
    """
    alone = job.config["trainer"]["devices"] == 1
    if not alone and beside.hand_over(None):
        return None
    record = job.finished()
    announce(job, made=record is not None)
    if record is not None:
        return conclude(job, record)
    return None if beside.hand_over(job) else make(job)


def announce(job: Job, *, made: bool) -> None:
    if is_first(job.config["trainer"]):  # Lightning starts the others by this command
        _say(f"{'already made: ' if made else ''}{what(job.config)} -> {job.directory}", "dim")


def make(job: Job) -> Record | None:
    """The same of a run that is announced and not made."""
    made = run_when_free(job, say=lambda line: _say(line, "dim"))
    return conclude(job, made[0]) if made else None  # where another process writes


def conclude(job: Job, record: Record) -> Record:
    if record.status == "failed":
        raise BenchError(f"failed: {record.reason}; the traceback is in {job.directory}/run.log")
    Console().print(result(record), highlight=False, soft_wrap=True)
    if job.hydra["mode"] != "MULTIRUN":  # which says so once
        _say(f"curves:  tensorboard --logdir {Path(job.config['runs_dir'], job.config['study'])}")
    return record


def _say(line: str, style: str | None = None) -> None:
    Console().print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def what(config: dict[str, Any]) -> str:
    """``mnist_mlp, adam, lr 0.001, 5 epochs (2,150 steps), seed 0``"""
    optimizer, schedule = config["optimizer"], config["schedule"]["name"]
    said = [
        config["workload"]["name"],
        optimizer["name"],
        *([f"lr {text.number(optimizer['lr'])}"] if "lr" in optimizer else []),
        *([] if schedule == "constant" else [f"{schedule} schedule"]),
        length(config),
        f"seed {config['seed']}",
    ]
    return ", ".join(said)


def length(config: dict[str, Any]) -> str:
    """``5 epochs (2,150 steps)``; the steps alone where these are what ends the run."""
    epochs, steps = config["trainer"]["max_epochs"], total_steps(config)
    said = text.count(steps, "step")
    if epochs is None or config["trainer"]["max_steps"] == steps:
        return said
    return f"{text.count(epochs, 'epoch')} ({said})"


def result(record: Record) -> Text:
    """In a line: the metric, whatever else the workload measures beside the loss, the target, and
    the time it took."""
    metric = Metric(**record.metric)
    measured = {
        key: value
        for key, value in record.metrics.items()
        if value is not None and not key.startswith("curvature/")
    }
    of_it = [
        f"{word} {text.quantity(metric, text.value(metric, measured[key]))}"
        for split, word in (("val", f"validation {text.name(metric)}"), ("test", "test"))
        if (key := f"{split}/{metric.name}") in measured
    ]
    others = {
        name: f"{name.replace('_', ' ')} {text.number(value)}"
        for name, value in ((key.partition("/")[-1], value) for key, value in measured.items())
        if name not in (metric.name, "loss", *OF_STEPS)
    }
    seconds = record.timing.get("total_seconds") or 0.0
    took = f"{text.count(record.steps, 'step')} in {duration(seconds)}"
    reason = f" ({record.reason})" if record.reason else ""
    parts = [", ".join(of_it), *others.values(), target(record, metric), took]
    return Text.assemble(
        (f"{record.status}{reason}", "yellow" if reason else "bold"),
        f": {'; '.join(filter(None, parts))}",
    )


def duration(seconds: float) -> str:
    """With a space that can be searched for."""
    return text.seconds(seconds).replace(text.SPACE, " ")


OF_STEPS = ("grad_norm", "update_norm")  # of the last one that was logged


def target(record: Record, metric: Metric) -> str:
    value, step = record.target["value"], record.target["step"]
    if value is None:
        return ""
    said = "target " + text.quantity(metric, text.number(text.scale(metric) * value))
    if step is None:
        return f"{said} not reached"
    seconds = record.target["seconds"]
    after = "" if seconds is None else f" ({duration(seconds)} of training)"
    return f"{said} reached at step {step:,}{after}"
