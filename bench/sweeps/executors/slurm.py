"""Jobs of a Slurm cluster, submitted by submitit, as arrays.

The machine of this command and the nodes share a file system, and nothing else: what a job is to
do, how far it is and what came of it are files (`batches`), so that this command may end, however
it does, and be started again while its jobs go on. Jobs are found by their names, and whether one
is still to come or at it is asked of ``squeue`` alone, since not every cluster keeps accounts.

No torch at the top: this process plans and shows.
"""

import functools
import io
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from bench.errors import BenchError
from bench.report import text
from bench.runs import Unwritable
from bench.settings.jobs import Job
from bench.settings.schema import total_steps
from bench.settings.workloads import workload_of
from bench.single import duration
from bench.sweeps import making
from bench.sweeps.display import Running
from bench.sweeps.executors import Outcome, Place, Task
from bench.sweeps.executors.batches import FOLDER, Batch, State, of_study
from bench.sweeps.executors.local import LocalExecutor

T = TypeVar("T")
Queue = Mapping[tuple[str, int], "Entry"]

A_JOB = 300.0  # seconds that a job is to last at least, where there is enough to do
GPU_GAIN = 10  # how much faster than on a processor a step is taken to be there
GPU_MEMORY = "16GB"  # that every GPU of a cluster has
MOST_JOBS = 1000  # of an array: Slurm allows 1001 unless it is told otherwise
NOTICE = 120  # seconds before the end of a job's time; Slurm may be a minute early
SHOWN_EVERY = 0.5  # seconds
LEAST_PAUSE, MOST_PAUSE = 0.5, 15.0  # seconds between two looks at the queue
LAG = 5.0  # seconds that a shared file system may show what was
YOUNG = 60.0  # seconds for which a batch may be on its way to Slurm
OURS = ("array", "chdir", "job-name", "output", "requeue", "signal")  # parameters of sbatch
ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
)
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Wanted:
    """What each job asks of Slurm, as the launcher's keys say it."""

    partition: str | None
    time: str
    cpus: int | None
    gpus: int | None
    memory: str | None
    setup: Sequence[str]
    extra: Mapping[str, Any]

    @functools.cached_property
    def seconds(self) -> int:
        return seconds(self.time)

    def check(self) -> None:
        """
        Raises:
            BenchError: a value is not understood, or not a person's to choose.
        """
        _ = self.seconds, self.memory and size("memory", self.memory)
        taken = [key for key in self.extra if key.replace("_", "-") in OURS]
        if taken:
            raise BenchError(f"hydra.launcher.extra.{taken[0]}: is chosen by the launcher")


@dataclass(frozen=True)
class Entry:
    """A job in Slurm's eyes."""

    array: str  # its number
    state: str


@dataclass
class Watched:
    """A job that makes runs of this sweep.

    Attributes:
        tasks: what of each of its tasks is for this sweep.
        told: the tasks of which is known that they have ended.
        seen: when Slurm knew it last.
    """

    batch: Batch
    number: int
    tasks: Sequence[Task]
    told: int = 0
    seen: float = field(default_factory=time.monotonic)
    entry: Entry | None = None

    def look(self, queue: Queue) -> None:
        found = queue.get((self.batch.name, self.number))
        self.entry = found or self.entry
        if found is not None and found.state not in ENDED:
            self.seen = time.monotonic()

    @property
    def is_waiting(self) -> bool:
        return self.entry is None or self.entry.state == "PENDING"

    @property
    def is_running(self) -> bool:
        return self.entry is not None and self.entry.state == "RUNNING"

    @property
    def is_gone(self) -> bool:
        """Also from where its files may be shown late."""
        return time.monotonic() > self.seen + LAG

    def news(self, state: State) -> Iterable[tuple[Task, Outcome]]:
        """The tasks that have ended since."""
        for number in range(self.told, state.done):
            if self.tasks[number]:
                yield self.tasks[number], state.outcome(number)
        self.told = max(self.told, state.done)

    def why(self) -> str:
        """It is lost: the last that it said, else what Slurm knows."""
        log = self.batch.log(self.number)
        said = log.read_text(errors="replace").split("\n") if log.is_file() else []
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        name = f"job {self.entry.array}_{self.number}" if self.entry else "its job"
        state = self.entry.state if self.entry and self.entry.state in ENDED else ""
        known = ", ".join(filter(None, (name, state)))
        return f"{last.removeprefix('error: ')} ({known})" if last else f"{making.LOST} ({known})"


