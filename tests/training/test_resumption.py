"""A longer run that goes on from a finished shorter one is what it would have been, bit by bit."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench.command_line import CONF
from bench.data import IMAGES
from bench.records import Record
from bench.settings.identity import run_directory
from bench.settings.schema import validate
from bench.training import Run
from bench.training.rows import Rows

pytestmark = pytest.mark.usefixtures("fake_data")

SMALL = ["workload.val_size=1000", "trainer.enable_progress_bar=false"]  # 40 steps an epoch


@pytest.fixture(autouse=True)
def hydra_config(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, specification in IMAGES.items():  # the made-up ones are small
        monkeypatch.setitem(IMAGES, name, replace(specification, train_size=6000))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def train(study: Path, *overrides: str) -> tuple[Path, Record]:
    """Makes one run in a study; its directory and record."""
    config = validate(compose("config", [*SMALL, *overrides]))
    directory = study / name_of(config)
    directory.mkdir(parents=True)
    (record,) = Run([config], [directory]).train()
    return directory, record


def name_of(config: dict[str, Any]) -> str:
    return run_directory(config, validate(compose("config"))).name


def checkpoint(directory: Path) -> Any:
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)


def curves(directory: Path) -> list[dict[str, str]]:
    """metrics.csv without its times."""
    with open(directory / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def events(directory: Path) -> dict[str, list[tuple[int, float]]]:
    (path,) = directory.glob("events.out.tfevents.*")
    found = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
    return {t: [(e.step, e.value) for e in found.Scalars(t)] for t in found.Tags()["scalars"]}


def equal(one: Any, other: Any) -> bool:
    """Of nested state, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and one.double().numpy().tobytes() == other.double().numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def what_came_of_it(record: Record) -> dict[str, Any]:
    """A record without times, and without the command."""
    content = asdict(record)
    content["target"] = {k: v for k, v in record.target.items() if k != "seconds"}
    return {k: v for k, v in content.items() if k not in ("timing", "config")}


def assert_as_if_whole(place: Path, shorter: list[str], longer: list[str]) -> tuple[Path, Record]:
    """The longer run made in one go, and made from the shorter one: the same."""
    whole, expected = train(place / "whole", *longer)
    train(place / "parts", *shorter)
    parts, record = train(place / "parts", *longer, "trainer.resume=true")
    assert "resumed_at_step" in record.timing
    assert what_came_of_it(record) == what_came_of_it(expected)
    assert curves(parts) == curves(whole)
    assert events(parts) == events(whole)
    one, other = checkpoint(whole), checkpoint(parts)
    for part in ("state_dict", "optimizer_states"):
        assert equal(one[part], other[part]), part
    for part in ("steps", "random", "validated_at"):
        assert equal(one["bench"][part], other["bench"][part]), part
    assert equal(*(without_times(content["bench"]["members"]) for content in (one, other)))
    assert other["global_step"] == one["global_step"]
    return parts, record


def without_times(members: list[dict[str, Any]]) -> Any:
    rows = [[dict(row) | {"seconds": 0} for row in Rows.of(own["rows"])] for own in members]
    return rows, [own | {"rows": None} for own in members]


EPOCHS = ["trainer.max_epochs=1"], ["trainer.max_epochs=3"]


