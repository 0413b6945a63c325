"""Many jobs: planned as tasks, done by an executor, with one progress display.

No torch at the top: the parent process plans and shows; others train.
"""

import functools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.text import Text

from bench import continuation, interruption, provenance
from bench.board.live import following
from bench.errors import BenchError
from bench.holding import Taken, is_free
from bench.records import Record
from bench.report import text
from bench.runs import failed
from bench.settings.jobs import Job
from bench.settings.workloads import workload_of
from bench.single import duration
from bench.sweeps import outcome
from bench.sweeps.display import Display, Running, what
from bench.sweeps.executors import Executor, Outcome, Place, Task
from bench.sweeps.executors.local import LocalExecutor
from bench.sweeps.making import LOST
from bench.sweeps.stacking import Strategy, most_that_fit, own_refusal, tasks

MOST_FAILURES = 10  # that are named
WAIT = 0.5  # seconds, between two looks at what others make
LONG = 30  # seconds, after which TensorBoard's overview is kept up to date


class SweepError(BenchError):
    """Some runs failed; the others were made."""


class Sweep:
    """Runs given at once or, as a search proposes them, in parts; they are shown and summed up as
    one. To be entered; when it is left, its results are printed, and failed runs are its error.

    Other sweeps may make some of the same runs at the same time: each run is made once, by one of
    them, and this one ends when all of its runs are made.

    Args:
        executor: does the tasks.
        strategy: whether runs that differ only in numbers train as stacks.
        max_stack: the most runs of a stack; None for as many as memory holds.

    Attributes:
        more: how many runs will follow that are not known yet.
    """

    GOING_ON = "{} run(s) go on from shorter ones, each alone"

    def __init__(
        self, executor: Executor, *, strategy: Strategy, max_stack: int | None = None
    ) -> None:
        self.executor = executor
        self.strategy = strategy
        self.max_stack = max_stack
        self.more = 0
        self.made = False
        self.began = time.monotonic()
        self.console = Console(stderr=True)
        self.display = Display(self.console)
        self.said: set[str] = set()
        self.followed = False
        self.following = ExitStack()
        self.done: dict[Path, Record] = {}
        self.elsewhere = Elsewhere(self.done)

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.display.stop()
        self.following.close()
        if kind is None:
            self._sum_up()
            if failed := sum(record.status == "failed" for record in self.done.values()):
                raise SweepError(
                    f"{failed} of {len(self.done)} runs failed; the same command runs them again"
                )
        elif self.done:
            self.console.print(self.display.table())

    def run(self, jobs: Sequence[Job]) -> list[Record]:
        """Makes the runs that are missing; those already made are kept.

        Returns:
            The record of every job, in order, of those that failed too.

        Raises:
            BenchError: a job cannot be made as configured; nothing was started.
            Unwritable: there is no room where the runs lie.
        """
        refuse_twins(jobs)
        new = [job for job in jobs if job.directory not in self.done]
        kept = {job.directory: record for job in new if (record := job.finished()) is not None}
        missing = [job for job in new if job.directory not in kept]
        if missing:
            _check_writable(missing[0])
        if not self.display.jobs:
            self._announce(jobs, kept=len(kept))
        self.display.expect(new, more=self.more)
        for job in new:
            if job.directory in kept:
                self._add(job, kept[job.directory])
        if missing:
            self.display.start()
            self._make(missing)
        return [self.done[job.directory] for job in jobs]

    def _announce(self, jobs: Sequence[Job], *, kept: int) -> None:
        """What will be made, at once: nothing of what takes time has begun."""
        whole = len(jobs) + self.more
        made = f", {kept:,} of them already made" if kept else ""
        if kept == whole:
            made = ", already made; nothing to run"
        places = text.listed(list(map(str, studies(jobs))))
        self.say(f"{text.count(whole, 'run')}{made} -> {places}")
        self.say(f"{'the first of them: ' if self.more else ''}{what(jobs)}")

    def say(self, line: str) -> None:
        """Once, though several parts have it to say."""
        if line not in self.said:
            self.said.add(line)
            options: Any = {"style": "dim", "markup": False, "highlight": False}
            self.console.print(line, soft_wrap=not self.console.is_terminal, **options)

    def _add(self, job: Job, record: Record) -> None:
        self.done[job.directory] = record
        self.display.add(job, record)

    def _ended(self, task: Task, outcome: Outcome) -> None:
        if isinstance(outcome, Taken):
            self.elsewhere.add(task)
            return
        for job in task:
            if job.directory in outcome:
                self._add(job, failed(job, outcome[job.directory]))
            elif job.directory not in self.done:
                self._add(job, job.recorded() or failed(job, LOST))

    def _show(self, running: Iterable[Running]) -> None:
        interruption.check()
        if not self.followed and time.monotonic() - self.began > LONG:
            self.followed = True
            self.following.enter_context(following(studies(self.display.jobs)))
        for job, record in self.elsewhere.made():
            self._add(job, record)
        self.display.show(running)

    def _make(self, missing: Sequence[Job]) -> None:
        executor = self.executor
        executor.begin()
        if not self.made:
            outcome.prepare()
        self.made = True
        try_extensions(missing, executor)
        fetch_data(missing)
        place = executor.place(missing[0])
        kinds = {json.dumps([j.config["workload"], j.config["trainer"]]): j.config for j in missing}
        executor.ask(_refuse_what_cannot_fit, list(kinds.values()), place.device, place.memory)
        fresh: list[Job] = []
        going_on: list[Job] = []
        begun = list(self._begun(missing, place.device))
        rest = {job.directory for job in missing} - {job.directory for t in begun for job in t}
        for job in missing:
            if job.directory in rest:
                (going_on if self._goes_on(job, place.device) else fresh).append(job)
        if going_on:
            self.say(self.GOING_ON.format(len(going_on)))
        plan: list[Task] = [
            *begun,
            *tasks(
                fresh,
                strategy=self.strategy,
                device=place.device,
                workers=place.workers or 1,
                max_stack=self.max_stack,
                capacity=partial(executor.ask, most_that_fit, memory=place.memory),
                refusal_of_workload=partial(executor.ask, own_refusal),
                say=self.say,
            ),
            *([job] for job in going_on),
        ]
        self._say_how(plan, place)
        with interruption.noting():  # `_show` looks for them
            while plan:
                workers = min(place.workers or len(plan), len(plan))
                executor.run(plan, workers=workers, ended=self._ended, show=self._show)
                plan = self._left_elsewhere()

    def _begun(self, missing: Sequence[Job], device: str) -> Iterator[Task]:
        """The stacks in which missing runs have trained before, to be made again as they were, with
        those of their runs that are made; where they would not become the same again, none."""
        known = {job.directory: job for job in self.display.jobs}
        wanted = {job.directory for job in missing}
        left = set(wanted)
        for stack in (stack for study in studies(missing) for stack in continuation.stacks(study)):
            these = wanted.intersection(stack.directories)
            if not these or not these <= left or not known.keys() >= set(stack.directories):
                continue
            task = [known[directory] for directory in stack.directories]
            about = self._environment_of_workers(device) | provenance.inputs(task[0].config)
            others = {self.done[d].stack for d in stack.directories if d in self.done}
            if others <= {stack.name} and continuation.changes(about, stack.environment) is None:
                left -= these
                yield task

    def _left_elsewhere(self) -> list[Task]:
        """Waits while others make what is missing here; the tasks that they have left, if any."""
        said = False
        while self.elsewhere.tasks:
            self._show([])
            if left := self.elsewhere.left():
                return left
            if self.elsewhere.tasks and not said:
                said = True
                runs = text.count(len(self.elsewhere.open), "run")
                self.say(f"waiting for {runs} that another sweep makes")
            time.sleep(WAIT)
        return []

    def _goes_on(self, job: Job, device: str) -> bool:
        """Whether the run, which could train in a stack, starts where another one ended."""
        if not job.config["trainer"]["resume"]:
            return False
        about = self._environment_of_workers(device) | provenance.inputs(job.config)
        return continuation.find(job.config, job.directory, about).directory is not None

    @functools.cache  # noqa: B019 - a command has one sweep
    def _environment_of_workers(self, device: str) -> dict[str, Any]:
        return self.executor.ask(_environment, device)

    def _say_how(self, plan: Sequence[Task], place: Place) -> None:
        """Of the first part alone."""
        if "how" in self.said:
            return
        self.said.add("how")
        stacks = [len(task) for task in plan if len(task) > 1]
        alone = len(plan) - len(stacks)
        how = [f"{sum(stacks):,} in stacks of up to {max(stacks)}"] if stacks else []
        how += [f"{alone:,} alone"] if alone else []
        places = text.count(min(place.workers or len(plan), len(plan)), *place.what)
        self.say(f"launcher {self.strategy}: {', '.join(how)}; {places}")

    def _sum_up(self) -> None:
        """What failed and why; the results themselves; and where to look next."""
        jobs, console = self.display.jobs, self.console
        ended, seconds = self.display.ended, time.monotonic() - self.began
        said = [f"{ended[key]:,} {key}" for key in ("diverged", "failed") if ended[key]]
        if self.made:
            self.say(", ".join([text.count(len(jobs), "run"), *said, duration(seconds)]))
        failed = [j for j in jobs if self.done[j.directory].status == "failed"]
        for job in failed[:MOST_FAILURES]:
            reason = self.done[job.directory].reason
            line = Text(f"failed: {job.directory}: {reason}", style="red")
            console.print(line, highlight=False, soft_wrap=True)
        if len(failed) > MOST_FAILURES:
            console.print(f"... and {len(failed) - MOST_FAILURES:,} more", style="red")
        if not outcome.show(studies(jobs), console):
            console.print(self.display.table())


