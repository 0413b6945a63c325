"""Many jobs on one machine: in parallel processes, with one progress display.

No torch at the top: the parent process plans and shows; its workers train.
"""

import multiprocessing
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

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
from bench.errors import BenchError
from bench.jobs import Job
from bench.records import Record
from bench.stacking import Strategy, tasks


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
        workers: processes; None for as many as the cores allow.
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
        fetch_data(missing)
        device, gpus = accelerator(missing[0])
        threads = threads or 1
        workers = workers or max(1, cores() // threads)
        plan = tasks(
            missing,
            strategy=strategy,
            device=device,
            workers=workers,
            max_stack=max_stack,
            say=lambda text: console.print(text, style="dim", highlight=False),
        )
        workers = min(workers, len(plan))
        console.print(
            f"{len(missing)} runs{kept}: {workers} process(es) of {threads} thread(s)", style="dim"
        )
        with _Display(console, len(missing)) as display:
            pool = _Pool(workers=workers, threads=threads, gpus=gpus, display=display)
            done |= pool.run(plan)
    else:
        console.print(f"nothing to run{kept}", style="dim")
    results = [done[job.directory] for job in jobs]
    _summarise(jobs, results, console)
    return results


def accelerator(job: Job) -> tuple[str, int]:
    """Where jobs will train, ``cpu`` or ``cuda``, and how many GPUs there are."""
    import torch

    wanted = job.config["trainer"]["accelerator"]
    gpus = torch.cuda.device_count() if wanted in ("auto", "gpu", "cuda") else 0
    return ("cuda" if gpus else "cpu"), gpus


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fetch_data(jobs: Sequence[Job]) -> None:
    """Fetches the data sets that the jobs need, once, before any process needs them."""
    from bench.data import load

    for name, place in {(j.config["workload"]["dataset"], j.config["data_dir"]) for j in jobs}:
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


class _Pool:
    """Processes that make runs. One that dies takes only its own task with it: the tasks that are
    left are run each in a pool of its own, and one that dies there too has failed."""

    def __init__(self, *, workers: int, threads: int, gpus: int, display: "_Display") -> None:
        self.workers = workers
        self.threads = threads
        self.gpus = gpus
        self.display = display
        self.done: dict[Path, Record] = {}

    def run(self, tasks: Sequence[list[Job]]) -> dict[Path, Record]:
        for task in self._attempt(tasks, self.workers):
            for lost in self._attempt([task], 1):
                self._add(lost, [single_job.fail(job, LOST) for job in lost])
        return self.done

    def _attempt(self, tasks: Sequence[list[Job]], workers: int) -> list[list[Job]]:
        """Runs tasks until all are done or a process dies; returns those that were not done."""
        context = multiprocessing.get_context("spawn")
        start = (self.threads, self.gpus, context.Value("i", 0))
        pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=start)
        try:
            futures = {pool.submit(_run_task, task): task for task in tasks}
            self._show_running(tasks, workers)
            for future in as_completed(futures):
                with suppress(BrokenProcessPool):
                    self._add(futures[future], future.result())
                    self._show_running(tasks, workers)
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return [task for task in tasks if task[0].directory not in self.done]

    def _show_running(self, tasks: Sequence[list[Job]], workers: int) -> None:
        """Tasks start in order, so those running are the first that are not done."""
        open_tasks = [task for task in tasks if task[0].directory not in self.done]
        self.display.show(running=sum(map(len, open_tasks[:workers])))

    def _add(self, task: Sequence[Job], made: Sequence[Record]) -> None:
        for job, record in zip(task, made, strict=True):
            self.done[job.directory] = record
            self.display.add(record)


LOST = "its process ended without a word (killed, or out of memory)"


def _start_worker(threads: int, gpus: int, started: Any) -> None:
    """Ends this process with its parent, and prepares it to train, each on the next GPU in turn."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if gpus > 1:
        with started.get_lock():
            os.environ["CUDA_VISIBLE_DEVICES"] = str(started.value % gpus)
            started.value += 1
    import torch

    torch.set_num_threads(threads)


def _run_task(task: list[Job]) -> list[Record]:
    if task[0].config["trainer"]["devices"] != 1:
        return [_run_on_several_devices(job) for job in task]
    quiet = [replace(job, config=without_progress_bar(job.config)) for job in task]
    try:
        return single_job.run(quiet)
    except Exception as error:  # one task that cannot be made does not stop the others
        return [single_job.fail(job, single_job.reason(error)) for job in task]


def _run_on_several_devices(job: Job) -> Record:
    """In a command of its own: Lightning starts the other processes by repeating the command."""
    quiet = ["hydra.mode=RUN", "trainer.enable_progress_bar=false"]
    command = [sys.executable, "-m", "bench", *job.overrides, *quiet]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    record = job.finished()
    if record is None:
        said = ended.stderr.strip().splitlines() or [LOST]
        return single_job.fail(job, said[-1].removeprefix("error: "))
    return record


def without_progress_bar(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"trainer": config["trainer"] | {"enable_progress_bar": False}}


class _Display:
    """Running, done, diverged, failed and the time left, on one line."""

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
        self.progress.advance(self.task)

    def show(self, *, running: int) -> None:
        self.counts["running"] = running
        counts = ", ".join(
            f"[{style}]{self.counts[status]} {status}[/]"
            for status, style in STYLES.items()
            if self.counts[status]
        )
        self.progress.update(self.task, counts=counts)


STYLES = {"running": "dim", "completed": "green", "diverged": "yellow", "failed": "red"}


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
