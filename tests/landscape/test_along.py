"""`trainer.curvature`: what it logs, and that it changes nothing else."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from bench import continuation, curvature, records
from bench.command_line import CONF
from bench.errors import BenchError
from bench.landscape.curvature import Options, measure
from bench.landscape.objective import drawn_examples
from bench.settings.identity import digest
from bench.settings.measured import curvature_steps
from bench.settings.schema import evaluation_steps, validate
from bench.settings.workloads import workload_of
from bench.training import Run
from bench.training.plan import Plan
from tests.landscape.test_curvature import train

pytestmark = pytest.mark.usefixtures("fake_data")

SMALL = [
    *("trainer.enable_progress_bar=false", "workload.val_size=5500", "workload.batch_size=50"),
    *("workload.model.hidden_sizes=[3]", "trainer.max_epochs=2"),
]  # 10 steps an epoch


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def rows_of(directory: Path, *, measured: bool) -> list[dict[str, float]]:
    """Of metrics.csv, without times and what is empty: those of curvature, or all others."""
    with open(directory / "metrics.csv", newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in rows
        if ("curvature/sharpness" in row) == measured
    ]


def checkpoint(directory: Path) -> Any:
    return torch.load(directory / "checkpoints/last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    "extra",
    [
        ["workload.model.dropout=0.5"],
        ["workload.val_size=0", "trainer.steps_per_execution=1", "trainer.max_steps=7"],
        ["trainer.precision=bf16-true"],
        pytest.param(
            ["workload=cifar10_cnn", "workload.model.channels=[4]"], marks=pytest.mark.slow
        ),
        ["trainer.ema_decay=0.5", "trainer.evaluations=6", "optimizer=nesterov"],
    ],
    ids=str,
)
def test_training_goes_on_as_if_nothing_were_measured(tmp_path: Path, extra: list[str]) -> None:
    plain, measured = train(tmp_path / "a", [*SMALL, *extra]) + train(
        tmp_path / "b", [*SMALL, *extra, "trainer.curvature=2"]
    )
    one, other = checkpoint(plain), checkpoint(measured)
    for name, x in one["state_dict"].items():
        assert torch.equal(x, other["state_dict"][name]), name
    assert one["bench"]["random"]["python"] == other["bench"]["random"]["python"]
    assert one["bench"]["random"]["numpy"] == other["bench"]["random"]["numpy"]
    assert torch.equal(one["bench"]["random"]["cpu"], other["bench"]["random"]["cpu"])
    assert rows_of(plain, measured=False) == rows_of(measured, measured=False)
    assert len(rows_of(measured, measured=True)) == (1 if "workload.val_size=0" in extra else 2)


def test_what_is_logged_is_the_curvature_there(tmp_path: Path) -> None:
    """Against `bench.curvature` on all training examples, at the last step."""
    (directory,) = train(tmp_path, [*SMALL, "trainer.curvature=2", "workload.l2=0.01"])
    *_, last = rows_of(directory, measured=True)
    record, found = measure(directory, Options(probes=20, coordinates=2))
    assert drawn_examples(workload_of(record.config), 1000, 0) is None
    assert last["step"] == record.steps == 20
    assert last["curvature/sharpness"] == pytest.approx(found.top[0], rel=2e-3)
    assert last["curvature/trace"] == pytest.approx(found.trace, rel=1e-4)
    assert last["curvature/trace_error"] == pytest.approx(found.trace_error, rel=1e-3)
    assert last["curvature/gradient_norm"] == pytest.approx(found.gradient_norm, rel=1e-4)
    assert last["curvature/alignment"] == pytest.approx(found.gradient_alignment, abs=0.01)
    assert record.metrics["curvature/sharpness"] == last["curvature/sharpness"]


def test_runs_of_a_stack_are_measured_each(tmp_path: Path) -> None:
    runs = [[*SMALL, "trainer.curvature=1", f"seed={seed}"] for seed in (0, 1)]
    together = train(tmp_path / "stack", *runs)
    alone = [train(tmp_path / f"alone{n}", run)[0] for n, run in enumerate(runs)]
    for one, other in zip(together, alone, strict=True):
        (found,), (expected,) = rows_of(one, measured=True), rows_of(other, measured=True)
        assert found == pytest.approx(expected, rel=3e-3)
    assert records.read(together[0] / "record.json").timing["runs_together"] == 2


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ([], []),
        (["trainer.curvature=2"], [10, 20]),
        (["trainer.curvature=1"], [20]),
        (["trainer.curvature=9"], [10, 20]),
        (["trainer.curvature=2", "trainer.max_steps=17"], [10, 17]),
        (["trainer.curvature=3", "trainer.max_steps=4"], [4]),
        (["trainer.curvature=3", "trainer.val_check_interval=3"], [3, 9, 20]),
        (["trainer.curvature=3", "trainer.max_epochs=101"], [10, 510, 1010]),
    ],
    ids=str,
)
def test_when_it_is_measured(said: list[str], steps: list[int]) -> None:
    usual = ["workload=quadratic", "workload.steps=10", "trainer.max_epochs=2"]
    assert curvature_steps(validate(compose("config", [*usual, *said]))) == steps


def test_it_is_measured_where_the_run_is_evaluated() -> None:
    said = [*SMALL, "trainer.evaluations=20", "trainer.curvature=5", "trainer.max_steps=500"]
    config = validate(compose("config", said))
    evaluated, chosen = evaluation_steps(config) or [], curvature_steps(config)
    assert len(chosen) == 5
    assert set(chosen) <= set(evaluated)
    assert (chosen[0], chosen[-1]) == (evaluated[0], 500)
    plan = Plan.of(config, workload_of(config), seeds=[0])
    assert plan.curved == set(chosen)


def test_it_is_another_run_only_where_it_is_measured() -> None:
    configs = [validate(compose("config", said)) for said in ([], ["trainer.curvature=3"])]
    without = validate(compose("config"))
    del without["trainer"]["curvature"]  # an older record
    assert digest(configs[0]) == digest(without) != digest(configs[1])


def test_a_longer_run_does_not_go_on_from_one_measured_elsewhere(tmp_path: Path) -> None:
    said = [*SMALL, "trainer.curvature=2", "trainer.max_epochs=2"]
    shorter = tmp_path / "max_epochs=2,seed=0"
    shorter.mkdir()
    Run([validate(compose("config", said))], [shorter]).train()
    longer = validate(compose("config", [*said, "trainer.max_epochs=4", "trainer.resume=true"]))
    record = records.read(shorter / "record.json")
    start = continuation.find(longer, tmp_path / "max_epochs=4,seed=0", record.environment)
    assert start.directory is None
    assert "trainer.curvature=2" in start.line


def test_a_figure_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = ["workload=quadratic", "trainer.max_steps=20", "trainer.enable_progress_bar=false"]
    for n, optimizer in enumerate(("sgd", "adam")):
        said = [f"optimizer={optimizer}", "trainer.evaluations=4", "trainer.curvature=4"]
        train(tmp_path / f"s/{n}", [*usual, *said, "optimizer.lr=0.5"])
    assert curvature.main([str(tmp_path / "s"), "--along"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "quadratic, adam, lr 0.5, seed 0: sharpness 1 at step 1, 1 at step 20"
        if "adam" in said[0]
        else "quadratic, sgd, lr 0.5, seed 0: sharpness 1 at step 1, 1 at step 20; bound 4: "
        "last / bound 0.25, largest / bound 0.25"
    )
    assert "bound 4" in (tmp_path / "s/curvature.svg").read_text()
    assert not list(tmp_path.rglob("curvature.json"))


def test_a_loss_without_second_derivatives_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError("this operator has none")

    monkeypatch.setattr("bench.landscape.objective.vjp", refuse)
    config = validate(compose("config", [*SMALL, "trainer.curvature=1"]))
    (tmp_path / "0").mkdir()
    with pytest.raises(BenchError, match=r"trainer\.curvature: .* twice .*this operator has none"):
        Run([config], [tmp_path / "0"]).train()
