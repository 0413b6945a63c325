"""Every ready study: its first sentence answers the question of its header, from made-up results
with a known truth, and a figure has what it varied on its axes."""

import math
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from matplotlib.figure import Figure

from bench import records
from bench import study as studies
from bench.records import Record
from bench.report import style
from bench.report.contents import Contents, gather
from bench.report.page import Gallery
from bench.report.sections import budget, convergence, questions, sensitivity, summary
from bench.settings.identity import record_fields
from bench.settings.jobs import Job, plan
from tests.conftest import config_names
from tests.report.synthetic import ACCURACY, BITS

Shell = Callable[..., tuple[int, str]]
Truth = Callable[[dict[str, Any]], float]

BEST_LR = {"sgd": 0.1, "momentum": 0.01, "nesterov": 0.01, "adagrad": 0.01, "muon": 0.03}
LUCK = 1e-3  # standard deviation of a run's accuracy
JOBS: dict[str, list[Job]] = {}

TWO = ["optimizer=sgd,adam"]
REDUCED = {  # what of a study is enough
    "random_search": [*TWO, "hydra.sweeper.n_trials=8"],
    "tuned": [*TWO, "hydra.sweeper.n_trials=8"],
    "adam_paper": ["optimizer=nesterov,adam"],
    "adam_betas": [],
    "lr_x_batch_size": [],
    "lr_x_momentum": [],
    "lr_x_weight_decay": [],
    "quickstart": [],
    "schedules": [*TWO, "schedule=constant,step,cosine"],
}


def near(config: dict[str, Any], times: float = 1.0) -> float:
    """An accuracy that is best, 0.97, at the optimizer's usual learning rate, so many times it."""
    optimizer = config["optimizer"]
    best = BEST_LR.get(optimizer["name"], 1e-3) * times
    return max(0.97 - 0.02 * math.log10(optimizer["lr"] / best) ** 2, 0.1)


# What is true in the results of each study that asks for more than the optimizers: where its
# factors matter as they are said to.


def beta1_and_correction(config: dict[str, Any]) -> float:
    optimizer = config["optimizer"]
    return (
        near(config) - 0.02 * (not optimizer["bias_correction"]) - 0.05 * (optimizer["beta1"] == 0)
    )


def scaled_inputs(config: dict[str, Any]) -> float:
    raw = config["workload"]["feature_scaling"] == "none"
    return near(config, 1e-3 if raw else 1) - 0.02 * raw


def no_start_from_zeros(config: dict[str, Any]) -> float:
    return 0.1 if config["workload"]["model"]["init"] == "zeros" else near(config)


def rates_by_batch_size(config: dict[str, Any]) -> float:
    power = {"sgd": 1.0, "momentum": 0.0, "adam": 0.5}[config["optimizer"]["name"]]
    return near(config, (config["workload"]["batch_size"] / 128) ** power)


def nesterov_forgives(config: dict[str, Any]) -> float:
    momentum, name = config["optimizer"]["momentum"], config["optimizer"]["name"]
    lost = 0.1 * (name == "momentum") * max(momentum - 0.9, 0) * 10
    return near(config, 3 * (1 - momentum)) - lost


def adamw_forgives(config: dict[str, Any]) -> float:
    decay, name = config["optimizer"]["weight_decay"], config["optimizer"]["name"]
    return near(config) - 0.02 * (name == "adam") * max(math.log10(decay) + 3, 0)


def cosine_gains(config: dict[str, Any]) -> float:
    return near(config) + 0.01 * (config["schedule"]["name"] == "cosine")