@pytest.mark.parametrize(
    "extra",
    [
        ["optimizer=sgd"],
        pytest.param(["optimizer=momentum", "schedule.warmup_steps=30"], marks=pytest.mark.slow),
        ["optimizer=adagrad", "diagnostics=true"],
        pytest.param(["optimizer=radam"], marks=pytest.mark.slow),
        pytest.param(
            ["optimizer=muon", "optimizer.lr=0.02", "optimizer.exclude=5.*"], marks=pytest.mark.slow
        ),
        ["optimizer=adamw", "workload.l2=1e-3", "trainer.check_val_every_n_epoch=2"],
        pytest.param(["schedule=cosine", "schedule.total_steps=200"], marks=pytest.mark.slow),
        ["workload.model.dropout=0.5"],
        pytest.param(
            ["workload.model.dropout=0.5", "trainer.steps_per_execution=1"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["trainer.precision=bf16-true", "trainer.log_every_n_steps=7"], marks=pytest.mark.slow
        ),
        ["trainer.precision=bf16-mixed"],
        pytest.param(["trainer.precision=64-true"], marks=pytest.mark.slow),
        ["trainer.val_check_interval=15", "trainer.patience=5"],
        pytest.param(
            ["workload=cifar10_cnn", "workload.batch_size=2500", "workload.model.channels=[4]"],
            marks=pytest.mark.slow,
        ),
        ["workload.sampling=replacement", "workload.drop_last=true"],
        pytest.param(["workload.val_size=0"], marks=pytest.mark.slow),
        ["trainer.accumulate_grad_batches=3"],
        pytest.param(["workload.batch_size=full", "optimizer=sgd"], marks=pytest.mark.slow),
        ["optimizer._target_=torch.optim.NAdam", "optimizer=custom"],
        pytest.param(
            [
                "optimizer._target_=torch.optim.LBFGS",
                "optimizer=custom",
                "workload.batch_size=1000",
            ],
            marks=pytest.mark.slow,
        ),
    ],
    ids=" ".join,
)
def test_more_epochs(tmp_path: Path, extra: list[str]) -> None:
    shorter, longer = ([*length, *extra] for length in EPOCHS)
    assert_as_if_whole(tmp_path, shorter, longer)


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        (["trainer.max_steps=53"], ["trainer.max_steps=100"]),
        (["trainer.max_steps=53"], ["trainer.max_epochs=3"]),
        (["trainer.max_steps=80"], ["trainer.max_epochs=2"]),
        (["trainer.max_epochs=1"], ["trainer.max_epochs=3", "trainer.max_steps=70"]),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    "extra",
    [
        [],
        pytest.param(["trainer.steps_per_execution=1"], marks=pytest.mark.slow),
        ["trainer.val_check_interval=15", "workload.model.dropout=0.2"],
    ],
    ids=" ".join,
)
def test_more_steps(
    tmp_path: Path, shorter: list[str], longer: list[str], extra: list[str]
) -> None:
    assert_as_if_whole(tmp_path, [*shorter, *extra], [*longer, *extra])


def test_what_stopped_early_has_nothing_left_to_do(tmp_path: Path) -> None:
    often = ["trainer.val_check_interval=10", "trainer.patience=2", "optimizer.lr=0"]
    shorter, longer = (["trainer.max_epochs=4", *often], ["trainer.max_epochs=9", *often])
    _, record = assert_as_if_whole(tmp_path, shorter, longer)
    assert (record.status, record.steps) == ("completed", 30)


def test_a_divergence_stays_one(tmp_path: Path) -> None:
    wild = ["optimizer=sgd", "optimizer.lr=1e20"]
    _, expected = train(tmp_path / "whole", "trainer.max_epochs=3", *wild)
    train(tmp_path / "parts", "trainer.max_epochs=2", *wild)
    _, record = train(tmp_path / "parts", "trainer.max_epochs=3", *wild, "trainer.resume=true")
    assert record.timing["resumed_at_step"] is not None
    assert what_came_of_it(record) == what_came_of_it(expected)
    assert record.status == "diverged"


