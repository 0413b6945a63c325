"""How a sweep shows what it is at."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from bench.metrics import Metric
from bench.records import UNFINISHED, Record
from bench.report import text
from bench.settings.jobs import Job
from bench.settings.schema import total_steps
from bench.single import duration, length

Row = tuple[str, str]  # a workload and an optimizer
Setting = tuple[tuple[str, str], ...]  # keys and their values, as they were said

ELSEWHERE = ("seed", "workload", "optimizer", "study", "runs_dir")  # said by the row, or of no use
MOST_VALUES = 4  # of a key, that are said one by one
MOST_OPTIMIZERS = 7
LEAST_PAUSE, MOST_PAUSE = 5, 60  # seconds between two lines where there is no terminal
NARROW = 60  # columns
LOST = ("diverged", "failed", "pruned")
STYLES = {"running": "dim", "diverged": "yellow", "failed": "red", "pruned": "dim"}


@dataclass(frozen=True)
class Running:
    """A task that is being made: its runs, the optimizer steps done, how many have diverged."""

    task: Sequence[Job]
    steps: int
    diverged: int


@dataclass
class Results:
    """What has become of the runs of one optimizer on one workload."""

    jobs: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    scores: defaultdict[Setting, list[float]] = field(default_factory=lambda: defaultdict(list))
    means: dict[Setting, float] = field(default_factory=dict)
    most: int = 0  # scores of a setting
    leader: Setting | None = None
    metric: Metric | None = None

    def add(self, setting: Setting, record: Record) -> None:
        self.ended[record.status] += 1
        self.metric = metric = Metric(**record.metric)
        value = record.metrics.get(f"val/{metric.name}")
        if record.status == "diverged":
            value = metric.chance if metric.chance is not None else -metric.sign * inf
        if value is not None and record.status not in UNFINISHED:
            self._score(setting, metric.sign * value)

    def _score(self, setting: Setting, score: float) -> None:
        """All settings are gone through only where the leader may have lost its place by this."""
        own, before = self.scores[setting], self.means.get(setting, -inf)
        own.append(score)
        self.means[setting] = mean = fmean(own)
        if len(own) > self.most or (setting == self.leader and mean < before):
            self.most = max(self.most, len(own))
            enough = [at for at, scores in self.scores.items() if len(scores) > self.most / 2]
            self.leader = max(enough, key=lambda at: self.means[at])
        elif len(own) > self.most / 2 and self.leader is not None:
            self.leader = max(self.leader, setting, key=lambda at: self.means[at])

    def best(self) -> tuple[float, Setting] | None:
        """The best mean over seeds, where more is better, of the settings that have more than half
        as many as the one with most, as the report picks it; None while there is none."""
        if self.leader is None or not isfinite(self.means[self.leader]):
            return None
        return self.means[self.leader], self.leader

    def value(self, signed: float) -> str:
        assert self.metric is not None
        return text.quantity(self.metric, text.value(self.metric, self.metric.sign * signed))


class Display:
    """For each optimizer on each workload, what is made of all and the best so far; below, a bar
    and the time left that go by optimizer steps, where a run that has ended, or diverged, counts as
    all of its steps. Where there is no terminal, a plain line says as much now and then.

    Args:
        jobs: all that are known yet.
    """

    def __init__(self, console: Console, jobs: Sequence[Job] = ()) -> None:
        self.console = console
        self.jobs: list[Job] = []
        self.more = 0
        self.rows: dict[Row, Results] = {}
        self.steps = 0
        self.varying = Varying()
        self.ended: Counter[str] = Counter()
        self.ended_steps = 0
        self.at_work: set[Row] = set()
        self.said, self.said_at = 0.0, time.monotonic()
        elapsed = [] if console.width < NARROW else [TimeElapsedColumn()]
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None),
            *elapsed,
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self.task = self.progress.add_task("")
        self.live = Live(
            console=console, get_renderable=self._whole, transient=True, refresh_per_second=4
        )
        self.is_live = console.is_terminal and not console.is_dumb_terminal
        self.expect(jobs)

    def expect(self, jobs: Sequence[Job], *, more: int = 0) -> None:
        """
        Args:
            more: how many will follow that are not known yet.
        """
        self.jobs += jobs
        self.more = more
        for job in jobs:
            self.rows.setdefault(row_of(job), Results()).jobs += 1
            self.steps += total_steps(job.config)
            self.varying.add(job)
        self.progress.update(self.task, total=self.steps * self._whole_of_known)
        self.show([])

    @property
    def _whole_of_known(self) -> float:
        return 1 + self.more / max(1, len(self.jobs))

    def start(self) -> None:
        if self.is_live:
            self.live.start(refresh=True)

    def stop(self) -> None:
        self.live.stop()

    def add(self, job: Job, record: Record) -> None:
        self.ended[record.status] += 1
        self.ended_steps += total_steps(job.config)
        self.rows[row_of(job)].add(setting_of(job), record)

    def show(self, running: Iterable[Running]) -> None:
        steps, counts = self.ended_steps, Counter(self.ended)
        self.at_work = set()
        for one in running:
            left = len(one.task) - one.diverged
            steps += one.diverged * total_steps(one.task[0].config) + left * one.steps
            counts += Counter(running=left, diverged=one.diverged)
            self.at_work.add(row_of(one.task[0]))
        said = [f"{self.ended.total():,}/{len(self.jobs) + self.more:,} done"]
        said += [f"[{style}]{counts[key]} {key}[/]" for key, style in STYLES.items() if counts[key]]
        self.progress.update(self.task, completed=steps, description=", ".join(said))
        if not self.is_live:
            self._say_now_and_then()

    def _say_now_and_then(self) -> None:
        (bar,) = self.progress.tasks
        now = time.monotonic()
        pause = MOST_PAUSE if bar.percentage < self.said + 10 else LEAST_PAUSE
        if now < self.said_at + pause or bar.percentage >= 100:
            return
        self.said, self.said_at = bar.percentage, now
        said = [Text.from_markup(bar.description).plain]
        if bar.time_remaining is not None:
            said.append(f"{duration(bar.time_remaining)} left")
        said += self._best_of_each_workload()
        line = "; ".join(said)
        self.console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)

    def _best_of_each_workload(self) -> list[str]:
        first: dict[str, tuple[float, str]] = {}
        for (workload, optimizer), results in self.rows.items():
            if (best := results.best()) is not None:
                where = f" on {workload}" if self._several_workloads else ""
                at = f" at {said}" if (said := self._said(best[1])) else ""
                said = f"best so far{where} {optimizer} {results.value(best[0])}{at}"
                if workload not in first or best[0] > first[workload][0]:
                    first[workload] = best[0], said
        return [said for _, said in first.values()]

    @property
    def _several_workloads(self) -> bool:
        return len({workload for workload, _ in self.rows}) > 1

    def _said(self, setting: Setting) -> str:
        varied = self.varying.keys
        return ", ".join(f"{short(key)} {value}" for key, value in setting if key in varied)

    def _whole(self) -> RenderableType:
        return Group(self.table(most=max(1, self.console.height - 5)), self.progress)

    def table(self, *, most: int | None = None) -> RenderableType:
        """
        Args:
            most: lines that there is room for; what is being made comes first.
        """
        shown = sorted(self.rows, key=lambda row: row not in self.at_work)[:most]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("workload", "optimizer")[not self._several_workloads :]:
            table.add_column(heading, no_wrap=True)
        table.add_column("done", justify="right", no_wrap=True)
        table.add_column("best so far", justify="right", no_wrap=True)
        for heading in ("at", ""):
            table.add_column(heading, no_wrap=True)
        for row, results in self.rows.items():
            if row in shown:
                table.add_row(*map(Text, row[not self._several_workloads :]), *self._cells(results))
        left = len(self.rows) - len(shown)
        return Group(table, Text(f"and {left} more", style="dim")) if left else table

    def _cells(self, results: Results) -> list[Text]:
        best = results.best()
        done = f"{results.ended.total():,}/{round(results.jobs * self._whole_of_known):,}"
        lost = [(f"{n} {key}", key) for key in LOST if (n := results.ended[key])]
        return [
            Text(done),
            Text(text.NOTHING if best is None else results.value(best[0])),
            Text("" if best is None else self._said(best[1])),
            Text(", ").join(Text(said, style=STYLES[key]) for said, key in lost),
        ]


def row_of(job: Job) -> Row:
    return job.config["workload"]["name"], job.config["optimizer"]["name"]


def setting_of(job: Job) -> Setting:
    """What was said for this run; neither its seed nor where it lies."""
    said = (line.lstrip("+").partition("=") for line in job.overrides)
    return tuple((key, value.strip("'\"")) for key, _, value in said if key not in ELSEWHERE)


class Varying:
    """The keys that have several values among some jobs, or are said of some of them only.

    Attributes:
        values: of every key.
    """

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self.values: dict[str, dict[str, None]] = {}
        self.said: Counter[str] = Counter()
        self.jobs = 0
        for job in jobs:
            self.add(job)

    def add(self, job: Job) -> None:
        self.jobs += 1
        for key, value in dict(setting_of(job)).items():
            self.said[key] += 1
            self.values.setdefault(key, {})[value] = None

    @property
    def keys(self) -> list[str]:
        return [
            key for key, own in self.values.items() if len(own) > 1 or self.said[key] < self.jobs
        ]


def short(key: str) -> str:
    return key.rpartition(".")[-1].replace("_", " ").strip()


def what(jobs: Sequence[Job]) -> str:
    """``mnist_mlp; momentum, adam; lr 1e-3, 1e-2; 3 epochs; seeds 0, 1``: what these runs are."""
    workloads, optimizers = (
        [*dict.fromkeys(names)] for names in zip(*map(row_of, jobs), strict=True)
    )
    lengths = {length(job.config) for job in jobs}
    varying = Varying(jobs)
    seeds = {job.config["seed"]: None for job in jobs}
    said = [
        listed(workloads, most=MOST_VALUES, noun="workloads"),
        listed(optimizers, most=MOST_OPTIMIZERS, noun="optimizers"),
        *(f"{short(key)} {listed(list(varying.values[key]))}" for key in varying.keys),
        *(lengths if len(lengths) == 1 else []),
        f"seed{'s' if len(seeds) > 1 else ''} {listed([*map(str, seeds)])}",
    ]
    return "; ".join(said)


def listed(values: Sequence[str], *, most: int = MOST_VALUES, noun: str = "values") -> str:
    """Few one by one; of more, numbers by their ends."""
    if len(values) <= most:
        return ", ".join(values)
    try:
        ends = min(values, key=float), max(values, key=float)
    except ValueError:
        return f"{len(values):,} {noun}"
    return f"{ends[0]} to {ends[1]} ({len(values):,} {noun})"