# study: the truth, what its first sentence says then, what is ranked, and where nothing but the
# learning rate matters; and the labels of the axes of one figure.
QUESTIONS: dict[str, tuple[Truth, str, set[tuple[str, str]], str, set[str]]] = {
    "adam_betas": (
        beta1_and_correction,
        r"bias correction is worth on test: adam gains 2\.\d+ points with it",
        {("True", "False")},
        "cannot tell what bias correction is worth",
        {"validation accuracy (%)", "bias correction"},
    ),
    "feature_scaling": (
        scaled_inputs,
        r"feature scaling is worth on test against none: sgd gains .* points with .*unit",
        {("unit", "none"), ("channel", "none"), ("feature", "none")},
        "cannot tell what each feature scaling is worth",
        {"learning rate", "feature scaling"},
    ),
    "initialisation": (
        no_start_from_zeros,
        r"initialisation is worth on test against default: sgd loses 8\d\.\d+ points with zeros",
        {("default", "zeros")},
        "cannot tell what each initialisation is worth",
        {"validation accuracy (%)", "initialisation"},
    ),
    "lr_x_batch_size": (
        rates_by_batch_size,
        r"From batch size 32 to 2,048, the best learning rate moves: that of sgd goes from 0.03 to "
        r"1, as the power (0\.9|1\.0).*; that of momentum stays 0.01; that of adam goes from "
        r".* the power 0\.[56]",
        set(),
        "does not move",
        {"batch size", "best learning rate"},
    ),
    "lr_x_momentum": (
        nesterov_forgives,
        r"nesterov forgives a wrong momentum more than momentum: .* every value tried \(0 to 0.99\)"
        r"; momentum from 0 \(the least tried\) to 0\.9",
        {("nesterov", "momentum")},
        "cannot tell which optimizer forgives a wrong momentum",
        {"momentum", "best learning rate"},
    ),
    "lr_x_weight_decay": (
        adamw_forgives,
        r"adamw forgives a wrong weight decay more than adam: .* every value tried \(1e-6 to 1\); "
        r"adam from 1e-6 \(the least tried\) to 0\.00[3-5]",
        {("adamw", "adam")},
        "cannot tell which optimizer forgives a wrong weight decay",
        {"weight decay", "validation accuracy (%)"},
    ),
    "schedules": (
        cosine_gains,
        r"schedule is worth on test against constant: sgd gains [01]\.\d+ points with cosine",
        {("cosine", "constant")},
        "cannot tell what each schedule is worth",
        {"schedule", "test accuracy less that of constant (points)"},
    ),
}