def test_the_longest_run_is_taken_and_times_add_up(tmp_path: Path) -> None:
    for epochs in (1, 3, 2):
        _, shorter = train(tmp_path, f"trainer.max_epochs={epochs}", "trainer.resume=true")
        if epochs == 3:
            assert shorter.timing["resumed_at_step"] == 40
            longest = shorter
    directory, record = train(tmp_path, "trainer.max_epochs=4", "trainer.resume=true")
    assert record.timing["resumed_at_step"] == 120
    for name in ("train_seconds", "eval_seconds", "total_seconds"):
        assert record.timing[name] > 0.5 * longest.timing[name]  # type: ignore[operator]
    with open(directory / "metrics.csv", newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    assert seconds == sorted(seconds)
    assert seconds[-1] == record.timing["train_seconds"]


def test_a_run_goes_on_with_as_many_threads(tmp_path: Path) -> None:
    """A sweep's processes have one each, a run alone has all there are."""
    before = torch.get_num_threads()
    train(tmp_path, "trainer.max_epochs=1")
    torch.set_num_threads(before + 1)
    try:
        _, record = train(tmp_path, "trainer.max_epochs=2", "trainer.resume=true")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert record.environment["threads"] == before
    assert record.timing["resumed_at_step"] == 40


def damage_curves(directory: Path) -> None:
    path = directory / "metrics.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))


def damage_checkpoint(directory: Path) -> None:
    (directory / "checkpoints" / "last.ckpt").write_bytes(b"PK")


def alter_checkpoint(directory: Path) -> None:
    """One byte of the largest tensor."""
    path = directory / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def keep_only_weights(directory: Path) -> None:
    path = directory / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": torch.load(path)["state_dict"]}, path)


def change_record(directory: Path, **changes: Any) -> None:
    path = directory / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def other_torch(directory: Path) -> None:
    about = json.loads((directory / "record.json").read_text())["environment"]
    change_record(directory, environment=about | {"torch": "1.0"})


def stacked(directory: Path) -> None:
    change_record(directory, timing={"runs_together": 4})


def failed(directory: Path) -> None:
    change_record(directory, status="failed")


@pytest.mark.parametrize(
    ("shorter", "longer", "harm", "line"),
    [
        ([], [], None, "goes on from .*max_epochs=1,.* step 40"),
        (["seed=1"], [], None, "beginning: there is no shorter run"),
        ([], ["optimizer.lr=0.1"], None, "no shorter run"),
        ([], ["trainer.log_every_n_steps=7"], None, "no shorter run"),
        (["trainer.max_epochs=5"], [], None, "no shorter run"),
        ([], [], failed, "no shorter run"),
        (["schedule=cosine"], ["schedule=cosine"], None, "rates depend on its length.*cosine"),
        (
            ["trainer.evaluations=5"],
            ["trainer.evaluations=5"],
            None,
            r"was validated depend on its length \(trainer\.evaluations=5\)",
        ),
        (["trainer.evaluations=5"], [], None, "no shorter run"),
        (["trainer.enable_checkpointing=false"], [], None, r"has no checkpoints/last\.ckpt"),
        ([], [], other_torch, r"torch was 1\.0, is"),
        ([], [], stacked, "trained in a stack"),
        ([], [], damage_curves, "goes on from"),
        ([], [], alter_checkpoint, "is damaged"),
        ([], [], damage_checkpoint, r"max_epochs=1.*last\.ckpt cannot be read"),
        ([], [], keep_only_weights, "holds only weights"),
    ],
)
def test_where_a_run_starts_is_said(
    tmp_path: Path,
    shorter: list[str],
    longer: list[str],
    harm: Callable[[Path], None] | None,
    line: str,
) -> None:
    directory, _ = train(tmp_path, "trainer.max_epochs=1", *shorter)
    if harm is not None:
        harm(directory)
    config = validate(compose("config", [*SMALL, "trainer.max_epochs=2", *longer]))
    config["trainer"]["resume"] = True
    start = Run([config], [tmp_path / name_of(config)]).start
    assert start is not None
    assert (start.directory is not None) == line.startswith("goes on")
    assert re.search(line, start.line), start.line
    assert "\n" not in start.line


def test_from_the_shell(shell: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    GlobalHydra.instance().clear()
    _, said = shell(*SMALL, "trainer.max_epochs=1", "trainer.resume=true")
    assert "starts from the beginning: there is no shorter run" in said
    assert shell(*SMALL, "trainer.max_epochs=3")[0] == 0
    bar = "trainer.enable_progress_bar=true"
    status, said = shell(*SMALL, "trainer.max_epochs=4", "trainer.resume=true", bar)
    assert status == 0, said
    assert "goes on from runs/default/mnist_mlp/adam/lr=0.001,max_epochs=3" in said
    (log,) = tmp_path.glob("runs/**/lr=0.001,max_epochs=4*/run.log")
    assert "goes on from" in log.read_text()
    assert "WARNING" not in log.read_text()
