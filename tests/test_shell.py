"""What a person's own class is called, what stands in whose way, and what odd input does."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from bench import records
from bench.command_line import CONF
from bench.errors import BenchError
from bench.fuzz import invocations
from bench.runs import fail
from bench.settings.identity import digest
from bench.settings.jobs import Job, plan, split
from bench.settings.messages import COUNTERPARTS
from bench.sweeps.stacking import refusal
from bench.training.memory import least_bytes, refuse_what_cannot_fit

Shell = Callable[..., tuple[int, str]]


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture
def planned(loader: ConfigLoader) -> Callable[..., Job]:
    def make(*overrides: str) -> Job:
        return plan(*split(loader.load_configuration("config", list(overrides), RunMode.RUN)))

    return make


NAMES = [
    ("optimizer=adam", "adam/lr=0.001,seed=0", "adam"),
    ("optimizer=adam optimizer.beta1=0.5", "adam/lr=0.001,beta1=0.5,seed=0", "adam"),
    ("optimizer=custom optimizer._target_=a.B", "a.B/seed=0", "a.B"),
    ("optimizer=custom optimizer._target_=a.B optimizer.x=1", "a.B/x=1,seed=0", "a.B"),
    ("optimizer=adam optimizer._target_=a.Adam", "a.Adam/lr=0.001,seed=0", "a.Adam"),
    ("optimizer=adam optimizer._target_=a.B optimizer.eps=1", "a.B/lr=0.001,eps=1.0,seed=0", "a.B"),
    ("optimizer=custom optimizer._target_=a.B optimizer.name=adam", "a.B/seed=0", "a.B"),
]


@pytest.mark.parametrize(("said", "place", "name"), NAMES)
def test_an_own_class_has_its_own_name(
    planned: Callable[..., Job], said: str, place: str, name: str
) -> None:
    job = planned(*said.split())
    assert job.directory == Path("runs/default/mnist_mlp", place)
    assert job.config["optimizer"]["name"] == name
    rule = refusal(job.config) is None
    assert rule == (name == "adam")


# As the version before this one made them.
DIGESTS = {
    "optimizer=adam": "4433533212872a82",
    "optimizer=custom optimizer._target_=torch.optim.NAdam optimizer.lr=0.1": "99be3bdf9836f58a",
    "workload=cifar10_cnn optimizer=momentum schedule=cosine": "c0ace4b8955c16b7",
}


@pytest.mark.parametrize("said", DIGESTS)
def test_runs_that_were_made_keep_their_digests(planned: Callable[..., Job], said: str) -> None:
    assert digest(planned(*said.split()).config) == DIGESTS[said]


def test_a_failed_run_makes_room(planned: Callable[..., Job], tmp_path: Path) -> None:
    job = planned("optimizer=adam", f"runs_dir={tmp_path}")
    other = replace(job, config=job.config | {"seed": 1})  # in the same directory
    record = fail(other, "it could not work")
    assert job.finished() is None
    record.status = "completed"
    records.write(record, job.directory)
    with pytest.raises(BenchError, match="another configuration"):
        job.finished()


@pytest.mark.slow
def test_own_modules_are_found_from_where_the_person_stands(tmp_path: Path) -> None:
    """By the installed command, whose path begins with its own directory."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "bench"
    command.write_text("from bench.__main__ import main\nif __name__ == '__main__':\n    main()\n")
    (tmp_path / "mine.py").write_text("class NotOne: pass\n")
    made = subprocess.run(
        [sys.executable, str(command), "optimizer._target_=mine.NotOne"],
        cwd=tmp_path, env={"PYTHONPATH": str(CONF.parent), "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert "mine.NotOne: is not a torch.optim.Optimizer" in made.stderr


def test_counterparts_exist(loader: ConfigLoader) -> None:
    config = loader.load_configuration("config", ["optimizer=rmsprop"], RunMode.RUN)
    with_betas = loader.load_configuration("config", [], RunMode.RUN)
    for ours in set(COUNTERPARTS.values()):
        for key in re.findall(r"[a-z_]+(?:\.\w+)+", ours):
            group, _, name = key.partition(".")
            assert name in config[group] or name in with_betas[group], key


def test_no_experiment_may_be_said(shell: Shell) -> None:
    status, output = shell("experiment=null", "trainer.max_steps=0")
    assert status == 1
    assert output.startswith("error: trainer.max_steps=0")


def test_the_least_memory_of_a_run(planned: Callable[..., Job]) -> None:
    """By hand: weights and gradients, and half of what linear layers and ReLU give."""
    said = ["workload.model.hidden_sizes=[1000]", "workload.batch_size=10"]
    weights = 784 * 1000 + 1000 + 1000 * 10 + 10
    outputs = 784 + 1000 + 1000 + 10 + 10  # the last is the whole network's
    config = planned(*said).config
    assert least_bytes(config) == 4 * (2 * weights + 10 * outputs // 2)
    refuse_what_cannot_fit(config, "cpu")
    config["workload"]["model"]["hidden_sizes"] = [10**9]
    with pytest.raises(BenchError, match=r"at least 5,960\.5 GiB"):
        refuse_what_cannot_fit(config, "cpu")


@pytest.mark.slow
def test_odd_invocations(tmp_path: Path) -> None:
    """A short run of what `scripts/fuzz invocations` does, in a process that has not begun yet."""
    command = [sys.executable, "-m", "bench.fuzz", "invocations", "--count", "15", "--seed", "5"]
    made = subprocess.run(command, cwd=CONF.parent, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.mark.parametrize(
    ("status", "said", "left", "fault"),
    [
        (0, "", ["runs"], None),
        (invocations.STARTED, "", [], None),
        (1, "error: one line", [], None),
        (1, "error: one line", ["runs"], "leaves"),
        (1, "", [], "0 lines"),
        (1, "a\nb\nc\nd\ne\nf", [], "6 lines"),
        (1, "Traceback ...", [], "status 1"),
        (-11, "", [], "status -11"),
        (None, "", [], "hangs"),
    ],
)
def test_what_counts_as_a_fault(
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
    said: str,
    left: list[str],
    fault: str | None,
) -> None:
    ended: Any = (status, said, left)
    monkeypatch.setattr(invocations, "typed", lambda arguments, place: ended)
    found = invocations.fault_of(["x=1"])
    assert (found is None) if fault is None else (found is not None and fault in found)
