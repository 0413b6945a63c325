"""Sweepers: what they make, draw and propose; and that every ready study is a sound sweep."""

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra_plugins.bench_search import GridSweeper, Interval, uniform
from scipy import stats

from bench import records
from bench.data import Dataset
from bench.metrics import Metric
from bench.settings.jobs import Job, plan
from tests.conftest import config_names

ROOT = Path(__file__).parents[1]
Shell = Callable[..., tuple[int, str]]
Jobs = Callable[..., list[list[str]]]
ACCURACY = Metric("accuracy", "fraction", higher_is_better=True, chance=0.1)
JUDGED = {"by": ACCURACY}  # what the made-up results are values of
LOG_LR = "optimizer.lr=tag(log,interval(1e-5,1))"


def accuracy(job: Sequence[str]) -> float:
    """A made-up result: best at a learning rate of 0.01."""
    values = dict(text.split("=", 1) for text in job)
    return 1 - abs(math.log10(float(values.get("optimizer.lr", 1))) + 2) / 10


@pytest.fixture
def jobs(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """The jobs of a sweep from the shell, in order; nothing is run. Composes the first and the
    last, as the launcher would compose all."""
    Plugins.instance()
    seen: list[list[str]] = []

    def launch(self: Any, job_overrides: Sequence[list[str]], initial_job_idx: int) -> list[Any]:
        seen.extend(job_overrides)
        for job in (job_overrides[0], job_overrides[-1]):
            planned = plan(*self.composer.compose(job))
            assert planned.config["study"] in str(planned.directory)
        results = [
            SimpleNamespace(
                status="completed",
                metric=JUDGED["by"].description,
                metrics={f"val/{JUDGED['by'].name}": JUDGED["by"].sign * accuracy(job)},
            )
            for job in job_overrides
        ]
        return [JobReturn(_return_value=r, status=JobStatus.COMPLETED) for r in results]

    launcher = sys.modules["hydra_plugins.bench_launchers"].MachineLauncher
    monkeypatch.setattr(launcher, "launch", launch)

    def run(*arguments: str) -> list[list[str]]:
        seen.clear()
        status, output = shell(*arguments)
        assert status == 0, output
        return list(seen)

    return run


PARAMS = {"optimizer": "sgd,adam", "seed": "range(0,2)"}
ADAM = {"optimizer=adam": {"optimizer.lr": "0.1,0.2"}}
ADAM_ONE = {"optimizer=adam seed=1": {"optimizer.lr": 9}}

# params, when, and the command line; the jobs that they make.
GRIDS: list[tuple[dict[str, Any], dict[str, Any], str, list[str]]] = [
    ({}, {}, "seed=0,1 optimizer=sgd", ["seed=0 optimizer=sgd", "seed=1 optimizer=sgd"]),
    (PARAMS, {}, "optimizer=sgd", ["optimizer=sgd seed=0", "optimizer=sgd seed=1"]),
    (
        PARAMS,
        ADAM,
        "seed=3",
        [
            "optimizer=sgd seed=3",
            "optimizer=adam seed=3 optimizer.lr=0.1",
            "optimizer=adam seed=3 optimizer.lr=0.2",
        ],
    ),
    (PARAMS, ADAM, "seed=3 optimizer=sgd", ["optimizer=sgd seed=3"]),
    (
        PARAMS | {"optimizer.lr": "1,2"},
        ADAM,
        "seed=3 optimizer=adam optimizer.lr=5",
        ["optimizer=adam seed=3 optimizer.lr=5"],
    ),
    (
        PARAMS,
        ADAM | ADAM_ONE,
        "optimizer=adam",
        [
            "optimizer=adam seed=0 optimizer.lr=0.1",
            "optimizer=adam seed=0 optimizer.lr=0.2",
            "optimizer=adam seed=1 optimizer.lr=9",
        ],
    ),
    (
        {},
        {},
        "optimizer=adam,custom optimizer._target_=a.B seed=1",
        ["optimizer=adam seed=1", "optimizer=custom optimizer._target_=a.B seed=1"],
    ),
    (
        {},
        {},
        "optimizer=adam optimizer._target_=a.B,a.C",
        ["optimizer=adam optimizer._target_=a.B", "optimizer=adam optimizer._target_=a.C"],
    ),
    (PARAMS, ADAM_ONE, "seed=1", ["optimizer=sgd seed=1", "optimizer=adam seed=1 optimizer.lr=9"]),
]


def grid(params: dict[str, Any], when: dict[str, Any], typed: str) -> list[str]:
    sweeper = GridSweeper(params, when)
    sweeper.config_loader = None  # type: ignore[assignment] # only globs need one
    sweeper.launch = list  # type: ignore[assignment, method-assign]
    return [" ".join(job) for job, _ in sweeper.sweep(typed.split(" "))]


@pytest.mark.parametrize(("params", "when", "typed", "made"), GRIDS, ids=range(len(GRIDS)))
def test_grids(params: dict[str, Any], when: dict[str, Any], typed: str, made: list[str]) -> None:
    assert grid(params, when, typed) == made


def test_a_condition_on_what_is_not_swept() -> None:
    with pytest.raises(HydraException, match="optimzer is not among what is swept"):
        grid(PARAMS, {"optimzer=adam": {"seed": 1}}, "seed=1")


@pytest.mark.parametrize("name", config_names("experiment"))
def test_experiments(jobs: Jobs, name: str) -> None:
    made = jobs(f"experiment={name}", *(["hydra.sweeper.n_trials=4"] if name == "tuned" else []))
    assert len({tuple(job) for job in made}) == len(made) > 1


HARDER = "mnist_logistic,mnist_heavy_tailed,mnist_autoencoder,mnist_overfit,cifar10_resnet"


def test_separators_give_every_optimizer_as_wide_a_range(jobs: Jobs) -> None:
    """Five rates over two decades, whatever the workload."""
    rates: dict[tuple[str, str], list[float]] = {}
    for job in jobs("experiment=separators", f"workload={HARDER},rare_features", "seed=0"):
        said = dict(text.split("=", 1) for text in job)
        where = said["workload"], said["optimizer"]
        rates.setdefault(where, []).append(float(said["optimizer.lr"]))
    assert len(rates) == 6 * 7
    for found in rates.values():
        assert len(found) == 5
        assert math.log10(found[-1] / found[0]) == pytest.approx(2)


@pytest.mark.parametrize("name", ["adam_paper", "convergence", "lr_sensitivity", "tuned"])
def test_experiments_give_way_to_the_shell(jobs: Jobs, name: str) -> None:
    few = ["hydra.sweeper.n_trials=2"] if name == "tuned" else []
    said = {"seed=7", "study=mine", "trainer.max_epochs=1"}
    assert all(said <= set(job) for job in jobs(f"experiment={name}", *said, *few))


@pytest.mark.parametrize(
    ("interval", "to_uniform"),
    [
        (Interval(1e-5, 1.0, log=True, whole=False), lambda x: 1 + math.log10(x) / 5),
        (Interval(0.5, 0.99, log=False, whole=False), lambda x: (x - 0.5) / 0.49),
    ],
)
def test_intervals_are_drawn_as_stated(
    interval: Interval, to_uniform: Callable[[float], float]
) -> None:
    draws = [interval.at(uniform("test", index)) for index in range(3000)]
    assert all(interval.low <= float(text) <= interval.high for text in draws)
    assert all(text == str(float(f"{float(text):.4g}")) for text in draws)
    assert stats.kstest([to_uniform(float(text)) for text in draws], "uniform").pvalue > 0.05


def test_whole_numbers_are_equally_likely_up_to_both_ends() -> None:
    counts = Counter(
        Interval(3, 7, log=False, whole=True).at(uniform(index)) for index in range(3000)
    )
    assert sorted(counts) == ["3", "4", "5", "6", "7"]
    assert stats.chisquare(list(counts.values())).pvalue > 0.05


def test_ends_of_intervals() -> None:
    nearly_one = 1 - 2**-53
    assert Interval(0.12344, 0.5, log=True, whole=False).at(0) == "0.12344"
    assert float(Interval(0.1, 0.499996, log=False, whole=False).at(nearly_one)) <= 0.499996
    assert Interval(32, 512, log=True, whole=True).at(0) == "32"
    assert Interval(32, 512, log=True, whole=True).at(nearly_one) == "512"


RANDOM = ["-m", "hydra/sweeper=random", "hydra.sweeper.n_trials=5", "seed=0,1"]


def test_random_draws_the_same_number_of_trials_for_each_optimizer_and_seed(jobs: Jobs) -> None:
    made = jobs(*RANDOM, "optimizer=sgd,adam", LOG_LR, "optimizer.weight_decay=choice(0,0.1)")
    trials = Counter(tuple(text for text in job if not text.startswith("seed")) for job in made)
    assert set(trials.values()) == {2}
    assert Counter(trial[0] for trial in trials) == {"optimizer=sgd": 5, "optimizer=adam": 5}
    assert len({trial[1:] for trial in trials}) == 10  # other draws for another optimizer


def test_random_draws_depend_on_nothing_else(jobs: Jobs) -> None:
    base = jobs(*RANDOM, "optimizer=adam", LOG_LR)
    assert jobs(*RANDOM, "optimizer=adam", LOG_LR) == base
    assert jobs(*RANDOM, "optimizer=sgd,adam", LOG_LR)[10:] == base
    assert jobs(*RANDOM, "optimizer=adam", LOG_LR, "hydra.sweeper.n_trials=7")[:10] == base
    with_another = jobs(*RANDOM, "optimizer=adam", LOG_LR, "optimizer.beta1=interval(0,0.9)")
    assert [job[0:2] for job in with_another] == [job[:2] for job in base]
    implied = jobs(*RANDOM, LOG_LR)  # adam is the usual choice
    assert [job[0] for job in implied] == [job[1] for job in base]
    another_seed = jobs(*RANDOM, "optimizer=adam", LOG_LR, "hydra.sweeper.seed=1")
    assert not {tuple(job) for job in another_seed} & {tuple(job) for job in base}


def test_random_trials_are_different(jobs: Jobs) -> None:
    made = jobs(*RANDOM, "optimizer.beta1=range(0,0.5,0.1)")
    assert sorted({job[0] for job in made}) == [f"optimizer.beta1=0.{n}" for n in range(5)]


OPTUNA = ["-m", "hydra/sweeper=optuna", "optimizer=sgd,adam", LOG_LR]


def test_optuna_finds_what_is_good(jobs: Jobs) -> None:
    made = jobs(*OPTUNA, "hydra.sweeper.n_trials=30", "optimizer.weight_decay=choice(0,0.1)")
    assert Counter(job[0] for job in made) == {"optimizer=sgd": 30, "optimizer=adam": 30}
    first, last = made[:20], made[-20:]
    assert sum(map(accuracy, last)) / 20 > sum(map(accuracy, first)) / 20 + 0.03


def test_optuna_proposes_the_same_again_and_goes_on(jobs: Jobs) -> None:
    all_at_once = jobs(*OPTUNA, "hydra.sweeper.n_trials=17")
    before = jobs(*OPTUNA, "hydra.sweeper.n_trials=14")
    assert {tuple(job) for job in before} < {tuple(job) for job in all_at_once}
    another_seed = jobs(*OPTUNA, "hydra.sweeper.n_trials=14", "hydra.sweeper.seed=1")
    assert not {tuple(job) for job in another_seed} & {tuple(job) for job in before}


def test_optuna_repeats_each_trial_for_each_seed(jobs: Jobs) -> None:
    made = jobs(*OPTUNA, "hydra.sweeper.n_trials=3", "seed=0,1,2")
    assert set(Counter(tuple(job[:2]) for job in made).values()) == {3}


def test_optuna_minimises_what_should_be_low(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    high = jobs(*OPTUNA, "hydra.sweeper.n_trials=14")
    monkeypatch.setitem(JUDGED, "by", Metric("mae", "k$"))
    assert jobs(*OPTUNA, "hydra.sweeper.n_trials=14") == high


RANGES = "optimizer.lr=choice(1e-3,1e-2)"
LISTED = {"optimizer.lr": "1e-3,0.01"}
CHOSEN: list[tuple[str, dict[str, tuple[str, dict[str, str]]]]] = [
    ("-m optimizer=sgd,adam optimizer.lr=1e-3,0.01 seed=0,1",
     {"sgd": ("grid", LISTED), "adam": ("grid", LISTED)}),
    ("-m seed=0,1 optimizer.lr=0.01", {"adam": ("grid", {})}),
    ("-m optimizer.lr=1e-3,0.01 hydra/launcher=parallel", {"adam": ("grid", LISTED)}),
    ("-m optimizer.lr=1e-3,0.01 hydra/launcher=basic", {"adam": ("grid", {})}),
    (f"-m {RANGES} seed=0,1 hydra/sweeper=random hydra.sweeper.n_trials=2",
     {"adam": ("random", {"optimizer.lr": "choice(1e-3,1e-2)"})}),
    (f"-m {RANGES} optimizer=sgd,adam hydra/sweeper=optuna hydra.sweeper.n_trials=2",
     dict.fromkeys(("sgd", "adam"), ("tpe", {"optimizer.lr": "choice(1e-3,1e-2)"}))),
    ("experiment=random_search hydra.sweeper.n_trials=1", {
        "sgd": ("random", {"optimizer.lr": "tag(log,interval(1e-4,10))"}),
        "rmsprop": ("random", {
            "optimizer.lr": "tag(log,interval(1e-5,1))",
            "optimizer.decay": "choice(0.9,0.99,0.999)",
        }),
    }),
    ("optimizer.lr=0.01 study=mine", {"adam": ("single", {})}),
]  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), CHOSEN, ids=lambda value: value and str(value)[:60])
def test_how_each_run_was_chosen_is_noted(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    expected: dict[str, tuple[str, dict[str, str]]],
) -> None:
    seen: list[Job] = []

    def run(jobs: Sequence[Job], **_: Any) -> list[Any]:
        seen.extend(jobs)
        values = {"val/accuracy": 0.5}
        made = SimpleNamespace(status="completed", metric=ACCURACY.description, metrics=values)
        return [made for _ in jobs]

    monkeypatch.setattr("bench.sweeps.sweep.Sweep.run", lambda _, jobs: run(jobs))
    monkeypatch.setattr("bench.single.main", lambda job: run([job]))
    status, output = shell(*said.split())
    assert status == 0, output
    for job in seen:
        assert job.search is not None
        assert job.search["command"] == said.split()
    found = {job.config["optimizer"]["name"]: job.search for job in seen}
    for optimizer, (sampler, prior) in expected.items():
        about = found[optimizer]
        assert about is not None
        assert (about["sampler"], about["prior"]) == (sampler, prior)
    for job in seen:  # all seeds, all trials
        assert job.search == found[job.config["optimizer"]["name"]]


