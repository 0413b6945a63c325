"""Slices of a loss: against closed forms, and against what runs recorded."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from bench import records, slices
from bench.command_line import CONF
from bench.errors import BenchError
from bench.landscape.slices import Solution, barrier, between, direction, line, per_filter, plane
from bench.settings.schema import validate
from bench.settings.workloads import workload_of
from tests.landscape.test_curvature import ON_A_FUNCTION, SMALL, train

pytestmark = pytest.mark.usefixtures("fake_data")

PLACES = np.linspace(-1, 1, 9)


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def solution(directory: Path, examples: int = 100_000, seed: int = 0) -> Solution:
    return Solution.of(directory, examples=examples, seed=seed)


@pytest.mark.parametrize("extra", [[], ["trainer.ema_decay=0.5"], ["workload.model.dropout=0.5"]])
def test_what_was_scored_is_at_the_weights(tmp_path: Path, extra: list[str]) -> None:
    (directory,) = train(tmp_path, [*SMALL, *extra])
    record = records.read(directory / "record.json")
    found = solution(directory)
    along = direction(found.objectives["train"], 0)
    values = line(found, along, PLACES)
    assert values.keys() == {"train/loss", "train/accuracy", "val/loss", "val/accuracy"}
    for name in ("val/loss", "val/accuracy"):
        assert values[name][4] == pytest.approx(record.metrics[name], rel=1e-5)
    surface = plane(found, along, direction(found.objectives["train"], 1), PLACES)
    assert surface["train/loss"].shape == (9, 9)
    assert surface["train/loss"][4] == pytest.approx(values["train/loss"])  # [Y, X]
    again = line(solution(directory), along, PLACES)
    assert (again["train/loss"] == values["train/loss"]).all()
    other = line(solution(directory, examples=50, seed=1), along, PLACES)
    assert (other["train/loss"] != values["train/loss"]).any()


def test_filters_of_a_direction_are_as_long_as_the_weights(tmp_path: Path) -> None:
    said = ["workload=cifar10_cnn", "workload.model.channels=[2]", "trainer.max_steps=1"]
    (directory,) = train(tmp_path, [*said, "workload.val_size=5900", *SMALL[:1]])
    objective = solution(directory).objectives["train"]
    named = {n: objective.named(direction(objective, n)) for n in (0, 1)}
    weights = objective.named(objective.at)
    for name, x in named[0].items():
        if x.ndim > 1:
            assert torch.allclose(per_filter(x), per_filter(weights[name]))
            assert per_filter(x).numel() == len(x)
            assert not torch.equal(x, named[1][name])
        else:
            assert not x.any()


def test_a_quadratic_s_slices_are_parabolas(tmp_path: Path) -> None:
    run = [*ON_A_FUNCTION, "optimizer=sgd", "optimizer.lr=0.5", "workload.spread=1"]
    one, other = train(tmp_path / "1", [*run]) + train(tmp_path / "2", [*run, "seed=1"])
    ends = [solution(run) for run in (one, other)]
    a, b = (end.at.double().numpy() for end in ends)
    config = validate(compose("config", run))
    matrix = workload_of(config).hessian()  # type: ignore[attr-defined]
    along = direction(ends[0].objectives["train"], 3)
    assert float(along.norm()) == pytest.approx(float(ends[0].at.norm()), rel=1e-5)
    values, d = line(ends[0], along, PLACES)["train/value"], along.double().numpy()
    expected = [(a + t * d) @ matrix @ (a + t * d) / 2 for t in PLACES]
    assert values == pytest.approx(np.array(expected), rel=1e-4)
    way = np.linspace(0, 1, 5)
    found = between(*ends, way)["val/value"]
    assert found == pytest.approx(
        np.array([(a + t * (b - a)) @ matrix @ (a + t * (b - a)) / 2 for t in way]), rel=1e-4
    )
    assert barrier(way, found)[0] == 0  # it is convex


def test_a_barrier_is_above_the_straight_line() -> None:
    places = np.linspace(-0.5, 1.5, 9)
    values = np.array([9.0, 9.0, 1.0, 1.0, 4.0, 3.0, 2.0, 9.0, 9.0])
    assert barrier(places, values) == (2.5, 0.5)
    values[3] = np.nan
    assert barrier(places, values) == (np.inf, 0.25)


def test_the_command_draws_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = train(tmp_path, *([*SMALL, f"seed={seed}"] for seed in (0, 1)))
    small = ["--points", "5", "--grid", "3", "--examples", "50"]
    assert slices.main([str(one), str(other), *small]) == 0
    said = capsys.readouterr().out
    assert "the validation loss exceeds the straight line between its ends by" in said
    assert "along a random direction the training loss is" in said
    drawn = {"between", "line", "plane"}
    assert {p.name for p in (one / "slices").iterdir()} == {
        "slices.json",
        *(f"{name}.{kind}" for name in drawn for kind in ("png", "svg", "pdf")),
    }
    content = json.loads((one / "slices/slices.json").read_text())
    ids = [records.read(run / "record.json").id for run in (one, other)]
    assert [content["id"], content["other"]] == ids
    assert content["train_examples"] == 50
    assert 0.0 in content["between"]["at"]
    at, losses = (content["between"][name] for name in ("at", "train/loss"))
    assert losses[at.index(0)] == content["line"]["train/loss"][2]
    assert np.shape(content["plane"]["train/accuracy"]) == (3, 3)
    assert slices.main([str(other), *small, "--output", str(tmp_path / "there")]) == 0
    assert not (tmp_path / "there/between.png").exists()
    assert (tmp_path / "there/plane.svg").exists()


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, wider = train(tmp_path / "1", [*SMALL]) + train(
        tmp_path / "2", [*SMALL, "workload.model.hidden_sizes=[4]", "workload.batch_size=7"]
    )
    assert slices.main([str(one), str(wider)]) == 1
    error = capsys.readouterr().err
    assert "workload.model.hidden_sizes is [3] and [4]" in error
    assert "batch_size" not in error
    assert slices.main([str(tmp_path / "nowhere")]) == 1
    assert "not the directory of a run that has ended" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    few = ["--points", "2", "--grid", "2", "--output", str(tmp_path / "file")]
    assert slices.main([str(one), *few]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert not (one / "slices").exists()
    with pytest.raises(BenchError, match="no way from one run to the other"):
        between(solution(one), solution(wider), PLACES)
