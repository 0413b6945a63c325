"""The way in from Python."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import bench
from bench import api, records
from bench.errors import BenchError
from tests.test_wheel import ROOT

SHORT = ("trainer.max_steps=3", "trainer.enable_progress_bar=false")


def test_a_run_as_the_command_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_data: None
) -> None:
    monkeypatch.chdir(tmp_path)
    path, variables = list(sys.path), dict(os.environ)
    one = bench.run("workload=mnist_mlp", "optimizer.lr=1e-2", "workload.val_size=1000", *SHORT)
    (place,) = tmp_path.glob("runs/default/mnist_mlp/adam/*/record.json")
    assert records.read(place) == one
    assert (one.status, one.steps, one.hyperparameters["lr"]) == ("completed", 3, 0.01)
    typed = ["workload=mnist_mlp", "optimizer.lr=1e-2", "workload.val_size=1000", *SHORT]
    assert one.search == {"sampler": "single", "prior": {}, "command": typed}
    made = place.stat().st_mtime_ns
    assert bench.run("optimizer.lr=0.01", "workload.val_size=1000", *SHORT) == one
    assert place.stat().st_mtime_ns == made
    assert bench.run("seed=1", "workload.val_size=1000", *SHORT).seed == 1
    assert (sys.path, dict(os.environ)) == (path, variables)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lrr=1", "lrr: no such key"),
        ("optimizer.lr=-1", "optimizer.lr=-1.0 is not accepted"),
        ("workload=mnist_mpl", "did you mean mnist_mlp"),
        ("seed=0,1", "several values"),
        ("workload.batch_size=100000", "at most the"),
    ],
)
def test_a_mistake_is_one_error(
    override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError, match=said):
        bench.run(override, *SHORT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_things_of_ones_own_in_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "docs/own/houses.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    own = ("study=mine", "workload._target_=houses.Houses", *SHORT)
    study = bench.sweep(*own, "optimizer.lr=1e-3,1e-2", "hydra/launcher=basic")
    assert study == Path("runs/mine")
    runs = bench.read_study(study)
    assert sorted(runs["lr"]) == [0.001, 0.01]
    assert runs["val/mae"].notna().all()
    with pytest.raises(BenchError, match="lrr: no such key"):
        bench.sweep(*own, "optimizer.lrr=1,2")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("study=a,b", "study=a,b: a sweep is of one study"),
        ("experiment=nothing", "experiment=nothing: no such choice"),
        ("study=[", "not understood"),
        ("++runs_dir=a,b", "one study"),
    ],
)
def test_a_sweep_that_has_no_study_is_not_started(
    override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError, match=re.escape(said)):
        bench.sweep(override, *SHORT)
    assert list(tmp_path.iterdir()) == []


def test_where_a_sweep_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    with api.as_a_command():
        where = {
            said: api._study_of(said.split())
            for said in (
                "seed=0,1",
                "++study=x",
                "experiment=quickstart",
                "runs_dir=r study=y -cd .",
            )
        }
    assert list(map(str, where.values())) == [
        "runs/default", "runs/x", "runs/quickstart", "r/y"
    ]  # fmt: skip


def test_a_program_keeps_its_own_hydra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_data: None
) -> None:
    (tmp_path / "own.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        bench.run("workload.val_size=1000", *SHORT)
        with pytest.raises(BenchError):
            bench.run("optimizer.lr=-1")
        assert compose("own").a == 1


def test_what_is_no_run_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError):
        bench.run("--help")
    with pytest.raises(BenchError):
        bench.run("--no-such-flag")


def test_nothing_heavy_is_imported() -> None:
    said = "import bench, sys; sys.exit(any(m in sys.modules for m in ('torch', 'hydra')))"
    subprocess.run([sys.executable, "-c", said], check=True, env=os.environ)


@pytest.mark.slow
def test_in_a_script_without_a_guard(tmp_path: Path, real_data: Callable[[str], object]) -> None:
    real_data("mnist")
    short = ", ".join(map(repr, SHORT))
    script = f"import bench\nprint(bench.sweep('seed=0,1', {short}))\n"
    (tmp_path / "script.py").write_text(script)
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "runs/default"
    assert len(list(tmp_path.glob("runs/default/mnist_mlp/adam/*/record.json"))) == 2