def test_a_command_that_no_record_could_hold_is_left_out(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Job] = []
    monkeypatch.setattr("bench.single.main", seen.append)
    status, output = shell("optimizer.lr=0.01", f"hydra.job.name={'x' * 100_000}")
    assert status == 0, output
    assert seen[0].search == {"sampler": "single", "prior": {}, "command": []}


@pytest.mark.parametrize(
    ("metric", "good", "better", "worst"),
    [
        (ACCURACY, 0.5, 0.9, 0.0),
        (Metric("error", "fraction"), 0.5, 0.1, -1.0),
        (Metric("mae", "k$"), 1e9, -3.0, -math.inf),
        (Metric("reward", higher_is_better=True), -1e9, 3.0, -math.inf),
    ],
)
def test_what_a_run_is_worth(metric: Metric, good: float, better: float, worst: float) -> None:
    from hydra_plugins.bench_search import worth

    def of(status: str, value: float | None) -> float:
        metrics = {f"val/{metric.name}": value}
        record = SimpleNamespace(status=status, metric=metric.description, metrics=metrics)
        return worth(record)  # type: ignore[arg-type]

    assert of("diverged", better) == of("completed", None) == worst
    assert worst < of("completed", good) < of("completed", better)


WRONG: list[tuple[str, list[str]]] = [
    ("hydra/sweeper=random optimizer.lr=1e-3,1e-2", ["optimizer=adam", "nothing to draw"]),
    ("hydra/sweeper=optuna seed=0,1", ["optimizer=adam", "nothing to draw"]),
    ("hydra/sweeper=random optimizer.lr=interval(1,0)", ["optimizer.lr=interval(1,0)", "below"]),
    ("hydra/sweeper=random optimizer.lr=tag(log,interval(0,1))", ["optimizer.lr", "above 0"]),
    ("hydra/sweeper=random optimizer.lr=tag(lg,interval(0,1))", ["optimizer.lr", "lg", "log"]),
    ("hydra/sweeper=random optimizer.lr=tag(log,choice(1,2))", ["optimizer.lr", "interval"]),
    ("hydra/sweeper=random optimizer.lr=choice(1,2)", ["n_trials=20", "2 different"]),
    (f"hydra/sweeper=random {LOG_LR} hydra.sweeper.n_trials=0", ["n_trials=0", "[1, "]),
    (f"hydra/sweeper=random {LOG_LR} hydra.sweeper.trials=9", ["trials", "n_trials"]),
    (f"hydra/sweeper=optuna {LOG_LR} hydra.sweeper.n_parallel=0", ["n_parallel=0", "[1, "]),
    (f"hydra/sweeper=optuna {LOG_LR} workload.val_size=0", ["workload.val_size=0"]),
    (f"hydra/sweeper=optuna {LOG_LR} hydra/launcher=basic", ["hydra/launcher", "auto"]),
    ("hydra/sweeper=random optimizer.lr=interval(-2,-1)", ["optimizer.lr=-1", "[0, inf)"]),
]


