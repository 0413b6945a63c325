"""Successive halving: which runs stop, that the others never notice, and what is said of it."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hydra import initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from bench import interruption, records, runs, study
from bench.command_line import CONF
from bench.errors import BenchError
from bench.halving import replay
from bench.interruption import Interrupted
from bench.records import Record
from bench.report.contents import gather
from bench.report.sections import summary
from bench.settings.jobs import Job
from bench.sweeps import making
from bench.sweeps.display import Running
from bench.sweeps.executors import Outcome, Place, Task
from bench.sweeps.halving import HalvedSweep, Rule, brackets, validation_steps, worth_at
from bench.sweeps.sweep import Sweep
from tests.training.test_interrupted import assert_same, composed, curves, planned

RATES = ("1e-4", "3e-3", "1e-2", "1e30")  # the last one diverges
LENGTH = ("trainer.max_steps=32", "trainer.val_check_interval=8")  # whatever the data's size
RULE = Rule(eta=2, rungs=2)  # of 32 steps, at 8 and 16


@pytest.fixture(autouse=True)
def hydra_config(fake_data: None) -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    interruption.forget()


class Here:
    """Does tasks in this process, one after the other.

    Attributes:
        tasks: that were done.
        ends_at: the number of the task in which a signal comes.
    """

    def __init__(self, ends_at: int | None = None) -> None:
        self.tasks: list[Task] = []
        self.ends_at = ends_at

    def begin(self) -> None:
        pass

    def ask(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    def place(self, job: Job) -> Place:
        return Place("cpu", 1, ("process", "processes"))

    def run(
        self,
        tasks: Sequence[Task],
        *,
        workers: int,
        ended: Callable[[Task, Outcome], None],
        show: Callable[[Iterable[Running]], None],
    ) -> None:
        for task in tasks:
            if len(self.tasks) == self.ends_at:
                interruption.ask(10)
            self.tasks.append(task)
            ended(task, making.make(task, lambda steps, diverged: None))
            show([])


def jobs_in(place: Path, *overrides: str, seeds: Sequence[int] = (0, 1)) -> list[Job]:
    common = ["optimizer=adamw", "schedule=cosine", *LENGTH, *overrides]
    return [
        planned(place, *common, f"optimizer.lr={lr}", f"seed={seed}")
        for lr in RATES
        for seed in seeds
    ]


def halved(
    jobs: Sequence[Job], executor: Here | None = None, strategy: Any = "parallel", rule: Rule = RULE
) -> list[Record]:
    executor = executor or Here()
    with HalvedSweep(executor, strategy=strategy, rule=rule) as sweep:
        return sweep.run(jobs)


def whole(jobs: Sequence[Job], strategy: Any = "parallel") -> list[Record]:
    with Sweep(Here(), strategy=strategy) as sweep:
        return sweep.run(jobs)


def accuracy(directory: Path, at: int) -> float:
    """By the text of the file alone."""
    header, *rows = curves(directory)
    step, value = header.index("step"), header.index("val/accuracy")
    return float(next(row[value] for row in rows if row[value] and float(row[step]) == at))


def expected_rates(jobs: Sequence[Job], full: Sequence[Record]) -> list[set[str]]:
    """The rates left after each rung, from the curves of whole runs."""
    left, found = list(RATES), []
    for step in (8, 16):

        def mean(lr: str, step: int = step) -> float:
            return fmean(
                0.0 if record.status == "diverged" else accuracy(job.directory, step)
                for job, record in zip(jobs, full, strict=True)
                if float(lr) == job.config["optimizer"]["lr"]
            )

        left = sorted(left, key=mean, reverse=True)[: math.ceil(len(left) / 2)]
        found.append(set(left))
    return found


def rate(record: Record) -> str:
    return next(lr for lr in RATES if float(lr) == record.hyperparameters["lr"])


def test_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Those that go on become bit by bit what they are in the full sweep, with its schedule; the
    others are its start. Which they are follows from validation, by the mean over seeds."""
    full, jobs = (jobs_in(tmp_path / name) for name in ("full", "halved"))
    expected = whole(full)
    capfd.readouterr()
    made = halved(jobs)
    said = capfd.readouterr().err
    after_8, after_16 = expected_rates(full, expected)
    assert len(after_8) == 2
    assert len(after_16) == 1
    for job, record, other, reference in zip(jobs, made, full, expected, strict=True):
        if rate(record) in after_16 or record.status == "diverged":
            assert_same((other.directory, reference), (job.directory, record))
            assert record.stopped is None
        else:
            step = 16 if rate(record) in after_8 else 8
            assert (record.status, record.steps) == ("pruned", step)
            assert record.stopped == f"pruned at step {step}"
            assert not any(name.startswith("test/") for name in record.metrics)
            header, *rows = curves(job.directory)
            complete = curves(other.directory)
            places = [complete[0].index(name) for name in header]
            start = [[row[place] for place in places] for row in complete[1:]]
            assert start[: len(rows)] == rows
            assert float(rows[-1][header.index("step")]) == step
        assert record.id == reference.id
    pruned = sum(record.status == "pruned" for record in made)
    steps = sum(record.steps for record in made)
    assert f"{pruned} of 8 runs pruned; trained {steps} of all 256 steps" in said
    assert "best of mnist_mlp, adamw: lr" in said

    executor = Here()
    assert halved(jobs, executor) == made
    assert executor.tasks == []

    again = whole(jobs)
    for job, record, other, reference in zip(jobs, again, full, expected, strict=True):
        assert_same((other.directory, reference), (job.directory, record))
    assert halved(jobs, executor) == again
    assert executor.tasks == []


