"""What was ended early, however often and wherever, goes on and becomes what it would have been,
bit by bit."""

import csv
import functools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from bench import interruption, runs
from bench.command_line import CONF
from bench.continuation import stacks
from bench.holding import Taken
from bench.interruption import Interrupted
from bench.records import Record, read
from bench.settings.identity import run_directory
from bench.settings.jobs import Job
from bench.settings.schema import total_steps, validate
from bench.training import Run, resumption
from bench.training.module import TrainingModule
from bench.training.recorder import Recorder
from bench.training.solo import SoloModule
from bench.training.stack import StackModule
from bench.workloads import models
from tests.data.fake_data import fake_cache

SMALL = [
    "workload.val_size=5000",  # 8 steps an epoch
    "workload.model.hidden_sizes=[16]",
    "trainer.max_epochs=4",
    "trainer.log_every_n_steps=3",
    "trainer.enable_progress_bar=false",
]


@pytest.fixture(autouse=True)
def hydra_config(fake_data: None) -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    interruption.forget()


class Ending:
    """Asks a training to end after so many steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.step: int | None = None
        self.signal = signal.SIGUSR1
        for kind in (SoloModule, StackModule):
            monkeypatch.setattr(kind, "take_step", self.after(kind.take_step))

    def after(self, take: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def taken(module: TrainingModule, indices: Tensor, step: int) -> Tensor:
            losses = take(module, indices, step)
            if step + 1 == self.step:
                interruption.ask(self.signal)
            return losses

        return taken


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Ending:
    return Ending(monkeypatch)


def planned(place: Path, *overrides: str) -> Job:
    config = deepcopy(composed(*SMALL, *overrides)) | {"runs_dir": str(place)}
    directory = run_directory(config, composed())
    return Job(config=config, hydra={}, overrides=overrides, directory=directory)


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    return validate(compose("config", list(overrides)))


def interrupted(ending: Ending, tasks: Sequence[Job], steps: Sequence[int]) -> list[Record]:
    """Made with an end after each of these steps, and then to the end."""
    for step in steps:
        ending.step = step
        with pytest.raises(Interrupted) as ended:
            runs.run(tasks)
        assert ended.value.step == step
        interruption.forget()
    ending.step = None
    return runs.run(tasks)


def curves(directory: Path) -> list[list[str]]:
    """metrics.csv without its times."""
    with open(directory / "metrics.csv", newline="") as file:
        header, *rows = csv.reader(file)
    place = header.index("seconds")
    return [row[:place] + row[place + 1 :] for row in (header, *rows)]


def points(directory: Path) -> dict[str, list[tuple[int, float]]]:
    (path,) = directory.glob("events.out.tfevents.*")
    found = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
    return {t: [(e.step, e.value) for e in found.Scalars(t)] for t in found.Tags()["scalars"]}


def result(record: Record) -> dict[str, Any]:
    """A record without times and places."""
    content = asdict(record)
    content["target"] = {k: v for k, v in record.target.items() if k != "seconds"}
    content["config"] = {k: v for k, v in record.config.items() if k not in ("runs_dir", "study")}
    return {k: v for k, v in content.items() if k not in ("study", "timing", "overrides", "search")}


def bits(content: Any) -> Any:
    if isinstance(content, Tensor):
        return content.dtype, content.shape, content.double().numpy().tobytes()
    if isinstance(content, dict):
        return {key: bits(value) for key, value in content.items()}
    return [bits(value) for value in content] if isinstance(content, list | tuple) else content


def assert_same(one: tuple[Path, Record], other: tuple[Path, Record]) -> None:
    assert result(one[1]) == result(other[1])
    assert curves(one[0]) == curves(other[0])
    assert points(one[0]) == points(other[0])
    assert {path.name for path in one[0].iterdir() if "tfevents" not in path.name} == {
        path.name for path in other[0].iterdir() if "tfevents" not in path.name
    }
    assert [p.name for p in (one[0] / "checkpoints").glob("*")] == [
        p.name for p in (other[0] / "checkpoints").glob("*")
    ]
    left = [directory / "checkpoints" / "last.ckpt" for directory, _ in (one, other)]
    assert left[0].exists() == left[1].exists()
    if left[0].exists():
        first, second = (torch.load(path, weights_only=True) for path in left)
        for part in ("state_dict", "optimizer_states", "global_step"):
            assert bits(first.get(part)) == bits(second.get(part)), part
        if "bench" in first:
            assert bits(first["bench"]["random"]) == bits(second["bench"]["random"])


def assert_as_if_whole(
    place: Path, ending: Ending, *overrides: str, steps: Sequence[int] | None = None
) -> Record:
    whole, parts = (planned(place / name, *overrides) for name in ("whole", "parts"))
    (expected,) = runs.run([whole])
    if steps is None:
        drawn = random.Random(" ".join(overrides))
        steps = sorted(drawn.sample(range(1, total_steps(whole.config) - 1), 3))
    (record,) = interrupted(ending, [parts], steps)
    assert_same((whole.directory, expected), (parts.directory, record))
    assert record.timing["interruptions"] == len(steps)
    assert "interruptions" not in expected.timing
    log = (parts.directory / "run.log").read_text()
    for step in steps:
        assert f"interrupted by SIGUSR1 at step {step} of" in log
        assert f"goes on from step {step}, where it was interrupted" in log
    return record


EMA = ["trainer.ema_decay=0.9", "workload.feature_scaling=unit", "trainer.patience=9"]
OPTIONS: list[list[str]] = [
    ["optimizer=adam", "schedule=cosine", "workload.model.dropout=0.5", "diagnostics=true"],
    ["optimizer=momentum", *EMA],
]
MORE_OPTIONS: list[list[str]] = [
    ["optimizer=sgd", "trainer.evaluations=6", "trainer.patience=9", "schedule.warmup_steps=9"],
    ["optimizer=muon", "optimizer.lr=0.02", "optimizer.exclude=3.*"],
    ["optimizer=adamw", "trainer.steps_per_execution=1", "workload.model.dropout=0.2"],
    ["optimizer=nesterov", "trainer.val_check_interval=5"],
    ["optimizer=adagrad", "trainer.accumulate_grad_batches=3"],
    ["optimizer=rmsprop", "workload.sampling=replacement", "workload.drop_last=true"],
    ["optimizer=lion", "trainer.check_val_every_n_epoch=3"],
    ["optimizer=momentum", "trainer.curvature=3", "trainer.evaluations=6"],
    ["optimizer=radam", "trainer.precision=bf16-mixed"],
    ["optimizer=adam", "trainer.precision=64-true", "trainer.max_steps=21"],
    ["optimizer=sgd", "workload.batch_size=full", "trainer.max_epochs=20"],
    ["optimizer=custom", "optimizer._target_=torch.optim.LBFGS", "trainer.max_epochs=2"],
    ["optimizer=custom", "optimizer._target_=torch.optim.NAdam"],
    ["optimizer=adam", "workload.val_size=0", "trainer.max_steps=40"],
    ["optimizer=adam", "trainer.callbacks=[pytorch_lightning.callbacks.ModelCheckpoint]"],
]


@pytest.mark.parametrize(
    "overrides",
    [*OPTIONS, *(pytest.param(more, marks=pytest.mark.slow) for more in MORE_OPTIONS)],
    ids=" ".join,
)
def test_a_run_alone(tmp_path: Path, ending: Ending, overrides: list[str]) -> None:
    assert assert_as_if_whole(tmp_path, ending, *overrides).status == "completed"


def test_points_by_which_schedule_free_methods_go(tmp_path: Path, ending: Ending) -> None:
    """Between two steps they are where they train; before the first after an evaluation, not."""
    own = f"optimizer._target_={__name__}.ScheduleFree"
    options = ["optimizer=custom", own, "trainer.max_steps=12"]
    assert_as_if_whole(tmp_path, ending, *options, steps=[5, 8])


class ScheduleFree(torch.optim.SGD):
    """Answers with its parameters divided by three, which rounds; and says nothing of where it is
    in its state."""

    def train(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(3)

    def eval(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.div_(3)


TEXT = [
    *("workload=shakespeare_transformer", "workload.layers=1", "workload.heads=2"),
    *("workload.width=8", "workload.context=16", "workload.batch_size=32"),
    *("workload.val_plays=[the-tempest]", "workload.test_plays=[macbeth]"),
    *("trainer.max_steps=25", "trainer.val_check_interval=10", "trainer.log_every_n_steps=4"),
    "trainer.enable_progress_bar=false",
]
REGRESSION = [
    *("workload=linear_regression", "optimizer=sgd", "workload.batch_size=full"),
    *("trainer.max_epochs=300", "trainer.check_val_every_n_epoch=50"),
    *("trainer.log_every_n_steps=30", "trainer.enable_progress_bar=false"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "own"),
    [
        ("shakespeare", TEXT),
        ("diabetes", REGRESSION),
    ],
)
def test_other_workloads(
    tmp_path: Path,
    ending: Ending,
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    own: list[str],
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SMALL", [])
    fake_cache(data, tmp_path / "data", monkeypatch)
    assert_as_if_whole(tmp_path, ending, f"data_dir={tmp_path}/data", *own)


def test_what_is_finished_does_not_go_on(tmp_path: Path) -> None:
    job = planned(tmp_path, "trainer.max_steps=2")
    runs.run([job])
    ready = Run([job.config], [job.directory])
    assert (ready.saved, ready.start, ready.goes_on) == (None, None, False)


# -- stacks ----------------------------------------------------------------------------------------


def stack_of(place: Path, *variants: Sequence[str]) -> list[Job]:
    common = ["optimizer=adamw", "trainer.patience=2", "trainer.val_check_interval=3"]
    return [planned(place, *common, *variant) for variant in variants]


VARIANTS = [
    ["optimizer.lr=1e-3"],
    ["optimizer.lr=0", "optimizer.weight_decay=0"],  # is stopped
    ["optimizer.lr=1e-2", "seed=1", "optimizer.beta1=0.5", "schedule.warmup_steps=8"],
    ["optimizer.lr=1e30", "seed=1"],  # diverges
    ["optimizer.lr=3e-3", "seed=1", "workload.l2=1e-3"],
    ["optimizer.lr=2e-3", "seed=2"],  # fewer of its seed than of the others
]


@pytest.mark.parametrize(
    "steps",
    [
        [7, 20],
        pytest.param([1, 7, 13], marks=pytest.mark.slow),
        pytest.param([10, 11, 28], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_stack(tmp_path: Path, ending: Ending, steps: list[int]) -> None:
    whole, parts = (stack_of(tmp_path / name, *VARIANTS) for name in ("whole", "parts"))
    expected = runs.run(whole)
    assert {record.status for record in expected} == {"completed", "diverged"}
    assert len({record.steps for record in expected}) >= 3
    records = interrupted(ending, parts, steps)
    for one, other, first, second in zip(whole, parts, expected, records, strict=True):
        assert_same((one.directory, first), (other.directory, second))
        assert second.timing["interruptions"] == len(steps)
        assert (other.directory / "run.log").read_text().count("goes on from step") == len(steps)
    assert only_description(tmp_path / "parts" / "default")


def test_a_stack_whose_runs_were_half_recorded(
    tmp_path: Path, ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes all of its runs to become what they would have become; records stay as they are."""
    whole, parts = (stack_of(tmp_path / name, *VARIANTS[:3]) for name in ("whole", "parts"))
    expected = runs.run(whole)
    ending.step = 20
    with pytest.raises(Interrupted):
        runs.run(parts)
    interruption.forget()
    ending.step = None
    study = tmp_path / "parts" / "default"
    assert [stack.directories for stack in stacks(study)] == [[job.directory for job in parts]]

    finish = Recorder.finish
    ended = []

    def finish_two(recorder: Recorder, **said: Any) -> Record:
        if len(ended) == 2:
            raise Interrupted(signal.SIGKILL)
        ended.append(recorder.directory)
        return finish(recorder, **said)

    monkeypatch.setattr(Recorder, "finish", finish_two)
    with pytest.raises(Interrupted):
        runs.run(parts)
    monkeypatch.undo()
    assert ended == [job.directory for job in parts[:2]]
    kept = [(path / "record.json").read_bytes() for path in ended]

    assert [stack.directories for stack in stacks(study)] == [[job.directory for job in parts]]
    records = runs.run(parts)
    assert [(path / "record.json").read_bytes() for path in ended] == kept
    for one, other, first, second in zip(whole, parts, expected, records, strict=True):
        assert_same((one.directory, first), (other.directory, second))
    assert only_description(study)
    assert {record.stack for record in records} == {stacks(study)[0].name}


