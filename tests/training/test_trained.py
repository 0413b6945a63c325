"""The model of a run, back in Python."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from bench import load_model
from bench.command_line import CONF
from bench.data import tensors
from bench.errors import BenchError
from bench.records import Record
from bench.settings.schema import validate
from bench.training import Run

pytestmark = pytest.mark.usefixtures("fake_data")

SMALL = ["workload.val_size=1000", "trainer.max_steps=9", "trainer.enable_progress_bar=false"]


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def train(place: Path, *runs: list[str]) -> list[tuple[Path, Record]]:
    configs = [validate(compose("config", [*SMALL, *overrides])) for overrides in runs]
    directories = [place / str(n) for n in range(len(runs))]
    for directory in directories:
        directory.mkdir()
    return list(zip(directories, Run(configs, directories).train(), strict=True))


@pytest.mark.parametrize(
    ("together", "extra"),
    [
        (1, []),
        (2, ["workload.feature_scaling=none"]),
        (2, ["workload=cifar10_cnn", "workload.model.channels=[4,8]"]),
        (1, ["workload.feature_scaling=feature", "workload.model.dropout=0.5"]),
        (1, ["workload.feature_scaling=none", "workload.val_size=0", "workload.split_seed=3"]),
        (1, ["workload=cifar10_cnn", "workload.model.channels=[4,8]"]),
        (1, ["trainer.precision=64-true", "workload.feature_scaling=unit"]),
        (1, ["trainer.precision=bf16-true"]),
    ],
)
def test_a_loaded_model_scores_as_its_run_did(
    tmp_path: Path, together: int, extra: list[str]
) -> None:
    for directory, record in train(tmp_path, *([*extra, f"seed={n}"] for n in range(together))):
        model = load_model(directory)
        assert (model.training, model.record) == (False, record)
        test = tensors.load(record.config["workload"]["dataset"]).test
        logits = model(test.images)  # [B, classes], from bytes
        correct = (logits.argmax(1) == test.labels).sum().item()
        assert correct / len(test) == record.metrics["test/accuracy"]
        if "bf16" not in record.config["trainer"]["precision"]:
            loss = F.cross_entropy(logits, test.labels).item()
            assert loss == pytest.approx(record.metrics["test/loss"], rel=1e-5)


def test_what_is_no_trained_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"nowhere: not the directory of a run .*record\.json"):
        load_model(tmp_path / "nowhere")
    ((directory, _),) = train(tmp_path, ["trainer.enable_checkpointing=false"])
    with pytest.raises(BenchError, match=r"trainer\.enable_checkpointing"):
        load_model(directory)
    path = directory / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    path.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(BenchError, match=r"last\.ckpt: not a checkpoint"):
        load_model(directory)
    torch.save({"state_dict": {"model.weight": torch.ones(2)}}, path)
    with pytest.raises(BenchError, match=r"last\.ckpt: .*Missing key"):
        load_model(directory)


def test_importing_the_package_does_not_import_torch() -> None:
    said = "import bench, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", said], check=True, env=os.environ)
