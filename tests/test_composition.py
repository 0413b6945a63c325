"""Jobs that are derived from a shared composition are those that Hydra composes one by one."""

import shlex
from collections.abc import Iterator
from itertools import product
from unittest.mock import patch

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from bench.command_line import CONF
from bench.errors import BenchError
from bench.settings.jobs import plan, split
from bench.settings.messages import explain
from bench.settings.overrides import parsed
from bench.sweeps.composition import Composer

# Settings of a sweep, its jobs (every combination of values), and how often Hydra is to compose.
SWEEPS: list[tuple[str, str, int]] = [
    ("", "seed=0|1|2 optimizer.lr=0.1|1e-3", 1),
    ("hydra/launcher=parallel hydra.job.name=x", "study=a|b", 1),
    ("", "optimizer=sgd|adam optimizer.lr=0.1|1 seed=0|1", 2),
    ("", "optimizer.lr=0.1 optimizer=momentum optimizer.momentum=0|0.5", 1),
    ("", "workload=mnist_mlp|cifar10_cnn workload.model.hidden_sizes=[64]|[]|[8,8]", 2),
    ("", "experiment=lr_sensitivity seed=0|1 trainer.max_epochs=1|null", 1),
    ("", "experiment=adam_betas|schedules seed=3|4", 2),
    ("", "schedule=step|cosine optimizer.lr=${oc.select:schedule.final,0.5}|1", 2),
    ("", "data_dir=${runs_dir}/data|null runs_dir=x|\"'a,b'\"", 1),
    ("", "optimizer=custom optimizer._target_=torch.optim.NAdam|torch.optim.SGD optimizer.lr=1", 1),
    (
        "",
        "optimizer=custom optimizer._target_=a.B +optimizer.x=1|2 ~optimizer.x ++optimizer.y=3",
        1,
    ),
    ("", "'optimizer={lr: 3}|{lr: 4,eps: 1}' seed=0|1", 1),
    ("hydra.job.config.override_dirname.exclude_keys=[seed]", "seed=0|1 optimizer.lr=2", 1),
    ("", "optimizer.lr=1|2e-05|-0 workload.model.dropout=0|0.25 trainer.max_steps=-1|7", 1),
    ("", "schedule=cosine optimizer.beta1=${schedule.final}|0.5 schedule.final=0.125|0.25", 1),
]

# Of one job: what Hydra does not accept.
WRONG = [
    "seed=abc",
    "sed=1",
    "optimizer.learning_rate=1",
    "optimizer=sgdd",
    "workload.model.hidden_sizes=3",
    "+seed=3",
    "~nothing",
    "optimizer@x=adam",
    "seed@x=1",
    "seed=1,2",
    "seed=[1",
    "hydra.nothing=1",
]


@pytest.fixture(autouse=True)
def loader() -> Iterator[ConfigLoader]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def of_sweep(loader: ConfigLoader, settings: str) -> DictConfig:
    return loader.load_configuration("config", shlex.split(settings), RunMode.MULTIRUN)


def combinations(said: str) -> Iterator[list[str]]:
    values = []
    for override in shlex.split(said):
        key, equals, choices = override.partition("=")
        values.append([f"{key}{equals}{choice}" for choice in choices.split("|")])
    return map(list, product(*values))


@pytest.mark.parametrize(("settings", "said", "choices"), SWEEPS)
def test_jobs_are_those_of_hydra(
    loader: ConfigLoader, settings: str, said: str, choices: int
) -> None:
    sweep, jobs = of_sweep(loader, settings), list(combinations(said))
    whole = [plan(*split(loader.load_sweep_config(sweep, job))) for job in jobs]
    with patch.object(loader, "load_sweep_config", wraps=loader.load_sweep_config) as composing:
        composer = Composer(loader, sweep)
        derived = [plan(*composer.compose(job)) for job in jobs]
        again = [plan(*composer.compose(job)) for job in jobs]
        with patch("bench.sweeps.composition.plan", wraps=plan) as in_full:
            quickly = [composer.plan(job) for job in jobs]
            quickly_again = [composer.plan(job) for job in jobs]
    assert derived == again == quickly == quickly_again == whole
    assert composing.call_count == choices
    assert in_full.call_count <= 2 * len(jobs)


def test_of_jobs_that_differ_in_numbers_one_is_planned_in_full(loader: ConfigLoader) -> None:
    composer = Composer(loader, of_sweep(loader, ""))
    said = "optimizer=adam|sgd optimizer.lr=1|0.1|0.01 workload.l2=0|1 seed=0|1|2|3"
    with patch("bench.sweeps.composition.plan", wraps=plan) as in_full:
        jobs = [composer.plan(job) for job in combinations(said)]
    assert (len(jobs), in_full.call_count) == (48, 2)
    for name, different in (("workload", 2), ("schedule", 1), ("trainer", 1)):
        assert len({id(job.config[name]) for job in jobs}) == different
    assert len({id(job.search) for job in jobs}) == 1


@pytest.mark.parametrize(
    "wrong",
    ["seed=-1", "optimizer.lr=-1", "seed=1.5", "trainer.max_steps=0", "trainer.max_epochs=0.5"],
)
def test_a_number_that_is_not_accepted_is_told_as_of_any_job(
    loader: ConfigLoader, wrong: str
) -> None:
    sweep = of_sweep(loader, "")
    key = wrong.partition("=")[0]
    composer = Composer(loader, sweep)
    composer.plan([f"{key}=1"])
    with pytest.raises((BenchError, HydraException)) as derived:
        composer.plan([wrong])
    with pytest.raises((BenchError, HydraException)) as whole:
        plan(*split(loader.load_sweep_config(sweep, [wrong])))
    assert explain_any(derived.value) == explain_any(whole.value).replace("hydra, ", "")


def explain_any(error: Exception) -> str:
    return str(error) if isinstance(error, BenchError) else explain(error)


NUMBERS = "0 1 -1 1.0 -0.5 1e-3 1e3 1.5e+10 -0 -0.0 0e5 1e05 1e400 00 01 1. .5 1_0 +1 1E3 nan 1e -"


@pytest.mark.parametrize("key", ["seed", "optimizer.lr", "a.0", "hydra.x", "+a", "~a", "a@b", "A"])
def test_numbers_are_read_as_hydra_reads_them(key: str) -> None:
    parser = OverridesParser.create()
    for number in NUMBERS.split():
        line = f"{key}={number}"
        assert repr(parsed(line)) == repr(parser.parse_overrides([line])[0])


@pytest.mark.parametrize("said", WRONG)
def test_mistakes_are_told_as_hydra_does(loader: ConfigLoader, said: str) -> None:
    sweep = of_sweep(loader, "")
    job = ["optimizer.lr=0.1", said, "study=s"]
    with pytest.raises(HydraException) as whole:
        loader.load_sweep_config(sweep, job)
    with pytest.raises(HydraException) as derived:
        Composer(loader, sweep).compose(job)
    assert explain(derived.value) == explain(whole.value).replace("hydra, ", "")  # not ours to name