def test_a_stack_is_filled_up_with_the_same_company(tmp_path: Path) -> None:
    tasks = stack_of(tmp_path, *VARIANTS[:3])
    made = runs.run(tasks)
    study, directory = tmp_path / "default", tasks[1].directory
    assert [stack.directories for stack in stacks(study)] == [[job.directory for job in tasks]]
    kept = [(job.directory / "record.json").read_bytes() for job in tasks]
    whole, gone = tmp_path / "whole", directory
    gone.rename(whole)
    again = runs.run(tasks)
    assert_same((whole, made[1]), (directory, again[1]))
    assert again[1].timing["runs_together"] == 3
    for place in (0, 2):
        assert (tasks[place].directory / "record.json").read_bytes() == kept[place]


def only_description(study: Path) -> bool:
    return [path.suffix for path in (study / ".stacks").iterdir()] == [".json"]


@pytest.mark.slow
def test_another_company_begins_anew(tmp_path: Path, ending: Ending) -> None:
    begun = stack_of(tmp_path, *VARIANTS[:3])
    ending.step = 5
    with pytest.raises(Interrupted):
        runs.run(begun)
    interruption.forget()
    ending.step = None
    records = runs.run(begun[:2])
    assert all("interruptions" not in record.timing for record in records)
    study = tmp_path / "default"
    assert [job.directory for job in begun] in [stack.directories for stack in stacks(study)]
    assert {record.stack for record in records} < {stack.name for stack in stacks(study)}


