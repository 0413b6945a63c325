"""Sweeps from the shell on real digits: parallel, started again, interrupted, and shown."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import records
from bench.data import Dataset
from bench.sweeps import outcome
from bench.sweeps.executors.local import MOST_STUCK, Deaths, gpu_in_turn

ROOT = Path(__file__).parents[1]
SWEEP = ["-m", "study=s", "optimizer=momentum,adam", "optimizer.lr=1e-3,1e20", "seed=0,1"]
SHORT = ["trainer.max_steps=20", "workload.val_size=1000"]


@pytest.fixture(autouse=True)
def mnist(real_data: Callable[[str], Dataset]) -> None:
    real_data("mnist")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench", *arguments]


def bench(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command(*arguments), cwd=place, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where the sweep was made once."""
    place = tmp_path_factory.mktemp("swept")
    made = bench(place, *SWEEP, *SHORT)
    assert made.returncode == 0, made.stderr
    return place


def test_it_ends_with_its_table_and_where_to_see_more(swept: Path) -> None:
    """Though nothing is to be run; without PyTorch in the process that shows it."""
    code = (
        f"import sys; sys.argv[1:] = {[*SWEEP, *SHORT]}\nfrom bench.__main__ import main\n"
        "main(); assert 'torch' not in sys.modules"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=swept, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "8 runs, already made; nothing to run -> runs/s" in made.stderr
    assert "mnist_mlp; momentum, adam; lr 0.001, 1e+20; 20 steps; seeds 0, 1" in made.stderr
    assert "\x1b" not in made.stdout + made.stderr
    assert made.stdout.isascii()
    assert re.search(r"adam +\|? *0.001 *\|? *\d\d\.\d\d \+- ", made.stdout)
    *_, report, curves = made.stdout.splitlines()
    assert report == "report:  python -m bench.report runs/s"
    assert curves == "curves:  tensorboard --logdir runs/tensorboard/s"


@pytest.mark.parametrize("error", [KeyError("broken"), KeyboardInterrupt()])
def test_what_goes_wrong_with_the_table_is_a_note(
    swept: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(*_: Any) -> None:
        raise error

    notes = StringIO()
    monkeypatch.setattr("bench.report.terminal.show", fail)
    assert not outcome.show([swept / "runs" / "s"], Console(file=notes))
    assert "no table here" in notes.getvalue()
    assert "python -m bench.report" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(outcome, "MOST_RUNS", 7)
    assert not outcome.show([swept / "runs" / "s"], Console(file=notes))


def times(place: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in place.glob("runs/**/record.json")}


def test_every_run_of_the_sweep_has_its_record(swept: Path) -> None:
    found = [records.read(path) for path in sorted(times(swept))]
    assert len(found) == 8
    assert {(r.optimizer, r.hyperparameters["lr"], r.seed) for r in found} == {
        (o, lr, s) for o in ("momentum", "adam") for lr in (1e-3, 1e20) for s in (0, 1)
    }
    status = {r.hyperparameters["lr"]: r.status for r in found if r.optimizer == "momentum"}
    assert status == {1e-3: "completed", 1e20: "diverged"}
    assert {r.environment["threads"] for r in found} == {1}


OWN = """
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger

class Marks(Callback):
    def on_train_end(self, trainer, module):
        open(f"{module.members[0].config['seed']}.mark", "w").close()
"""


@pytest.mark.slow
def test_callbacks_and_loggers_of_a_persons_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    own = ["trainer.callbacks=[own.Marks]", "trainer.loggers=[own.CSVLogger]"]
    sweep = ["-m", "study=s", "seed=0,1", "hydra/launcher=stacked", *SHORT]
    made = bench(tmp_path, *sweep, *own)
    assert made.returncode == 0, made.stderr
    assert "not stacked: callbacks and loggers are a run's own" in made.stderr
    assert {path.name for path in tmp_path.glob("*.mark")} == {"0.mark", "1.mark"}
    assert len(list(tmp_path.glob("runs/s/**/lightning_logs/version_0/metrics.csv"))) == 2
    refused = bench(tmp_path, *sweep, "study=t", "trainer.callbacks=[own.Nothing]")
    assert refused.returncode == 1
    assert "own.Nothing" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "runs" / "t").exists()


@pytest.mark.slow
def test_again_runs_what_is_missing_and_nothing_else(swept: Path) -> None:
    before = times(swept)
    again = bench(swept, *SWEEP, *SHORT)
    assert again.returncode == 0
    assert "nothing to run" in again.stderr
    assert times(swept) == before
    gone = next(iter(before))
    gone.unlink()
    assert "8 runs, 7 of them already made" in bench(swept, *SWEEP, *SHORT).stderr
    after = times(swept)
    assert {path for path in before if after[path] != before[path]} == {gone}


@pytest.mark.slow
def test_longer_runs_go_on_from_those_that_can_be_continued(tmp_path: Path) -> None:
    sweep = ["-m", "study=s", "optimizer.lr=1e-3,1e20", *SHORT[1:], "hydra.launcher.n_jobs=1"]
    steps = "trainer.max_steps=20", "trainer.max_steps=40"
    alone, stacked = ("hydra/launcher=parallel", "seed=0"), ("hydra/launcher=stacked", "seed=1")
    for launcher in (alone, stacked):
        assert bench(tmp_path, *sweep, *launcher, steps[0]).returncode == 0
    made = bench(tmp_path, *sweep, "seed=0,1", steps[1], "trainer.resume=true")
    assert made.returncode == 0, made.stderr
    assert "2 run(s) go on from shorter ones, each alone" in made.stderr
    found = [records.read(path) for path in tmp_path.glob("runs/**/*max_steps=40*/record.json")]
    assert {r.seed for r in found if "resumed_at_step" in r.timing} == {0}
    assert {r.timing["runs_together"] for r in found if r.seed == 1} == {2}
    assert {r.status for r in found if r.hyperparameters["lr"] == 1e20} == {"diverged"}


def test_parallel_and_serial_give_the_same_curves(swept: Path, tmp_path: Path) -> None:
    serial = ["hydra/launcher=basic", "trainer.threads=1", "seed=0", "optimizer=adam"]
    one = bench(tmp_path, "study=s", *serial, *SHORT)
    assert one.returncode == 0, one.stderr
    (alone,) = tmp_path.glob("runs/s/mnist_mlp/adam/*/record.json")
    (parallel,) = swept.glob("runs/s/mnist_mlp/adam/lr=0.001,*seed=0/record.json")
    # in a stack, on some processors, in another order of sums
    expected = pytest.approx(records.read(alone).metrics, rel=1e-5)
    assert records.read(parallel).metrics == expected


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    made = bench(
        tmp_path, "-m", "study=f", *SHORT, "optimizer._target_=torch.optim.SGD",
        "optimizer.lr=0.1,text",
    )  # fmt: skip
    assert made.returncode == 1
    assert "1 of 2 runs failed" in made.stderr
    assert "Traceback" not in made.stderr
    statuses = [records.read(path).status for path in times(tmp_path)]
    assert sorted(statuses) == ["completed", "failed"]


@pytest.mark.parametrize(("visible", "seen"), [(None, ["0", "1", "0"]), ("2,5", ["2", "5", "2"])])
def test_gpus_are_taken_in_turn(
    visible: str | None, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu_in_turn(turn, 2) for turn in range(3)] == seen


def test_interrupted_it_goes_on(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = ["-m", "study=s", "seed=range(0,6)", "trainer.max_steps=600"]
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not times(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "goes on" in message
    assert "Traceback" not in message
    done = times(tmp_path)
    assert 1 <= len(done) < 6
    assert bench(tmp_path, *arguments).returncode == 0
    after = times(tmp_path)
    assert len(after) == 6
    assert all(after[path] == done[path] for path in done)


def test_interrupted_at_a_terminal_it_ends_at_once(tmp_path: Path) -> None:
    """There ^C reaches the workers, too."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = ["-m", "study=s", "seed=range(0,6)", "trainer.max_epochs=1000"]
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/**/events*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=20)  # until all that could write have ended
    assert process.returncode == 130
    assert "goes on" in message
    assert "Traceback" not in message
    assert not times(tmp_path)


@pytest.fixture
def tensorboard(swept: Path) -> str:
    """The address of a TensorBoard that shows the sweep."""
    from tensorboard import program

    board = program.TensorBoard()
    board.configure(argv=[None, "--logdir", str(swept / "runs/s"), "--load_fast=false"])
    return board.launch()


@pytest.mark.filterwarnings("ignore")  # of the server's own libraries
def test_tensorboard_shows_every_run_and_its_hyperparameters(tensorboard: str) -> None:
    def get(path: str, **query: str) -> Any:
        address = f"{tensorboard}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            return json.load(answer)

    deadline = time.monotonic() + 60
    while len(get("data/runs")) < 11 and time.monotonic() < deadline:
        time.sleep(0.5)
    names = get("data/runs")
    overview = {"report/momentum", "report/adam", "report/figures"}  # made as the sweep went on
    assert overview < set(names)
    assert len(names) == 8 + len(overview)
    assert "mnist_mlp/adam/lr=0.001,max_steps=20,val_size=1000,seed=0" in names

    experiment = get("data/plugin/hparams/experiment", request=json.dumps({}))
    hyperparameters = [info["name"] for info in experiment["hparamInfos"]]
    assert len(set(hyperparameters)) == len(hyperparameters)
    assert {"lr", "momentum", "beta1", "beta2", "weight_decay", "seed"} <= set(hyperparameters)
    assert {"init", "hidden_sizes", "max_steps"} <= set(hyperparameters)
    metrics = [info["name"] for info in experiment["metricInfos"]]
    assert {metric["tag"] for metric in metrics} == {
        *("end/best accuracy", "end/steps to target", "test/accuracy")
    }
    request = {
        "startIndex": 0,
        "sliceSize": 100,
        "colParams": [{"metric": metric, "order": "ORDER_UNSPECIFIED"} for metric in metrics],
        "allowedStatuses": [
            "STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING",
        ],
    }  # fmt: skip
    groups = get("data/plugin/hparams/session_groups", request=json.dumps(request))
    assert len(groups["sessionGroups"]) == 8
    shown = {group["hparams"]["optimizer"] for group in groups["sessionGroups"]}
    assert shown == {"momentum", "adam"}
    momentum = next(g for g in groups["sessionGroups"] if g["hparams"]["optimizer"] == "momentum")
    assert momentum["hparams"]["momentum"] == 0.9
    assert momentum["hparams"]["hidden_sizes"] == "[128, 128]"
    assert momentum["hparams"]["max_steps"] == 20


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_two_processes_train_as_one(tmp_path: Path, sweep: list[str]) -> None:
    """DDP on the CPU: each process takes half of every batch, and gradients are averaged."""
    common = ["trainer.max_steps=50", "trainer.accelerator=cpu", "optimizer=momentum"]
    common += ["trainer.evaluations=4"]
    for devices in (1, 2):
        made = bench(tmp_path, *sweep, f"study=d{devices}", f"trainer.devices={devices}", *common)
        assert made.returncode == 0, made.stderr
    one, two = (
        records.read(next(tmp_path.glob(f"runs/d{devices}/*/*/*/record.json")))
        for devices in (1, 2)
    )
    assert two.steps == one.steps == 50
    for name in ("train/loss", "val/loss", "test/loss"):
        assert two.metrics[name] == pytest.approx(one.metrics[name], rel=1e-4)


def test_a_task_fails_once_its_processes_die_at_the_same_place() -> None:
    """As long as it goes further it goes on."""
    deaths = Deaths()
    assert [deaths.another(steps) for steps in (0, 0, 50, 50, 40, 120, 300)] == [
        1,
        2,
        1,
        2,
        3,
        1,
        1,
    ]
    deaths = Deaths()
    assert [deaths.another(0) for _ in range(3)] == [1, 2, MOST_STUCK + 1]