class SlurmExecutor:
    """
    Args:
        n_jobs: the most jobs at a time; None for as many as the cluster gives.
        bundle: tasks of a job; None for so many that it lasts some minutes.
        threads: threads of each job; None for one, as for local processes.
        gpu_memory: of the smallest GPU that a job may get; None for `GPU_MEMORY`.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        n_jobs: int | None,
        bundle: int | None,
        threads: int | None,
        gpu_memory: str | None,
    ) -> None:
        wanted.check()
        self.wanted = wanted
        self.n_jobs = n_jobs
        self.bundle = bundle
        self.threads = threads or 1
        self.gpu_memory = size("gpu_memory", gpu_memory or GPU_MEMORY)
        self.here = LocalExecutor(workers=1, threads=self.threads)
        self.console = Console(stderr=True)
        self.looked, self.pause = 0.0, LEAST_PAUSE
        self._seconds_a_step = functools.cache(self._measure)

    def begin(self) -> None:
        if find_spec("submitit") is None:
            raise BenchError(
                "hydra/launcher=slurm: needs submitit: pip install 'optimizer-bench[slurm]'"
            )
        if absent := [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]:
            raise BenchError(
                f"hydra/launcher=slurm: there is no {absent[0]} here; start it where jobs are "
                "submitted, such as a login node"
            )
        self.here.begin()

    def ask(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """On this machine: a job could wait for hours."""
        return self.here.ask(function, *arguments, **options)

    def place(self, job: Job) -> Place:
        accelerator = job.config["trainer"]["accelerator"]
        on_gpu = bool(self.wanted.gpus) and accelerator in ("auto", "gpu", "cuda")
        if accelerator in ("gpu", "cuda") and not on_gpu:
            raise BenchError(
                f"trainer.accelerator={accelerator}: say how many of them a job gets: "
                "hydra.launcher.gpus=1"
            )
        memory = self.wanted.memory and size("memory", self.wanted.memory)
        what = f"at a time, in Slurm jobs of {text.count(self.threads, 'thread')}"
        return Place(
            "cuda" if on_gpu else "cpu",
            self.n_jobs,
            (f"task {what}", f"tasks {what}"),
            self.gpu_memory if on_gpu else memory or None,
        )

    def run(
        self,
        tasks: Sequence[Task],
        *,
        workers: int,
        ended: Callable[[Task, Outcome], None],
        show: Callable[[Iterable[Running]], None],
    ) -> None:
        """As `Executor.run`, but for an exception, which leaves the jobs at what they do."""
        tried: set[Path] = set()  # runs that were lost once
        watched: list[Watched] = []
        try:
            watched, left = self._found(tasks, ended)
            watched += self._submit(left)
            self.here.dismiss()
            began = time.monotonic()
            while watched:
                self._look(watched, time.monotonic() - began)
                lost: list[tuple[Task, str]] = []
                running = []
                for job in list(watched):
                    if job.is_waiting and not job.is_gone:
                        continue
                    state = job.batch.state(job.number)
                    for task, outcome in job.news(state):
                        ended(task, outcome)
                    if state.full is not None:
                        raise Unwritable(state.full)
                    if state.over or job.is_gone:
                        watched.remove(job)
                        lost += self._left_by(job, ended)
                    elif job.is_running and job.tasks[state.done]:
                        running.append(Running(job.tasks[state.done], state.steps, state.diverged))
                again = []
                for task, why in lost:
                    if task[0].directory in tried:
                        ended(task, making.fail(task, why))
                    else:
                        tried |= {run.directory for run in task}
                        again.append(task)
                if again:
                    watched += self._submit(again)
                show(running)
                if watched:
                    time.sleep(SHOWN_EVERY)
            show([])
        except BaseException:
            if watched:
                arrays = sorted({job.entry.array for job in watched if job.entry is not None})
                ends = f"; scancel {' '.join(arrays)} ends them" if arrays else ""
                self.say(
                    f"{text.count(len(watched), 'Slurm job')} not ended yet: they go on, and the "
                    f"same command watches them again{ends}"
                )
            raise

    def say(self, line: str) -> None:
        """Above what else is shown."""
        self.console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)

    def _found(
        self, tasks: Sequence[Task], ended: Callable[[Task, Outcome], None]
    ) -> tuple[list[Watched], list[Task]]:
        """The jobs of earlier commands that make some of the runs, and the rest of the tasks."""
        runs = {os.path.abspath(job.directory): job for task in tasks for job in task}
        batches = [b for study in {study_of(task) for task in tasks} for b in of_study(study)]
        queue = look(batches)
        watched: list[Watched] = []
        for batch in batches:
            is_young = time.time() < batch.directory.stat().st_mtime + YOUNG
            for number, places in batch.runs():
                entry, state = queue.get((batch.name, number)), batch.state(number)
                is_ended = not is_young if entry is None else entry.state in ENDED
                if state.over or is_ended:
                    batch.remove(number)
                    continue
                parts = [[runs[at] for at in task if at in runs] for task in places]
                if any(parts[state.done :]):
                    watched.append(Watched(batch, number, parts, state.done, entry=entry))
                    for job in chain.from_iterable(parts[state.done :]):
                        del runs[os.path.abspath(job.directory)]
        if watched:
            self.say(f"{text.count(len(watched), 'Slurm job')} from before still to end")
        left: list[Task] = []
        for task in tasks:
            rest = [job for job in task if os.path.abspath(job.directory) in runs]
            if batches and rest and all(job.finished() is not None for job in rest):
                ended(rest, {})  # while this command was planning
            elif rest:
                left.append(rest)
        return watched, left

    def _look(self, watched: Sequence[Watched], elapsed: float) -> None:
        """At the queue, now and then: the more seldom, the longer it lasts."""
        if time.monotonic() < self.looked + self.pause:
            return
        try:
            queue = look({job.batch.name: job.batch for job in watched}.values())
        except BenchError as error:  # Slurm is restarted, or has too much to do
            self.say(f"{error}; asking again")
            for job in watched:
                job.seen = time.monotonic()
        else:
            for job in watched:
                job.look(queue)
        self.looked = time.monotonic()
        self.pause = min(MOST_PAUSE, max(LEAST_PAUSE, elapsed / 20))

    def _left_by(
        self, job: Watched, ended: Callable[[Task, Outcome], None]
    ) -> Iterable[tuple[Task, str]]:
        """What a job that is over or gone has not done, and why."""
        lost = []
        for task in filter(None, job.tasks[job.told :]):
            if all(run.finished() is not None for run in task):
                ended(task, {})
            else:
                lost.append((task, job.why()))
        job.batch.remove(job.number)
        return lost

    def _submit(self, tasks: Sequence[Task]) -> list[Watched]:
        """
        Raises:
            BenchError: Slurm does not take them.
        """
        watched = []
        for study in sorted({study_of(task) for task in tasks}):
            own = [task for task in tasks if study_of(task) == study]
            bundles, lasting = self._bundled(own)
            for first in range(0, len(bundles), MOST_JOBS):
                part = bundles[first : first + MOST_JOBS]
                readable = re.sub(r"[^A-Za-z0-9.-]", "-", study.name)[:40]
                batch = Batch(study / FOLDER / f"{readable}-{secrets.token_hex(4)}")
                try:
                    batch.write(part)
                    array = submit(batch, len(part), self)
                except BaseException:
                    batch.remove_all()
                    raise
                jobs = text.count(len(part), "Slurm job")
                self.say(f"{jobs}{lasting} submitted as {array}")
                watched += [
                    Watched(batch, number, done, entry=Entry(array, "PENDING"))
                    for number, done in enumerate(part)
                ]
        return watched

    def _bundled(self, tasks: Sequence[Task]) -> tuple[list[Sequence[Task]], str]:
        """The tasks of each job, and how long one will last, in words."""
        if self.bundle is not None or len(tasks) == 1:
            most = self.bundle or 1
            return [tasks[n : n + most] for n in range(0, len(tasks), most)], ""
        lasts = [self._estimate(task) for task in tasks]
        whole = sum(lasts)
        target = min(A_JOB, self.wanted.seconds / 2)
        jobs = max(1, min(len(tasks), int(whole / target)))
        bundles: list[list[Task]] = [[]]
        done = 0.0
        for task, seconds in zip(tasks, lasts, strict=True):
            if done >= whole * len(bundles) / jobs and bundles[-1]:
                bundles.append([])
            bundles[-1].append(task)
            done += seconds
        return list(bundles), f" of about {duration(whole / len(bundles))} each by steps timed here"

    def _estimate(self, task: Task) -> float:
        """Seconds, of training alone. The runs of a stack are counted as if each were alone."""
        workload = json.dumps(task[0].config["workload"], sort_keys=True)
        if workload not in self._configs:
            self._configs[workload] = task[0].config
        step = self._seconds_a_step(workload)
        gain = GPU_GAIN if self.wanted.gpus else 1
        return len(task) * total_steps(task[0].config) * step / gain

    @functools.cached_property
    def _configs(self) -> dict[str, Mapping[str, Any]]:
        return {}

    def _measure(self, workload: str) -> float:
        return self.ask(seconds_a_step, self._configs[workload], self.threads)


def study_of(task: Task) -> Path:
    return Path(task[0].config["runs_dir"], task[0].config["study"])


def seconds(said: str) -> int:
    """Of a time as Slurm writes it: minutes, ``HH:MM:SS`` or ``D-HH:MM:SS``.

    Raises:
        BenchError: it is none.
    """
    if re.fullmatch(r"[0-9]+", said) and int(said) > 0:
        return 60 * int(said)
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", said)
    days, *parts = [int(part or 0) for part in found.groups()] if found else [0, 0, 0, 0]
    whole = 86400 * days + 3600 * parts[0] + 60 * parts[1] + parts[2]
    if whole < 60:
        raise BenchError(
            f"hydra.launcher.time={said}: must be minutes, HH:MM:SS or D-HH:MM:SS, from a minute on"
        )
    return whole


def size(key: str, said: str) -> int:
    """Bytes.

    Raises:
        BenchError: it is no size.
    """
    found = re.fullmatch(r"([0-9]+)([KMGT])B?", said)
    if found is None or not int(found[1]):
        raise BenchError(f"hydra.launcher.{key}={said}: must be a size, such as 500MB or 4GB")
    return int(found[1]) * UNITS[found[2]]


def seconds_a_step(config: Mapping[str, Any], threads: int) -> float:
    """Roughly: the way there and back for one batch, on this machine's processor."""
    import torch

    from bench.workloads.models import drawn, first, on_cpu

    torch.set_num_threads(threads)
    workload = on_cpu(workload_of(config))
    model = drawn(workload, config["seed"])
    whole = workload.train_size
    examples = whole if workload.batch_size == "full" else min(whole, int(workload.batch_size))
    took = []
    for _ in range(3):  # the first makes what the others find
        began = time.perf_counter()
        output = first(workload, model, examples)
        workload.objective(output, workload.batch(slice(0, examples))).backward()
        took.append(time.perf_counter() - began)
    return min(took)