@pytest.mark.parametrize("ends_at", [pytest.param(3, marks=pytest.mark.slow), 9])
def test_ended_in_the_middle(tmp_path: Path, ends_at: int) -> None:
    first, second = (jobs_in(tmp_path / name) for name in ("first", "second"))
    expected = halved(first)
    with pytest.raises(Interrupted):
        halved(second, Here(ends_at))
    interruption.forget()
    for one, other, before, after in zip(first, second, expected, halved(second), strict=True):
        assert_same((one.directory, before), (other.directory, after))


def test_a_stack_shrinks(tmp_path: Path) -> None:
    """Its runs are those of the whole stack, within rounding, and it is made once."""
    full, jobs = (jobs_in(tmp_path / name, seeds=[0]) for name in ("full", "halved"))
    expected, executor = whole(full, "stacked"), Here()
    made = halved(jobs, executor, "stacked")
    assert [len(task) for task in executor.tasks] == [4, 4, 4]
    ends = sorted(record.status for record in made)
    assert ends == ["completed", "diverged", "pruned", "pruned"]
    for record, reference in zip(made, expected, strict=True):
        assert record.stack == reference.stack
        if record.status == "completed":
            assert record.metrics.keys() == reference.metrics.keys()
            for name, value in record.metrics.items():
                np.testing.assert_allclose(value, reference.metrics[name], rtol=1e-4)
    again = whole(jobs, "stacked")
    assert [record.status for record in again] == [record.status for record in expected]
    for before, after in zip(made, again, strict=True):
        if before.status != "pruned":
            assert after == before


