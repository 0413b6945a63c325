"""Many jobs on one machine: in parallel processes, with one progress display.

No torch at the top: the parent process plans and shows; its workers train.
"""

import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench import jobs as single_job
from bench import records
from bench.data import DATASETS
from bench.errors import BenchError
from bench.identity import record_fields
from bench.jobs import Job
from bench.records import Record


class SweepError(BenchError):
    """Some runs failed; the others were made."""


def run(jobs: Sequence[Job], *, workers: int | None, threads: int) -> list[Record]:
    """Makes the runs that are missing; those already made are kept.

    Args:
        workers: processes; None for as many as the cores allow.
        threads: threads of each process.

    Returns:
        The record of every job, in order.

    Raises:
        BenchError: a job cannot be made as configured; nothing was started.
        SweepError: some runs failed.
    """
    console = Console(stderr=True)
    _refuse_twins(jobs)
    done = {index: record for index, job in enumerate(jobs) if (record := job.finished())}
    missing = [index for index in range(len(jobs)) if index not in done]
    kept = f", {len(done)} already made" if done else ""
    if missing:
        _check_writable(jobs[missing[0]])
        fetch_data([jobs[index] for index in missing])
        workers = min(workers or max(1, cores() // threads), len(missing))
        console.print(
            f"{len(missing)} runs{kept}: {workers} at a time, {threads} thread(s) each", style="dim"
        )
        done |= _run_all(jobs, missing, workers=workers, threads=threads, console=console)
    else:
        console.print(f"nothing to run{kept}", style="dim")
    results = [done[index] for index in range(len(jobs))]
    _summarise(jobs, results, console)
    return results


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fetch_data(jobs: Sequence[Job]) -> None:
    """Fetches the data sets that the jobs need, once, before any process needs them."""
    from bench.data import load

    for name, place in {(j.config["workload"]["dataset"], j.config["data_dir"]) for j in jobs}:
        assert name in DATASETS
        load(name, None if place is None else Path(place))


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


def _run_all(
    jobs: Sequence[Job], missing: Sequence[int], *, workers: int, threads: int, console: Console
) -> dict[int, Record]:
    """Runs jobs in a pool of processes. A process that dies takes only its own run with it: the
    pool is made anew for the runs that are left, each of the lost ones alone."""
    done: dict[int, Record] = {}
    with _Display(console, len(missing)) as display:
        waiting = _run_pool(jobs, missing, workers, threads, done, display)
        for index in waiting:
            if _run_pool(jobs, [index], 1, threads, done, display):
                done[index] = _lost(jobs[index])
                display.add(done[index])
    return done


def _run_pool(
    jobs: Sequence[Job],
    indices: Sequence[int],
    workers: int,
    threads: int,
    done: dict[int, Record],
    display: "_Display",
) -> list[int]:
    """Runs jobs until all are done or a process dies; returns those that were not done."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(threads,))
    try:
        futures: dict[Future[Record], int] = {
            pool.submit(_run_job, jobs[index]): index for index in indices
        }
        for future in as_completed(futures):
            with suppress(BrokenProcessPool):
                done[futures[future]] = future.result()
                display.add(done[futures[future]])
        return [index for index in indices if index not in done]
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(threads: int) -> None:
    """Ends this process with its parent, and prepares it to train."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def _run_job(job: Job) -> Record:
    config = job.config | {"trainer": job.config["trainer"] | {"enable_progress_bar": False}}
    quiet = Job(config=config, hydra=job.hydra, overrides=job.overrides, directory=job.directory)
    try:
        record = single_job.run(quiet)
    except BenchError as error:
        return _failed(job, str(error))
    assert record is not None
    return record


def _lost(job: Job) -> Record:
    return _failed(job, "its process ended without a word (killed, or out of memory)")


def _failed(job: Job, reason: str) -> Record:
    record = records.failed(record_fields(job.config), reason)
    job.directory.mkdir(parents=True, exist_ok=True)
    records.write(record, job.directory)
    return record


class _Display:
    """Done, diverged, failed and the time left, on one line."""

    def __init__(self, console: Console, total: int) -> None:
        self.counts: Counter[str] = Counter()
        self.progress = Progress(
            TextColumn("runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.progress.add_task("runs", total=total, counts="")

    def __enter__(self) -> "_Display":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def add(self, record: Record) -> None:
        self.counts[record.status] += 1
        counts = ", ".join(
            f"[{STYLES[status]}]{self.counts[status]} {status}[/]"
            for status in records.STATUSES
            if self.counts[status]
        )
        self.progress.update(self.task, advance=1, counts=counts)


STYLES = {"completed": "green", "diverged": "yellow", "failed": "red"}


def _summarise(jobs: Sequence[Job], results: Sequence[Record], console: Console) -> None:
    """Names what failed and why, and says what to do next."""
    failed = [(j, r) for j, r in zip(jobs, results, strict=True) if r.status == "failed"]
    for job, record in failed[:10]:
        console.print(f"failed: {job.directory}: {record.reason}", style="red", markup=False)
    if len(failed) > 10:
        console.print(f"... and {len(failed) - 10} more", style="red")
    studies = sorted({str(Path(j.config["runs_dir"], j.config["study"])) for j in jobs})
    for study in studies:
        console.print(f"report:  python -m bench.report {study}", markup=False, highlight=False)
        console.print(f"curves:  tensorboard --logdir {study}", markup=False, highlight=False)
    if failed:
        raise SweepError(
            f"{len(failed)} of {len(results)} runs failed; the same command runs them again"
        )