def submit(batch: Batch, jobs: int, executor: SlurmExecutor) -> str:
    """Submits an array that does a batch; returns its number.

    What is used of submitit beside its parameters is how it makes an array and submits a command:
    its own way to submit leaves pickles, which the jobs would load.

    Raises:
        BenchError: Slurm does not take it.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    own = submitter(batch, jobs, executor)
    command = [sys.executable, "-u", "-m", "bench.sweeps.executors.bundle"]
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            made = own._submit_command(f"exec {shlex.join([*command, str(batch.directory)])}")
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        lines = str(error).strip().splitlines() or ["sbatch: failed"]
        raise BenchError(f"hydra/launcher=slurm: {lines[0]}") from error
    return str(made.job_id)


def submitter(batch: Batch, jobs: int, executor: SlurmExecutor) -> Any:
    """submitit's executor, set to what is wanted."""
    from submitit import SlurmExecutor as Submitter

    wanted = executor.wanted
    variables = {
        "OMP_NUM_THREADS": str(executor.threads),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        "PYTHONSAFEPATH": "1",
    }
    notice = min(NOTICE, wanted.seconds // 2)
    own = {
        "chdir": str(Path.cwd()),
        "output": f"{batch.directory.absolute()}/%a.log",
        "requeue": True,
        "signal": f"B:USR1@{notice}",  # to the command itself, which takes the place of its shell
    }
    made = Submitter(batch.directory)
    made.update_parameters(
        job_name=batch.name,
        partition=wanted.partition,
        time=wanted.time,
        cpus_per_task=wanted.cpus or executor.threads,
        gpus_per_node=wanted.gpus or None,
        mem=wanted.memory,
        array_parallelism=executor.n_jobs or jobs,
        setup=[*wanted.setup, *(f"export {k}={shlex.quote(v)}" for k, v in variables.items())],
        additional_parameters={**wanted.extra, **own},
        stderr_to_stdout=True,
        use_srun=False,
    )
    made.parameters["map_count"] = jobs
    return made


def look(batches: Iterable[Batch]) -> Queue:
    """What Slurm knows of their jobs, those that have just ended, too.

    Raises:
        BenchError: it does not answer.
    """
    names = [batch.name for batch in batches]
    if not names:
        return {}
    command = [
        "squeue", f"--user={os.getuid()}", f"--name={','.join(names)}", "--array", "--noheader",
        "--states=all", "--format=%F %K %T %j",
    ]  # fmt: skip
    try:
        made = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise BenchError("squeue: does not answer") from error
    if made.returncode:
        lines = made.stderr.strip().splitlines() or ["failed"]
        raise BenchError(f"squeue: {lines[-1].removeprefix('squeue: ')}")
    found = {}
    for line in made.stdout.splitlines():
        array, number, state, name = line.split(maxsplit=3)
        if number.isdigit():
            found[name.strip(), int(number)] = Entry(array, state)
    return found