@pytest.mark.parametrize(("typed", "said"), WRONG, ids=[typed for typed, _ in WRONG])
def test_wrong_searches(shell: Shell, tmp_path: Path, typed: str, said: list[str]) -> None:
    status, output = shell("-m", *typed.split(" "))
    assert status != 0
    assert "Traceback" not in output
    assert len(output.strip().splitlines()) == 1, output
    for part in said:
        assert part in output
    assert list(tmp_path.iterdir()) == []


def bench(place: Path, *arguments: str) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, "trainer.max_steps=20"],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr
    return made.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sweeper", ["optuna", "random"])
def test_a_search_on_real_digits_goes_on(
    sweeper: str, tmp_path: Path, real_data: Callable[[str], Dataset]
) -> None:
    real_data("mnist")
    typed = ["-m", "study=s", f"hydra/sweeper={sweeper}", "workload.val_size=1000", LOG_LR]
    assert "2 runs" in bench(tmp_path, *typed, "hydra.sweeper.n_trials=2")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/record.json")}
    again = bench(tmp_path, *typed, "hydra.sweeper.n_trials=3")
    assert "3 runs, 2 of them already made" in again
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/record.json")}
    assert len(after) == 3
    assert before.items() <= after.items()
    assert all(records.read(path).status == "completed" for path in after)
