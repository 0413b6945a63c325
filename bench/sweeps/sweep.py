"""Many jobs on one machine: in parallel processes, with one progress display.

No torch at the top: the parent process plans and shows; its workers train.
"""

import functools
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from bench import continuation, provenance
from bench.board import by_short_names
from bench.board.live import following
from bench.errors import BenchError
from bench.records import Record
from bench.settings.jobs import Job
from bench.settings.schema import as_yaml
from bench.settings.workloads import workload_of
from bench.sweeps.display import Display
from bench.sweeps.stacking import Strategy, most_that_fit, own_refusal, tasks
from bench.sweeps.workers import Pool, ask, start_importing


class SweepError(BenchError):
    """Some runs failed; the others were made."""


def run(
    jobs: Sequence[Job],
    *,
    strategy: Strategy,
    workers: int | None,
    threads: int | None,
    max_stack: int | None = None,
) -> list[Record]:
    """Makes the runs that are missing; those already made are kept.

    Args:
        strategy: whether runs that differ only in numbers train as stacks.
        workers: processes; None for one on each GPU, without GPUs for as many as the cores allow.
        threads: threads of each process; None for one, so that a run that is made later, when few
            are missing, equals to the last bit what it would have been.
        max_stack: the most runs of a stack; None for as many as memory holds.

    Returns:
        The record of every job, in order.

    Raises:
        BenchError: a job cannot be made as configured; nothing was started.
        SweepError: some runs failed.
    """
    console = Console(stderr=True)
    _refuse_twins(jobs)
    done = {job.directory: record for job in jobs if (record := job.finished())}
    missing = [job for job in jobs if job.directory not in done]
    kept = f", {len(done)} already made" if done else ""
    if missing:
        _check_writable(missing[0])
        threads = threads or 1
        start_importing(threads)
        try_extensions(missing)
        fetch_data(missing)
        device, gpus = accelerator(missing[0])
        workers = workers or gpus or max(1, cores() // threads)
        kinds = {as_yaml([j.config["workload"], j.config["trainer"]]): j.config for j in missing}
        ask(_refuse_what_cannot_fit, list(kinds.values()), device)
        say = partial(console.print, style="dim", markup=False, highlight=False, soft_wrap=True)
        fresh: list[Job] = []
        going_on: list[Job] = []
        for job in missing:
            (going_on if _goes_on(job, device) else fresh).append(job)
        if going_on:
            say(f"{len(going_on)} run(s) go on from shorter ones, each alone")
        plan = tasks(
            fresh,
            strategy=strategy,
            device=device,
            workers=workers,
            max_stack=max_stack,
            capacity=partial(ask, most_that_fit),
            refusal_of_workload=partial(ask, own_refusal),
            say=say,
        )
        plan += [[job] for job in going_on]
        workers = min(workers, len(plan))
        console.print(
            f"{len(missing)} runs{kept}: {workers} process(es) of {threads} thread(s)", style="dim"
        )
        with Display(console, missing) as display, following(_studies(missing)):
            pool = Pool(workers=workers, threads=threads, gpus=gpus, display=display)
            done |= pool.run(plan)
    else:
        console.print(f"nothing to run{kept}", style="dim")
    results = [done[job.directory] for job in jobs]
    _summarise(jobs, results, console)
    return results


def accelerator(job: Job) -> tuple[str, int]:
    """Where jobs will train, ``cpu`` or ``cuda``, and how many GPUs there are."""
    wanted = job.config["trainer"]["accelerator"]
    gpus = ask(_count_gpus) if wanted in ("auto", "gpu", "cuda") else 0
    return ("cuda" if gpus else "cpu"), gpus


def _goes_on(job: Job, device: str) -> bool:
    """Whether the run, which would train in a stack otherwise, starts where another one ended."""
    if not job.config["trainer"]["resume"]:
        return False
    about = _environment_of_workers(device) | provenance.inputs(job.config)
    return continuation.find(job.config, job.directory, about).directory is not None


@functools.cache
def _environment_of_workers(device: str) -> dict[str, Any]:
    return ask(_environment, device)


def _environment(device: str) -> dict[str, Any]:
    import torch

    from bench.training.environment import environment

    return environment(torch.device(device))


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _refuse_what_cannot_fit(configs: Sequence[Mapping[str, Any]], device: str) -> None:
    from bench.training.memory import refuse_what_cannot_fit

    for config in configs:
        refuse_what_cannot_fit(config, device)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fetch_data(jobs: Sequence[Job]) -> None:
    """Fetches the data sets that the jobs need, once, before any process needs them."""
    for workload in {workload_of(job.config) for job in jobs}:
        workload.fetch()


def try_extensions(jobs: Sequence[Job]) -> None:
    """Refuses callbacks and loggers that cannot be made, before any run has failed for them."""
    keys = ("callbacks", "loggers")
    for given in {json.dumps([j.config["trainer"][key] for key in keys]) for j in jobs}:
        options = dict(zip(keys, json.loads(given), strict=True))
        if any(options.values()):
            ask(_make_extensions, options)


def _make_extensions(options: Mapping[str, Any]) -> None:
    from bench.training import extensions

    with TemporaryDirectory() as directory:
        extensions.callbacks(options)
        extensions.loggers(options, Path(directory))


def _refuse_twins(jobs: Sequence[Job]) -> None:
    twice = [place for place, n in Counter(job.directory for job in jobs).items() if n > 1]
    if twice:
        raise BenchError(f"{twice[0]}: several runs of this sweep have the same configuration")


def _check_writable(job: Job) -> None:
    place = next(path for path in job.directory.parents if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise BenchError(
            f"runs_dir={job.config['runs_dir']}: {place} cannot be written to; "
            "choose another place with runs_dir=..."
        )


def _studies(jobs: Sequence[Job]) -> list[Path]:
    return sorted({Path(job.config["runs_dir"], job.config["study"]) for job in jobs})


def _summarise(jobs: Sequence[Job], results: Sequence[Record], console: Console) -> None:
    """Names what failed and why, and says what to do next."""
    failed = [(j, r) for j, r in zip(jobs, results, strict=True) if r.status == "failed"]
    for job, record in failed[:10]:
        console.print(f"failed: {job.directory}: {record.reason}", style="red", markup=False)
    if len(failed) > 10:
        console.print(f"... and {len(failed) - 10} more", style="red")
    for study in _studies(jobs):
        console.print(f"report:  python -m bench.report {study}", markup=False, highlight=False)
        place = by_short_names(study)
        shown = place if place.is_dir() else study
        console.print(f"curves:  tensorboard --logdir {shown}", markup=False, highlight=False)
    if failed:
        raise SweepError(
            f"{len(failed)} of {len(results)} runs failed; the same command runs them again"
        )