class Elsewhere:
    """Tasks of which another sweep has at least one run in hand.

    Args:
        done: what is made by now, by whoever.
    """

    def __init__(self, done: Mapping[Path, Record]) -> None:
        self.done = done
        self.tasks: list[Task] = []
        self.looked = 0.0

    def add(self, task: Task) -> None:
        self.tasks.append(task)

    @property
    def open(self) -> list[Job]:
        return [job for task in self.tasks for job in task if job.directory not in self.done]

    def made(self) -> Iterator[tuple[Job, Record]]:
        """Those that others have made meanwhile; looked for now and then."""
        if not self.tasks or time.monotonic() < self.looked + WAIT:
            return
        self.looked = time.monotonic()
        for job in self.open:
            if (record := job.finished()) is not None:
                yield job, record
        self.tasks = [
            task for task in self.tasks if any(j.directory not in self.done for j in task)
        ]

    def left(self) -> list[Task]:
        """The tasks that nobody makes any more."""
        tasks, self.tasks = self.tasks, []
        left: list[Task] = []
        for task in tasks:
            free = all(is_free(job.directory) for job in task)
            (left if free else self.tasks).append(task)
        return left


class Launched(Sweep):
    """The same, where a launcher that is not ours makes the runs.

    Args:
        launch: makes several, and returns when they have ended.
        launcher: its name.
        in_turn: whether it shows each itself, and one at a time.
    """

    def __init__(
        self, launch: Callable[[Sequence[Job]], Any], *, launcher: str, in_turn: bool
    ) -> None:
        super().__init__(LocalExecutor(workers=None, threads=None), strategy="parallel")
        self.launch = launch
        self.launcher = launcher
        self.in_turn = in_turn
        self.display.is_live = False

    def _make(self, missing: Sequence[Job]) -> None:
        self.say(f"launcher {self.launcher}{': one after the other' if self.in_turn else ''}")
        for part in [[job] for job in missing] if self.in_turn else [missing]:
            self.launch(part)
            for job in part:
                self._add(job, job.recorded() or failed(job, LOST))
            self._show([])