def test_what_lies_among_stacks_is_looked_at(tmp_path: Path) -> None:
    place = tmp_path / ".stacks"
    place.mkdir()
    contents = ["", "[]", "{}", '{"runs": 3}', '{"runs": [{"id": "x"}]}', "[" * 10_000, "\0"]
    for n, content in enumerate(contents):
        (place / f"{n}.json").write_text(content)
    (place / "folder.json").mkdir()
    assert stacks(tmp_path) == []


# -- when it is saved ------------------------------------------------------------------------------


def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of checkpoints, as they are written."""
    steps: list[int] = []
    write = resumption.write

    def noted(content: Any, path: Path) -> None:
        steps.append(content["bench"]["steps"])
        write(content, path)

    monkeypatch.setattr(resumption, "write", noted)
    return steps


ONE_BY_ONE = ["trainer.max_steps=10", "trainer.steps_per_execution=2"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["trainer.checkpoint_seconds=0"], [2, 4, 6, 8, 10]),
        (["trainer.checkpoint_seconds=null"], [10]),
        (["trainer.enable_checkpointing=false", "trainer.checkpoint_seconds=0"], []),
    ],
    ids=str,
)
def test_by_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    expected: list[int],
) -> None:
    steps = written(monkeypatch)
    runs.run([planned(tmp_path, *ONE_BY_ONE, *overrides)])
    assert steps == expected


def test_after_evaluations_where_it_costs_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes a second here, and a checkpoint what stands there."""
    steps, now, costs = written(monkeypatch), 0.0, iter([0.05, 0.11, 0.2, 0.0])
    write, take = resumption.write, SoloModule.take_step

    def taking_long(content: Any, path: Path) -> None:
        nonlocal now
        write(content, path)
        now += next(costs)

    def slow(module: SoloModule, indices: Tensor, step: int) -> Tensor:
        nonlocal now
        now += 1
        return take(module, indices, step)

    monkeypatch.setattr(resumption, "write", taking_long)
    monkeypatch.setattr(resumption, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(SoloModule, "take_step", slow)
    evaluated = "trainer.val_check_interval=3"  # after 3, 6, 11, 14 and 19 steps
    runs.run([planned(tmp_path, evaluated, "trainer.max_steps=20")])
    assert steps == [3, 6, 14, 20]


def test_where_none_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle that is a line in the log; the one before stays."""
    save = torch.save
    fails = [2, 3]
    calls = 0

    def full(content: Any, file: Any) -> None:
        nonlocal calls
        calls += 1
        if calls in fails:
            file.write(b"begun")
            raise OSError(28, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    job = planned(tmp_path, *ONE_BY_ONE, "trainer.checkpoint_seconds=0")
    (record,) = runs.run([job])
    assert record.status == "completed"
    log = (job.directory / "run.log").read_text()
    assert log.count("last.ckpt: cannot be written (No space left on device)") == 2
    assert [path.name for path in (job.directory / "checkpoints").iterdir()] == ["last.ckpt"]


# -- what does not go on ---------------------------------------------------------------------------


def alter(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def another_run(path: Path) -> None:
    alter(path, lambda content: content["bench"].update(runs=["0123456789abcdef"]))


def other_code(path: Path) -> None:
    alter(path, lambda content: content["bench"]["environment"].update(source="0"))


def weights_alone(path: Path) -> None:
    alter(path, lambda content: content.pop("bench"))


def pickled(path: Path) -> None:
    torch.save({"bench": re.compile("x")}, path)


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (one_bit, "is damaged"),
        (pickled, "cannot be read as plain numbers"),
        (other_code, "source was 0, is"),
        pytest.param(half, "cannot be read as plain numbers", marks=pytest.mark.slow),
        pytest.param(another_run, "is of another run", marks=pytest.mark.slow),
        pytest.param(weights_alone, "holds only weights", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_go_on_starts_anew(
    tmp_path: Path, ending: Ending, harm: Callable[[Path], None], line: str
) -> None:
    job = planned(tmp_path, "trainer.max_steps=8")
    ending.step = 5
    with pytest.raises(Interrupted):
        runs.run([job])
    interruption.forget()
    harm(job.directory / "checkpoints" / "last.ckpt")
    ending.step = None
    (record,) = runs.run([job])
    assert (record.status, record.steps) == ("completed", 8)
    assert "interruptions" not in record.timing
    (said,) = re.findall("starts from the beginning.*", (job.directory / "run.log").read_text())
    assert line in said


def test_a_failure_goes_on_too(
    tmp_path: Path, ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (planned(tmp_path / name, "trainer.max_steps=12") for name in ("whole", "parts"))
    (expected,) = runs.run([whole])
    ending.step = 5
    with pytest.raises(Interrupted):
        runs.run([parts])
    interruption.forget()
    ending.step = None
    with monkeypatch.context() as patched:
        patched.setattr(TrainingModule, "on_validation_epoch_end", lambda module: 1 / 0)
        (failed,) = runs.run([parts])
    assert failed.status == "failed"
    (record,) = runs.run([parts])
    assert_same((whole.directory, expected), (parts.directory, record))


@pytest.mark.parametrize("hook", ["on_test_epoch_end", "on_validation_epoch_end"])
def test_when_no_step_is_left(
    tmp_path: Path, ending: Ending, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    """The first one validates once more, as its last step is within an epoch; the test is last."""
    whole, parts = (planned(tmp_path / name, "trainer.max_steps=7") for name in ("whole", "parts"))
    (expected,) = runs.run([whole])

    def end(module: TrainingModule) -> None:
        raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingModule, hook, end)
        with pytest.raises(Interrupted):
            runs.run([parts])
    (record,) = runs.run([parts])
    assert record.timing["interruptions"] == 1
    assert_same((whole.directory, expected), (parts.directory, record))


def test_as_many_threads(tmp_path: Path, ending: Ending) -> None:
    before = torch.get_num_threads()
    job = planned(tmp_path, "trainer.max_steps=8")
    ending.step = 5
    with pytest.raises(Interrupted):
        runs.run([job])
    interruption.forget()
    ending.step = None
    torch.set_num_threads(before + 1)
    try:
        (record,) = runs.run([job])
    finally:
        torch.set_num_threads(before)
    assert record.environment["threads"] == before
    assert record.timing["interruptions"] == 1


def test_times_are_those_of_all_attempts(tmp_path: Path, ending: Ending) -> None:
    job = planned(tmp_path)
    began = time.perf_counter()
    (record,) = interrupted(ending, [job], [10, 20])
    took = time.perf_counter() - began
    with open(job.directory / "metrics.csv", newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    assert seconds == sorted(seconds)
    timing = record.timing
    assert seconds[-1] == timing["train_seconds"]
    assert timing["train_seconds"] + timing["eval_seconds"] < timing["total_seconds"] < took  # type: ignore[operator]


# -- from the shell --------------------------------------------------------------------------------
SHELL = [*SMALL, "optimizer=adam"]


def test_a_command_that_is_ended(
    shell: Callable[..., tuple[int, str]], ending: Ending, tmp_path: Path
) -> None:
    GlobalHydra.instance().clear()
    ending.step, ending.signal = 10, signal.SIGTERM
    status, said = shell(*SHELL)
    assert status == 143
    line = "interrupted at step 10 of 32; the same command goes on from there"
    assert said.splitlines()[-1] == line
    ending.step = None
    status, said = shell(*SHELL)
    assert status == 0, said
    assert "goes on from step 10, where it was interrupted" in said
    assert "completed" in said
    (record,) = tmp_path.glob("runs/**/record.json")
    assert json.loads(record.read_text())["timing"]["interruptions"] == 1
    assert "already made" in shell(*SHELL)[1]


def test_a_command_that_keeps_no_checkpoints(
    shell: Callable[..., tuple[int, str]], ending: Ending
) -> None:
    GlobalHydra.instance().clear()
    ending.step, ending.signal = 10, signal.SIGINT
    status, said = shell(*SHELL, "trainer.enable_checkpointing=false")
    assert status == 130
    assert said.splitlines()[-1] == "interrupted; the same command goes on with what is missing"


def test_before_there_is_anything_to_lose(
    shell: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It ends, and leaves nothing behind."""
    GlobalHydra.instance().clear()

    def hang_up(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGHUP)
        return models.loaded(*arguments)

    monkeypatch.setattr("bench.training.run.loaded", hang_up)
    status, said = shell(*SHELL)
    assert status == 128 + signal.SIGHUP
    assert said.splitlines()[1:] == ["interrupted; the same command goes on with what is missing"]
    assert not list(tmp_path.glob("runs/**/*.*"))


def test_while_another_process_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: Any, **__: Any) -> None:
        interruption.ask(signal.SIGTERM)
        raise Taken(tmp_path)

    monkeypatch.setattr(runs, "run", taken)
    try:
        with pytest.raises(Interrupted):
            runs.run_when_free(planned(tmp_path))
    finally:
        interruption.forget()


