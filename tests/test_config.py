"""Every configuration file composes, and says what the code says; names follow from it alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.command_line import CONF
from bench.settings.identity import (
    ADDED,
    digest,
    hyperparameters,
    leaves,
    run_directory,
    shown_settings,
)
from bench.settings.schema import validate
from bench.settings.workloads import workload_of
from bench.training.run import optimizer_factory
from bench.workloads.models import drawn
from optimizers.rules import RULES
from optimizers.schedules import SCHEDULES
from optimizers.without_rules import METHODS
from tests.conftest import config_names


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> dict[str, Any]:
    return validate(compose("config", list(overrides)))


@pytest.mark.parametrize("name", config_names("optimizer"))
def test_optimizers(name: str) -> None:
    options = composed(f"optimizer={name}")["optimizer"]
    assert options["name"] == name
    takes = RULES[name] if name in RULES else METHODS[name]
    declared = {key: h.default for key, h in takes.hyperparameters.items()}
    assert {key: options[key] for key in declared} == declared
    optimizer_factory(options)([("p", torch.nn.Parameter(torch.zeros(3)))])


@pytest.mark.parametrize("name", config_names("schedule"))
def test_schedules(name: str) -> None:
    options = composed(f"schedule={name}")["schedule"]
    assert options.pop("name") == name
    assert options == {key: h.default for key, h in SCHEDULES[name].declarations().items()}


@pytest.mark.parametrize("name", config_names("workload"))
def test_workloads(name: str) -> None:
    config = composed(f"workload={name}")
    assert config["workload"]["name"] == name
    workload = workload_of(config)
    assert workload.metric.name
    assert workload.train_size >= 1
    assert sum(p.numel() for p in drawn(workload, 0).parameters()) > 0


@pytest.mark.parametrize("name", config_names("experiment"))
def test_experiments(name: str) -> None:
    config = compose("config", [f"experiment={name}"], return_hydra_config=True)
    assert config.study != "default"
    assert config.hydra.mode.name == "MULTIRUN"
    params = OmegaConf.to_container(config.hydra.sweeper.params)
    assert params
    first = [f"{key}={str(values).split(',')[0]}" for key, values in params.items()]
    composed(f"experiment={name}", *first)


def test_every_rule_and_schedule_has_a_file() -> None:
    assert set(config_names("optimizer")) == {*RULES, *METHODS}
    assert set(config_names("schedule")) == set(SCHEDULES)


def test_epochs_have_a_default_unless_steps_are_given() -> None:
    assert composed()["trainer"]["max_epochs"] == 5
    assert composed("trainer.max_steps=10")["trainer"]["max_epochs"] is None
    both = composed("trainer.max_steps=10", "trainer.max_epochs=2")["trainer"]
    assert (both["max_steps"], both["max_epochs"]) == (10, 2)


def name_of(*overrides: str) -> str:
    config = composed("study=s", *overrides)
    same = [o for o in overrides if o.split("=")[0] in ("workload", "optimizer", "schedule")]
    directory = run_directory(config, composed(*same))
    assert directory.parent == Path(
        "runs", "s", config["workload"]["name"], config["optimizer"]["name"]
    )
    return directory.name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "lr=0.001,seed=0"),
        (["optimizer.lr=1e-3", "seed=0"], "lr=0.001,seed=0"),
        (["seed=7", "optimizer.lr=1e-5"], "lr=1e-05,seed=7"),
        (["optimizer=momentum", "optimizer.momentum=0.5"], "lr=0.001,momentum=0.5,seed=0"),
        (
            ["schedule=cosine", "schedule.warmup_steps=9"],
            "lr=0.001,schedule=cosine,warmup_steps=9,seed=0",
        ),
        (["workload.model.hidden_sizes=[64,32]"], "lr=0.001,hidden_sizes=64-32,seed=0"),
        (["trainer.max_steps=9"], "lr=0.001,max_steps=9,seed=0"),
        (["workload.batch_size=full"], "lr=0.001,batch_size=full,seed=0"),
        (["trainer.enable_progress_bar=false", "data_dir=/x"], "lr=0.001,seed=0"),
    ],
)
def test_directory_names(overrides: list[str], name: str) -> None:
    assert name_of(*overrides) == name


def test_long_names_are_cut_and_stay_different() -> None:
    long = [f"workload.model.hidden_sizes=[{','.join(['128'] * 60)},{n}]" for n in (1, 2)]
    one, two = (name_of(overrides) for overrides in long)
    assert one != two
    assert max(len(one), len(two)) <= 120


def test_digest_is_of_what_decides_the_result() -> None:
    base = digest(composed())
    assert digest(composed("study=other", "trainer.steps_per_execution=1")) == base
    for change in ("seed=1", "optimizer.lr=0.1", "workload.split_seed=1", "trainer.max_epochs=6"):
        assert digest(composed(change)) != base


@pytest.mark.parametrize("key", ADDED)
def test_a_key_that_came_later_leaves_older_runs_what_they_were(key: str) -> None:
    config = composed("workload=cifar10_cnn")
    flat = dict(leaves(config))
    assert flat.pop(key) == ADDED[key]
    assert digest(flat) == digest(config)
    assert digest(flat | {key: 0.5}) != digest(config)


def test_hyperparameters_are_numbers() -> None:
    numbers = hyperparameters(composed("schedule=step", "optimizer=momentum"))
    assert numbers["momentum"] == 0.9
    assert numbers["schedule.every"] == 1000
    assert numbers["batch_size"] == 128
    assert all(type(value) in (int, float) for value in numbers.values())


def test_settings_are_shown_as_text_and_numbers_each_once() -> None:
    config = {
        "study": "s",
        "seed": 0,
        "workload": {"name": "w", "drop_last": True, "model": {"dropout": 0.1, "sizes": [1, [2]]}},
        "optimizer": {"name": "o", "_target_": "a.B", "dropout": 0.2, "name_": None, "k": "text"},
        "schedule": {"name": "step", "gamma": 0.5},
        "trainer": {"max_epochs": None, "max_steps": 10, "patience": None, "cuda_graph": "auto"},
    }
    assert shown_settings(config) == {
        "seed": 0,
        "workload": "w",
        "drop_last": "true",
        "workload.model.dropout": 0.1,  # two have the plain name
        "sizes": "[1, [2]]",
        "optimizer": "o",
        "optimizer.dropout": 0.2,
        "k": "text",
        "schedule": "step",
        "schedule.gamma": 0.5,
        "max_steps": 10,
    }