def studies(jobs: Iterable[Job]) -> list[Path]:
    """The directories of their studies."""
    return sorted({Path(job.config["runs_dir"], job.config["study"]) for job in jobs})


def _environment(device: str) -> dict[str, Any]:
    import torch

    from bench.training.environment import environment

    return environment(torch.device(device))


def _refuse_what_cannot_fit(
    configs: Sequence[Mapping[str, Any]], device: str, memory: int | None
) -> None:
    from bench.training.memory import refuse_what_cannot_fit

    for config in configs:
        refuse_what_cannot_fit(config, device, memory)


def fetch_data(jobs: Sequence[Job]) -> None:
    """Fetches the data sets that the jobs need, once, before any process needs them."""
    for workload in {workload_of(job.config) for job in jobs}:
        workload.fetch()


def try_extensions(jobs: Sequence[Job], executor: Executor) -> None:
    """Refuses callbacks and loggers that cannot be made, before any run has failed for them."""
    keys = ("callbacks", "loggers")
    for given in {json.dumps([j.config["trainer"][key] for key in keys]) for j in jobs}:
        options = dict(zip(keys, json.loads(given), strict=True))
        if any(options.values()):
            executor.ask(_make_extensions, options)


def _make_extensions(options: Mapping[str, Any]) -> None:
    from bench.training import extensions

    with TemporaryDirectory() as directory:
        extensions.callbacks(options)
        extensions.loggers(options, Path(directory))


def refuse_twins(jobs: Sequence[Job]) -> None:
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