PARTS = ["trainer.checkpoint_seconds=0.2", "trainer.steps_per_execution=5", "trainer.max_epochs=12"]
LONG = [  # some seconds, of real images
    *("optimizer=adam", "workload=mnist_logistic", "workload.val_size=40000"),
    *("trainer.log_every_n_steps=20", "trainer.enable_progress_bar=false", *PARTS),
]


@pytest.mark.slow
def test_processes_that_are_killed(tmp_path: Path, real_data: Callable[[str], Any]) -> None:
    """At random moments, by every signal."""
    real_data("mnist")
    GlobalHydra.instance().clear()
    own = str(Path(__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": own}

    def start(study: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench", f"study={study}", *LONG]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    began = time.monotonic()
    with start("whole") as whole:
        assert whole.communicate()[1] == ""
    took = time.monotonic() - began
    drawn = random.Random(0)
    for number in [*interruption.SIGNALS, signal.SIGKILL, None]:
        with start("parts") as process:
            try:
                wait = None if number is None else drawn.uniform(0.1, 0.6) * took
                said = process.communicate(timeout=wait)[1]
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                said = process.communicate()[1]
            else:
                assert number is None, "it ended before it could be killed"
        assert len(said.splitlines()) <= 1, said
        if number is None:
            assert process.returncode == 0
        elif number != signal.SIGKILL:
            assert process.returncode == 128 + number
            assert said.startswith("interrupted")
    one, other = (next((tmp_path / "runs" / name).glob("*/*/*")) for name in ("whole", "parts"))
    assert_same(*((path, read(path / "record.json")) for path in (one, other)))


@pytest.mark.slow
def test_several_processes_go_on_from_the_last_epoch(
    tmp_path: Path, real_data: Callable[[str], Any]
) -> None:
    real_data("mnist")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=ddp"]
    command = [sys.executable, "-m", "bench", *LONG, *both, "trainer.max_epochs=6"]
    streams: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    place: Any = {
        "cwd": tmp_path,
        "env": environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
    }
    subprocess.run([*command, "study=whole"], check=True, **streams, **place)
    with subprocess.Popen([*command, "study=parts"], **streams, **place) as process:
        while not list(tmp_path.glob("runs/parts/**/last.ckpt")) and process.poll() is None:
            time.sleep(0.05)
        process.terminate()
        assert process.communicate()[1].splitlines()[-1].startswith("interrupted")
    assert process.returncode == 143
    subprocess.run([*command, "study=parts"], check=True, **streams, **place)
    one, other = (next((tmp_path / "runs" / name).glob("*/*/*")) for name in ("whole", "parts"))
    assert read(other / "record.json").timing["interruptions"] == 1
    assert_same(*((path, read(path / "record.json")) for path in (one, other)))
