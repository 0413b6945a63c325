"""Successive halving (Jamieson and Talwalkar 2016): all settings start, and at each of a few rungs
the best of them go on.

A run is made as in any sweep, with the schedule of its whole length, but pauses after the first
validation at or after a rung. Those of the settings that go on are continued from their
checkpoints, and become what they would have been; the record of the others stays as it is,
``pruned``. Everything follows from the records and curves in the study, so that the same command
goes on wherever it was ended.

No torch here, as in the rest of what plans.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.errors import BenchError
from bench.metrics import Metric
from bench.records import Record
from bench.report import text
from bench.settings.identity import digest, leaves
from bench.settings.jobs import Job
from bench.settings.schema import evaluation_steps, steps_per_epoch, total_steps
from bench.settings.workloads import problem_keys, workload_of
from bench.study import CURVE_FILE
from bench.sweeps.display import Display, Running
from bench.sweeps.sweep import Sweep, refuse_twins

Curve = Mapping[int, float]  # from steps to the last value up to there, times the metric's sign


@dataclass(frozen=True)
class Rule:
    """At each rung, one of ``eta`` settings goes on. Of T steps, the last rung is at ``T / eta``,
    the one before at ``T / eta**2``, and so on, each at the next step that is validated; of rungs
    that share one, the first counts.

    Attributes:
        eta: at least 2.
        rungs: how many, at most.
    """

    eta: int
    rungs: int

    def kept(self, settings: int) -> int:
        """How many of so many go on: a share of ``1 / eta``, rounded up."""
        return -(-settings // self.eta)

    def steps(self, config: Mapping[str, Any]) -> tuple[int, ...]:
        """Where the rungs of a run are.

        Raises:
            BenchError: there can be none.
        """
        total = total_steps(config)
        if total < self.eta**self.rungs:
            raise BenchError(
                f"hydra.sweeper.rungs={self.rungs}: the first rung, at {text.count(total, 'step')} "
                f"/ {self.eta}^{self.rungs}, is before the first step; train for longer, or give "
                "fewer rungs"
            )
        validated = [step for step in validation_steps(config) if step < total]
        if not validated:
            raise BenchError(
                "hydra/sweeper=halving: the runs are validated only at their end, where nothing is "
                f"left to stop; say trainer.evaluations={self.eta**self.rungs}, or "
                "trainer.val_check_interval=..., to compare them earlier"
            )
        wanted = [-(-total // self.eta**k) for k in range(self.rungs, 0, -1)]
        found = [next((s for s in validated if s >= step), None) for step in wanted]
        return tuple(sorted({step for step in found if step is not None}))

    def best(self, values: Sequence[float]) -> list[int]:
        """The places of those that go on, best first; of equals the earlier ones. More is better,
        NaN is not known and never goes on."""
        known = [place for place, value in enumerate(values) if value == value]
        ranked = sorted(known, key=lambda place: -values[place])
        return ranked[: self.kept(len(values))]


def validation_steps(config: Mapping[str, Any]) -> list[int]:
    """After which steps a run is validated, but for its end."""
    total, trainer = total_steps(config), config["trainer"]
    if (chosen := evaluation_steps(config)) is not None:
        return chosen
    epoch, n = steps_per_epoch(config), trainer["check_val_every_n_epoch"]
    every = trainer["val_check_interval"] or epoch
    ends = (
        start + step
        for start in range((n - 1) * epoch, total, n * epoch)
        for step in range(every, epoch + 1, every)
    )
    return [step for step in ends if step <= total]


@dataclass
class Bracket:
    """Settings that compete: of one workload, optimizer, schedule and length.

    Attributes:
        config: of one of their runs.
        rungs: the steps at which they do.
        settings: the runs of each that is still in it, one for each seed.
        stopped: of each rung that is over, how many settings there were, and how many went on.
    """

    config: Mapping[str, Any]
    rungs: tuple[int, ...]
    settings: dict[str, list[Job]] = field(default_factory=dict)
    stopped: list[tuple[int, int]] = field(default_factory=list)

    def until(self, stage: int) -> int | None:
        """Where the runs pause next; None for their end."""
        return self.rungs[stage] if stage < len(self.rungs) else None

    @property
    def name(self) -> str:
        """``mnist_mlp, adam``"""
        return ", ".join(self.config[group]["name"] for group in ("workload", "optimizer"))

    @property
    def jobs(self) -> list[Job]:
        return [job for runs in self.settings.values() for job in runs]


def brackets(jobs: Sequence[Job], rule: Rule) -> list[Bracket]:
    """
    Raises:
        BenchError: there is nothing to compare them by, or nothing to be compared.
    """
    found: dict[str, Bracket] = {}
    for job in jobs:
        config = job.config
        refuse_what_cannot_pause(config)
        rungs, values = rule.steps(config), dict(leaves(config))
        names = [config[group]["name"] for group in ("workload", "optimizer", "schedule")]
        problem = [values[key] for key in problem_keys(config) if key in values]
        key = repr([names, problem, total_steps(config), rungs])
        bracket = found.setdefault(key, Bracket(config, rungs))
        bracket.settings.setdefault(digest({**config, "seed": 0}), []).append(job)
    if all(len(bracket.settings) == 1 for bracket in found.values()):
        raise BenchError(
            "hydra/sweeper=halving: nothing to halve, as no workload and optimizer has two "
            "settings; sweep over a learning rate, such as optimizer.lr=1e-3,1e-2"
        )
    return list(found.values())


def refuse_what_cannot_pause(config: Mapping[str, Any]) -> None:
    """
    Raises:
        BenchError: runs of this configuration cannot be compared before their end, or cannot go on.
    """
    trainer, workload = config["trainer"], config["workload"]
    if not workload_of(config).validates:
        size = workload.get("val_size")
        said = f"workload={workload['name']}" if size is None else f"workload.val_size={size}"
        raise BenchError(f"{said}: halving needs validation data to choose by")
    if not trainer["enable_checkpointing"]:
        raise BenchError(
            "trainer.enable_checkpointing=false: halving goes on from checkpoints; leave it true"
        )
    if trainer["devices"] != 1:
        raise BenchError(
            f"trainer.devices={trainer['devices']}: halving pauses runs on one device only; "
            "give trainer.devices=1"
        )


def worth_at(record: Record, curve: Curve, step: int) -> float:
    """What a run is worth at a rung, where more is better: the last validation value up to there.
    One that had diverged is worth the least there is; of one that failed, NaN."""
    if record.status == "failed":
        return float("nan")
    if record.status == "diverged" and record.steps <= step:
        return Metric(**record.metric).least
    known = [at for at in curve if at <= step]
    return curve[max(known)] if known else Metric(**record.metric).least


def curve_of(directory: Path, metric: Metric) -> Curve:
    """
    Raises:
        BenchError: the file cannot be read.
    """
    name = f"val/{metric.name}"
    try:
        with open(directory / CURVE_FILE, newline="") as file:
            rows = [(row["step"], row.get(name)) for row in csv.DictReader(file)]
        return {int(float(step)): metric.sign * float(value) for step, value in rows if value}
    except (OSError, LookupError, ValueError, TypeError) as error:
        raise BenchError(
            f"{directory / CURVE_FILE}: no curve of {name} ({error}); delete the run's directory, "
            "and the same command makes it again"
        ) from error


class HalvedSweep(Sweep):
    """Makes the jobs that it is given by successive halving.

    Args:
        rule: which go on, and where.
    """

    GOING_ON = "{} run(s) train alone"
    display: "RungDisplay"

    def __init__(self, *arguments: Any, rule: Rule, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rule = rule
        self.display = RungDisplay(self.console)
        self.brackets: list[Bracket] = []

    def run(self, jobs: Sequence[Job]) -> list[Record]:
        refuse_twins(jobs)
        self.brackets = brackets(jobs, self.rule)
        for bracket in self.brackets:
            self.say(self._plan(bracket))
        stages = range(1 + max(len(bracket.rungs) for bracket in self.brackets))
        for stage in stages:
            alive = [
                replace(job, until=bracket.until(stage))
                for bracket in self.brackets
                for job in bracket.jobs
            ]
            for job in alive:
                if job.directory in self.done and self.done[job.directory].status == "pruned":
                    del self.done[job.directory]  # it goes on
            self.display.turn(alive)
            super().run(alive)
            for bracket in self.brackets:
                if stage < len(bracket.rungs):
                    self._decide(bracket, stage)
        return [self.done[job.directory] for job in jobs]

    def _announce(self, jobs: Sequence[Job], *, kept: int) -> None:
        """Those that paused may yet go on."""
        found = [job.finished() for job in jobs] if kept else []
        paused = sum(record is not None and record.status == "pruned" for record in found)
        super()._announce(jobs, kept=kept - paused)

    def _plan(self, bracket: Bracket) -> str:
        left, said = len(bracket.settings), []
        for step in bracket.rungs:
            left = self.rule.kept(left)
            said.append(f"{left:,} at step {step:,}")
        settings = text.count(len(bracket.settings), "setting")
        steps = total_steps(bracket.config)
        return f"halving: of {settings} of {bracket.name}, {', '.join(said)} of {steps:,} go on"

    def _decide(self, bracket: Bracket, stage: int) -> None:
        """Which settings go on; the runs of the others are over."""
        step = bracket.rungs[stage]
        names = list(bracket.settings)
        means = [fmean(self._worth(job, step) for job in bracket.settings[name]) for name in names]
        on = {names[place] for place in self.rule.best(means)}
        bracket.stopped.append((len(names), len(on)))
        for name in names:
            if name not in on:
                for job in bracket.settings.pop(name):
                    self.display.end(job, self.done[job.directory])

    def _worth(self, job: Job, step: int) -> float:
        record = self.done[job.directory]
        if record.status == "failed":
            return worth_at(record, {}, step)
        return worth_at(record, curve_of(job.directory, Metric(**record.metric)), step)

    def _goes_on(self, job: Job, device: str) -> bool:
        """A run that has begun alone, or that may end itself while others of a stack pause, is
        made alone."""
        paused = self.display.paused.get(job.directory)
        begun_alone = paused is not None and paused.stack is None
        may_end = job.config["trainer"]["patience"] is not None
        return begun_alone or may_end or super()._goes_on(job, device)

    def _sum_up(self) -> None:
        for bracket in self.brackets:
            if bracket.stopped:
                self.say(self._came_of(bracket))
        made = [self.done[job.directory] for job in self.display.jobs if job.directory in self.done]
        steps = sum(record.steps for record in made)
        whole = sum(total_steps(job.config) for job in self.display.jobs)
        pruned = sum(record.status == "pruned" for record in made)
        self.say(
            f"{pruned:,} of {text.count(len(made), 'run')} pruned; trained {steps:,} of all "
            f"{whole:,} steps ({text.percent(steps / whole, digits=0)} %)"
        )
        for line in self.display.best_of_each():
            self.say(line)
        super()._sum_up()

    def _came_of(self, bracket: Bracket) -> str:
        """``mnist_mlp, adam: at step 80 20 of 30 settings were stopped, at step 240 6 of 10``."""
        said = [
            f"at step {step:,} {before - after:,} of {before:,}"
            for step, (before, after) in zip(bracket.rungs, bracket.stopped, strict=True)
        ]
        return f"{bracket.name}: stopped {', '.join(said)} settings"


class RungDisplay(Display):
    """Where runs end in parts. One that pauses has neither ended nor a result to be shown.

    Attributes:
        paused: the records of those that do.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.paused: dict[Path, Record] = {}
        super().__init__(*arguments, **options)

    def turn(self, jobs: Sequence[Job]) -> None:
        """Jobs that are known already are to be made up to another step now."""
        current = {job.directory: job for job in jobs}
        self.jobs = [current.get(job.directory, job) for job in self.jobs]

    def expect(self, jobs: Sequence[Job], *, more: int = 0) -> None:
        known = {job.directory for job in self.jobs}
        super().expect([job for job in jobs if job.directory not in known], more=more)

    def add(self, job: Job, record: Record) -> None:
        if record.status == "pruned":
            self.paused[job.directory] = record
        else:
            self.paused.pop(job.directory, None)
            super().add(job, record)

    def end(self, job: Job, record: Record) -> None:
        """A paused run goes no further."""
        if self.paused.pop(job.directory, None) is not None:
            super().add(job, record)

    def show(self, running: Iterable[Running]) -> None:
        running = list(running)
        at_work = {job.directory for one in running for job in one.task}
        ended = self.ended_steps
        self.ended_steps += sum(r.steps for d, r in self.paused.items() if d not in at_work)
        try:
            super().show(running)
        finally:
            self.ended_steps = ended

    def best_of_each(self) -> list[str]:
        """In a line for each optimizer on each workload."""
        said = []
        for row, results in self.rows.items():
            if (best := results.best()) is not None:
                at = self._said(best[1]) or "what was said"
                said.append(f"best of {', '.join(row)}: {at}, {results.value(best[0])}")
        return said