def test_statistics_leave_pruned_runs_out(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    made = halved(jobs)
    pruned = [record for record in made if record.status == "pruned"]
    found = study.read(tmp_path / "default")
    assert len(found.pruned) == len(pruned)
    assert found.whole.empty
    contents = gather(found)
    assert contents.sensitivity.empty
    assert contents.response.empty
    assert contents.differences.empty
    best = max(
        {rate(r) for r in made if r.status == "completed"},
        key=lambda lr: fmean(r.metrics["val/accuracy"] or 0 for r in made if rate(r) == lr),
    )
    assert contents.best["lr"].tolist() == [float(best)]
    (said,) = [line for line in summary.warnings(contents) if "pruned" in line]
    assert said.startswith(f"{len(pruned)} runs were pruned")
    assert f"{len(pruned)} pruned" in summary.facts(contents)
    assert runs.run([jobs[0]])[0].status == "completed"  # one that is wanted whole after all


def test_a_record_from_before(tmp_path: Path) -> None:
    (record,) = runs.run([planned(tmp_path, "trainer.max_steps=2")])
    path = records.write(record, tmp_path)
    content = json.loads(path.read_text())
    del content["stopped"]
    path.write_text(json.dumps(content))
    assert records.read(path) == record
    path.write_text(json.dumps(content | {"stopped": "pruned at step 1"}))
    with pytest.raises(BenchError, match="stopped"):
        records.read(path)


def test_failed_runs_do_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do the others of their setting, though it may be the best."""
    jobs = jobs_in(tmp_path)
    make = making.make
    lost = jobs[2]  # at 3e-3

    def fail_one(task: Task, tell: Callable[[int, int], None]) -> Outcome:
        if task[0].directory == lost.directory:
            return making.fail(task, "out of luck")
        return make(task, tell)

    monkeypatch.setattr(making, "make", fail_one)
    with pytest.raises(BenchError, match="1 of 8 runs failed"):
        halved(jobs)
    seeds = [records.read(job.directory / records.FILE_NAME) for job in jobs[2:4]]
    assert [record.status for record in seeds] == ["failed", "pruned"]


# -- the rule --------------------------------------------------------------------------------------

SCORES = st.lists(
    st.one_of(st.just(math.nan), st.floats(-1e3, 1e3), st.just(-math.inf)), min_size=1
)


@given(SCORES, st.integers(2, 9))
def test_which_go_on(scores: list[float], eta: int) -> None:
    """A share of 1 / eta, rounded up, of all; nobody who is left is worse than one who is not."""
    kept = Rule(eta, 1).best(scores)
    known = [place for place, score in enumerate(scores) if not math.isnan(score)]
    assert len(kept) == min(len(known), math.ceil(Fraction(len(scores), eta)))
    left = set(known) - set(kept)
    assert all((scores[a], -a) > (scores[b], -b) for a in kept for b in left)


@given(st.integers(2, 6), st.integers(1, 4), st.integers(1, 400), st.integers(1, 60))
def test_where_the_rungs_are(eta: int, rungs: int, total: int, every: int) -> None:
    """Each at the first validation that is not before its share of the steps."""
    config: Any = {
        "workload": composed()["workload"] | {"batch_size": 100},
        "trainer": composed()["trainer"]
        | {"max_steps": total, "max_epochs": None, "val_check_interval": every},
    }
    validated = range(every, total, every)  # of an epoch that is longer
    shares = [Fraction(total, eta**k) for k in range(1, rungs + 1)]
    if shares[-1] < 1 or not validated:
        with pytest.raises(BenchError):
            Rule(eta, rungs).steps(config)
        return
    wanted = {min((s for s in validated if s >= share), default=None) for share in shares}
    assert Rule(eta, rungs).steps(config) == tuple(sorted(wanted - {None}))


@given(st.integers(2, 4), st.integers(2, 30), st.randoms(use_true_random=False))
def test_replay(eta: int, settings: int, random: Any) -> None:
    """Where settings never change places it finds the best; where only the end tells, it finds the
    best of those that are left, and nothing better; of the steps, those of who is left."""
    rule, rungs = Rule(eta, 2), (10, 30, 90)
    order = random.sample(range(settings), settings)
    steady = np.array([[place] * 3 for place in order], dtype=float)
    found = replay(steady, rungs, rule)
    left = math.ceil(settings / eta)
    steps = 10 * settings + 20 * left + 60 * math.ceil(left / eta)
    assert (found.same, found.place, found.short) == (True, 1, 0.0)
    assert found.share == pytest.approx(steps / (90 * settings))
    late = np.array([[-place, -place, place] for place in range(settings)], dtype=float)
    last = math.ceil(left / eta) - 1  # the best at the end of the first so many
    found = replay(late, rungs, rule)
    assert (found.place, found.short) == (settings - last, settings - 1 - last)
    assert found.same == (last == settings - 1)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["trainer.check_val_every_n_epoch=2"],
        ["trainer.val_check_interval=3"],
        ["trainer.val_check_interval=5", "trainer.check_val_every_n_epoch=2"],
        ["trainer.evaluations=6"],
        ["trainer.max_steps=19"],
    ],
    ids=" ".join,
)
def test_where_runs_are_validated(tmp_path: Path, options: list[str]) -> None:
    job = planned(tmp_path, *options)
    runs.run([job])
    header, *rows = curves(job.directory)
    step, value = header.index("step"), header.index("val/loss")
    found = [int(float(row[step])) for row in rows if row[value]]
    said = validation_steps(job.config)
    assert found[: len(said)] == said
    assert len(found) - len(said) <= 1  # the end


def test_worth() -> None:
    def of(status: str, steps: int, better: bool = False) -> Any:
        metric = {"name": "loss", "unit": "", "higher_is_better": better, "chance": None}
        return type("Made", (), {"status": status, "steps": steps, "metric": metric})

    curve = {4: -3.0, 8: -2.0, 12: -1.0}
    assert worth_at(of("completed", 20), curve, 8) == worth_at(of("pruned", 8), curve, 10) == -2.0
    assert worth_at(of("diverged", 11), curve, 8) == -2.0  # later
    assert worth_at(of("diverged", 8), curve, 8) == -math.inf
    assert math.isnan(worth_at(of("failed", 0), curve, 8))


def test_what_competes(tmp_path: Path) -> None:
    """Settings of one optimizer, schedule and length, whatever their seed."""
    jobs = [
        planned(
            *(tmp_path, f"optimizer={name}", f"optimizer.lr={lr}", f"seed={seed}"),
            *(*LENGTH, *more),
        )
        for name in ("adam", "sgd")
        for more in ([], ["trainer.max_steps=20"])
        for lr in (1, 2)
        for seed in (0, 1)
    ]
    found = brackets(jobs, RULE)
    assert len(found) == 4
    for bracket in found:
        assert [len(runs) for runs in bracket.settings.values()] == [2, 2]


Shell = Callable[..., tuple[int, str]]
SWEPT = "optimizer.lr=1e-3,1e-2"
WRONG: list[tuple[str, list[str]]] = [
    (f"{SWEPT} hydra.sweeper.eta=1", ["eta=1", "[2, "]),
    (f"{SWEPT} hydra.sweeper.rungs=0", ["rungs=0", "[1, "]),
    ("seed=0,1", ["nothing to halve", "optimizer.lr"]),
    (f"{SWEPT} workload.val_size=0", ["workload.val_size=0", "validation"]),
    (f"{SWEPT} trainer.max_steps=8", ["rungs=2", "8 steps", "before the first step"]),
    (f"{SWEPT} trainer.max_steps=90", ["only at their end", "trainer.evaluations=9"]),
    (f"{SWEPT} trainer.enable_checkpointing=false", ["enable_checkpointing=false"]),
    (f"{SWEPT} trainer.accelerator=cpu trainer.devices=2", ["trainer.devices=2"]),
    (f"{SWEPT} hydra/launcher=basic", ["hydra/launcher", "auto"]),
    ("optimizer.lr=interval(1,0)", ["optimizer.lr=interval(1,0)", "below"]),
]


@pytest.mark.parametrize(("typed", "said"), WRONG, ids=[typed for typed, _ in WRONG])
def test_wrong(shell: Shell, tmp_path: Path, typed: str, said: list[str]) -> None:
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    status, output = shell("-m", "hydra/sweeper=halving", *typed.split(" "))
    assert status != 0
    assert len(output.strip().splitlines()) == 1, output
    for part in said:
        assert part in output
    assert list(tmp_path.iterdir()) == []
