"""Gradient descent on least squares does what the theory says, to the last digits."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import nn

from bench import load_model
from bench.command_line import CONF
from bench.data import cache
from bench.data.specs import DIABETES
from bench.errors import BenchError
from bench.gradcheck import check
from bench.records import Record
from bench.settings.schema import validate
from bench.settings.workloads import workload_of
from bench.training import Run
from bench.workloads import LinearRegression
from bench.workloads.models import drawn, loaded
from bench.workloads.workload import Place
from tests.data.fake_data import fake_cache

DESCENT = [
    "optimizer=sgd",
    "workload.batch_size=full",
    "trainer.check_val_every_n_epoch=1000",
    "trainer.log_every_n_steps=1000",
]
SHORT = ["optimizer=sgd", "optimizer.lr=0.01", "trainer.max_epochs=3"]


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake_cache("diabetes", tmp_path / "data", monkeypatch)
    return tmp_path / "data"


@pytest.fixture(params=["made up", "real"])
def data_dir(request: pytest.FixtureRequest) -> Path | None:
    if request.param == "made up":
        return cast("Path", request.getfixturevalue("fake"))
    try:
        cache.obtain(DIABETES, None)
    except BenchError as error:
        pytest.skip(str(error))
    return None


def regression(data_dir: Path | None, **fields: Any) -> LinearRegression:
    workload = LinearRegression(name="linear_regression", **fields)
    workload.data_dir = data_dir  # type: ignore[misc]
    return workload


def train(data_dir: Path | None, place: Path, *runs: list[str]) -> list[Record]:
    usual = ["workload=linear_regression", "trainer.enable_progress_bar=false"]
    where = [] if data_dir is None else [f"data_dir={data_dir}"]
    configs = [validate(compose("config", [*usual, *where, *overrides])) for overrides in runs]
    directories = [place / str(n) for n in range(len(runs))]
    for directory in directories:
        directory.mkdir(parents=True)
    return Run(configs, directories).train()


def descend(data_dir: Path | None, place: Path, lr: float, steps: int, *more: str) -> Record:
    options = [*DESCENT, f"optimizer.lr={lr!r}", f"trainer.max_steps={steps}", *more]
    (record,) = train(data_dir, place, options)
    return record


def by_hand(data_dir: Path | None, scaling: str = "feature") -> tuple[Any, Any]:
    """The training examples of split seed 0, float64, with a column of ones."""
    table = cache.obtain(DIABETES, data_dir)
    kept = np.arange(DIABETES.rows) % 5 != 4
    x, y = (table[name][kept] for name in ("features", "target"))
    state = int(np.random.SeedSequence(0).generate_state(1, np.uint64)[0])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(state)).numpy()
    train = np.sort(order[44:])
    x, y = x[train], y[train]
    if scaling == "feature":
        x = (x - x.mean(0)) / x.std(0)
    return np.hstack([x, np.ones((len(x), 1))]), y


# --- against the closed form ----------------------------------------------------------------


def test_curvature_is_that_of_the_hessian(data_dir: Path | None) -> None:
    condition = {}
    for scaling in ("feature", "none"):
        x, _ = by_hand(data_dir, scaling)
        low, high = regression(data_dir, feature_scaling=scaling).curvature()
        eigenvalues = np.linalg.eigvalsh(2 * x.T @ x / len(x))
        assert high == pytest.approx(eigenvalues[-1], rel=1e-9)
        assert low == pytest.approx(eigenvalues[0], rel=1e-6)
        condition[scaling] = high / low
    assert condition["none"] > 1000 * condition["feature"]


@pytest.mark.parametrize("precision", [pytest.param("64-true", marks=pytest.mark.slow), "32-true"])
def test_the_best_step_reaches_the_closed_form(
    data_dir: Path | None, precision: str, tmp_path: Path
) -> None:
    low, high = regression(data_dir).curvature()
    rate = (high - low) / (high + low)  # by which the distance shrinks at each step, at most
    x, y = by_hand(data_dir)
    best = np.linalg.lstsq(x, y)[0]
    least = np.square(x @ best - y).mean()
    start = (np.square(y).mean() - least) / least  # from zeros
    steps = int(np.ceil(np.log(start / 1e-6) / -np.log(rate) / 2))
    more = f"trainer.precision={precision}"
    record = descend(data_dir, tmp_path / "run", 2 / (low + high), steps, more)
    excess = record.metrics["train/excess"]
    assert excess is not None
    assert -1e-12 < excess < 1e-6
    model = load_model(tmp_path / "run" / "0").double()  # on features as they are in the table
    table = cache.obtain(DIABETES, data_dir)
    tested = {name: torch.from_numpy(table[name][4::5]) for name in table}
    mse = (model(tested["features"]) - tested["target"]).square().mean().item()
    assert mse == pytest.approx(record.metrics["test/mse"], rel=1e-4)
    assert record.metrics["test/mse"] == record.metrics["test/loss"]


def test_the_largest_step_that_converges(data_dir: Path | None, tmp_path: Path) -> None:
    workload = regression(data_dir)
    _, high = workload.curvature()
    start = workload.remarks(workload.build(0))["train/excess"]
    excess = {}
    for share in (0.99, 1.01):
        record = descend(data_dir, tmp_path / str(share), share * 2 / high, 300)
        excess[share] = record.metrics["train/excess"] or 0.0
    assert 0 < excess[0.99] < start / 10
    assert excess[1.01] > 10 * start  # 1.02**600 is 144,000, of what lies in that direction
    beyond = descend(data_dir, tmp_path / "beyond", 1.5 * 2 / high, 100)
    assert beyond.status == "diverged"


def test_excess_at_the_minimum_and_beside_it(data_dir: Path | None) -> None:
    x, y = by_hand(data_dir)
    best = np.linalg.lstsq(x, y)[0]
    least = np.square(x @ best - y).mean()
    workload = regression(data_dir)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for moved in (0.0, 3.0):
            weights = torch.from_numpy(best + moved * np.eye(len(best))[-1]).to(dtype)
            model = workload.build(0).to(dtype)
            nn.utils.vector_to_parameters(weights, model.parameters())
            (excess,) = workload.remarks(model).values()
            loss = np.square(x @ weights.double().numpy() - y).mean()
            assert excess == pytest.approx(loss / least - 1, rel=1e-9, abs=1e-12)
            assert next(model.parameters()).dtype == dtype
            if dtype == torch.float64:
                assert excess == pytest.approx(moved**2 / least, rel=1e-9, abs=1e-12)


def test_what_is_known_of_the_real_table() -> None:
    try:
        target = cache.obtain(DIABETES, None)["target"]
    except BenchError as error:
        pytest.skip(str(error))
    chance = regression(None).metric.chance
    assert chance == pytest.approx(np.delete(target, slice(4, None, 5)).var(), rel=1e-6)


# --- data -----------------------------------------------------------------------------------


def test_statistics_are_those_of_the_training_split(fake: Path) -> None:
    x, y = by_hand(fake)
    workload = regression(fake)
    loaded(workload, Place(torch.device("cpu"), torch.float64))
    batches = {split: workload.batch(slice(None), split) for split in ("train", "val", "test")}
    assert np.allclose(batches["train"]["features"], x[:, :-1], rtol=1e-12, atol=1e-12)
    assert torch.equal(batches["train"]["target"], torch.from_numpy(y))
    sizes = {split: len(batch["target"]) for split, batch in batches.items()}
    assert sizes == {"train": 310, "val": 44, "test": 88}
    assert sizes == {split: workload.size(split) for split in sizes}
    assert batches["val"]["features"].mean(0).abs().max() > 1e-3


def test_a_feature_that_is_constant_becomes_zero(fake: Path) -> None:
    workload = regression(fake)
    arrays = {s: {n: x.copy() for n, x in a.items()} for s, a in workload.arrays().items()}
    arrays["train"]["features"][:, 3] = 7
    workload.arrays = lambda: arrays  # type: ignore[method-assign]
    loaded(workload, Place(torch.device("cpu"), torch.float32))
    for split in ("train", "val", "test"):
        assert not workload.batch(slice(None), split)["features"][:, 3].any()


def test_planning_needs_neither_torch_nor_data() -> None:
    code = """if True:
        import sys
        from bench.workloads import LinearRegression
        workload = LinearRegression(name="x")
        workload.check()
        assert (workload.train_size, workload.size("test"), workload.validates) == (310, 88, True)
        assert workload.checksum and workload.stacks() is None
        sys.exit("torch" in sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


# --- in training ----------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["workload.batch_size=7"], ["workload.val_size=0"]])
def test_minibatches(fake: Path, tmp_path: Path, more: list[str]) -> None:
    (record,) = train(fake, tmp_path / "run", [*SHORT, *more])
    assert record.status == "completed"
    assert record.metrics["test/mse"] is not None
    assert ("val/mse" in record.metrics) == ("workload.val_size=0" not in more)
    assert record.metric["unit"] == ""
    assert not record.metric["higher_is_better"]


def test_a_stack_trains_what_a_run_alone_does(fake: Path, tmp_path: Path) -> None:
    runs = [[*SHORT, "workload.init=default", f"optimizer.lr={lr}"] for lr in (0.01, 0.03)]
    together = train(fake, tmp_path / "together", *runs)
    for n, (options, stacked) in enumerate(zip(runs, together, strict=True)):
        (alone,) = train(fake, tmp_path / f"alone{n}", options)
        assert stacked.timing["runs_together"] == 2
        for name in ("val/mse", "test/mse", "train/excess"):
            assert stacked.metrics[name] == pytest.approx(alone.metrics[name], rel=1e-4), name


def test_precisions_one_after_another(fake: Path, tmp_path: Path) -> None:
    """The data of the last run are still in memory, in its dtype."""
    for precision in ("64-true", "32-true", "bf16-true"):
        options = [*SHORT, f"trainer.precision={precision}"]
        (record,) = train(fake, tmp_path / precision, options)
        assert record.status == "completed"


def test_the_start(fake: Path) -> None:
    def weights(init: str, seed: int) -> torch.Tensor:
        return torch.cat(
            [p.flatten() for p in drawn(regression(fake, init=init), seed).parameters()]
        )

    assert not weights("zeros", 3).any()
    assert weights("default", 0).all()
    assert not torch.equal(weights("default", 0), weights("default", 1))


def test_gradients(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bench.settings.workloads.workload_of",
        lambda config: workload_of({**config, "data_dir": str(fake)}),
    )
    result = check("linear_regression")
    assert result.passed
    assert (result.parameters, result.error < 1e-7) == (11, True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("workload.init=ones", r"workload\.init='ones' is not accepted: .*'zeros', 'default'"),
        ("workload.feature_scaling=unit", r"workload\.feature_scaling='unit' .*'none', 'feature'"),
        ("workload.val_size=354", "workload.val_size=354: must leave training samples; .* has 354"),
        ("workload.val_size=-1", "workload.val_size=-1"),
        ("workload.batch_size=311", "workload.batch_size=311: at most the 310 training samples"),
        ("workload.dataset=mnist", "workload.dataset"),
    ],
)
def test_what_is_not_accepted(
    shell: Callable[..., tuple[int, str]], tmp_path: Path, override: str, message: str
) -> None:
    GlobalHydra.instance().clear()
    status, said = shell("workload=linear_regression", override)
    assert status == 1
    assert len(said.splitlines()) == 1
    assert re.search(message, said), said
    assert not list(tmp_path.iterdir())