@pytest.fixture
def jobs(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Job]]:
    """The jobs of a ready study, of its first seed: composed once."""

    Plugins.instance()

    def launch(self: Any, overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        del initial_job_idx
        made_now = [
            plan(*self.composer.compose(said), search)
            for said, search in zip_longest(overrides, self.searches)
        ]
        composed.extend(made_now)
        records = [made(job, near, 0) for job in made_now]
        return [JobReturn(_return_value=r, status=JobStatus.COMPLETED) for r in records]

    composed: list[Job] = []
    launcher = sys.modules["hydra_plugins.bench_launchers"].MachineLauncher
    monkeypatch.setattr(launcher, "launch", launch)

    def compose(name: str) -> list[Job]:
        if name not in JOBS:
            status, output = shell(f"experiment={name}", "seed=0", *REDUCED.get(name, TWO))
            assert status == 0, output
            JOBS[name] = composed
        return JOBS[name]

    return compose


def made(job: Job, truth: Truth, seed: int) -> Record:
    """The record of a run that was not made: the truth, and some luck."""
    config = job.config | {"seed": seed}
    said = [f"seed={seed}" if line.startswith("seed=") else line for line in job.overrides]
    rng = np.random.default_rng(zlib.crc32(repr((truth.__name__, said)).encode()))
    metric = BITS if config["workload"]["name"].startswith("shakespeare") else ACCURACY
    accuracy = np.clip(truth(config) + rng.normal(0, LUCK, 2), 0.1, 1)
    measured = accuracy if metric == ACCURACY else 6 - 4 * accuracy
    return Record(
        **record_fields(config, said, job.search),
        status="completed",
        steps=1000,
        epochs=3.0,
        metrics=dict(zip((f"val/{metric}", f"test/{metric}"), map(float, measured), strict=True)),
        metric=metric.description,
        units={metric.name: metric.unit},
        best={f"val/{metric.name}": None, "epoch": None},
        target={"metric": f"val/{metric.name}", "value": 0.9, "step": 500, "seconds": 1.0},
        timing={"train_seconds": 1.0, "eval_seconds": 1.0, "total_seconds": 2.0},
        environment={"device": "cpu"},
    )


def contents_of(
    jobs: Sequence[Job], truth: Truth, directory: Path, *, seeds: int = 5, curves: bool = False
) -> Contents:
    for i, job in enumerate(jobs):
        for seed in range(seeds):
            place = directory / f"{i}_{seed}"
            place.mkdir(parents=True)
            record = made(job, truth, seed)
            records.write(record, place)
            if curves:
                row = f"{{}},{{}},{record.metrics['val/accuracy']}"
                lines = [row.format(step, step / 500) for step in (500, 1000)]
                curve = "\n".join(["step,epoch,val/accuracy", *lines])
                (place / "metrics.csv").write_text(curve)
    return gather(studies.read(directory))


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records.os, "fsync", lambda descriptor: None)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The labels of the axes of every figure that is made, which is not saved."""
    labels: list[set[str]] = []

    def save(drawing: Figure, path: Path, *, title: str) -> str:
        del path, title
        found = {label for axes in drawing.axes for label in (axes.get_xlabel(), axes.get_ylabel())}
        labels.append({label.replace("\n", " ") for label in found})
        return "<svg></svg>"

    monkeypatch.setattr(style, "save", save)
    return labels


QUICK = ("schedules", "lr_x_weight_decay")  # a word and a number


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in QUESTIONS],
)
def test_what_was_varied_on_purpose_is_answered_first(
    tmp_path: Path, jobs: Callable[[str], list[Job]], drawn: list[set[str]], name: str
) -> None:
    truth, said, ranks, unknown, axes = QUESTIONS[name]
    contents = contents_of(jobs(name), truth, tmp_path / "true")
    (workload,) = contents.workloads
    first = questions.findings(contents, workload)[0]
    assert re.search(said, first.sentence)
    assert set(first.ranks) == ranks
    (tmp_path / "report").mkdir()
    questions.section(contents, Gallery(tmp_path / "report"))
    assert any(axes <= labels for labels in drawn), drawn

    nothing = questions.findings(contents_of(jobs(name), near, tmp_path / "none"), workload)
    assert unknown in nothing[0].sentence
    assert not any(finding.ranks for finding in nothing)


# What the others ask of the optimizers, and a section with a figure that has this on an axis.
ASKED = {
    "convergence": ("Speed", "Steps to 90 % validation accuracy", convergence, "epochs"),
    "lr_sensitivity": (
        "Learning rate",
        "Decades of the learning rate",
        sensitivity,
        "learning rate",
    ),
    "random_search": ("Untuned", "One setting drawn at random", budget, "trials"),
}
USUAL = ("Tuned", "on test", sensitivity, "learning rate")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ASKED else pytest.mark.slow)
        for name in sorted({*config_names("experiment")} - {*QUESTIONS})
    ],
)
def test_where_optimizers_are_the_question_it_is_what_they_were_asked(
    tmp_path: Path, jobs: Callable[[str], list[Job]], drawn: list[set[str]], name: str
) -> None:
    about, said, shown, axis = ASKED.get(name, USUAL)
    curves = shown is convergence
    contents = contents_of(jobs(name), near, tmp_path / "none", seeds=2, curves=curves)
    assert not any(questions.findings(contents, workload) for workload in contents.workloads)
    first = summary.findings(contents, contents.workloads[0])[0]
    assert (first.about, first.ranks) == (about, ())
    assert said in first.sentence
    (tmp_path / "report").mkdir()
    gallery = Gallery(tmp_path / "report")
    assert questions.section(contents, gallery) is None
    shown.section(contents, gallery)
    assert any(axis in labels for labels in drawn), drawn
