"""A model and images of one's own, by their paths."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from bench import load_model
from bench.command_line import CONF
from bench.data import Dataset
from bench.settings.schema import validate
from bench.training import Run
from bench.workloads.models import forget
from tests.conftest import fake_dataset


def images() -> Dataset:
    return fake_dataset("cifar10", size=500)


class Net(nn.Module):
    def __init__(self, image_shape: tuple[int, ...], classes: int, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(image_shape[0], width, 3)
        self.norm, self.last = nn.GroupNorm(2, width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)).relu().mean((2, 3)))


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    forget()


@pytest.mark.parametrize("together", [1, 2])
def test_a_model_on_images(tmp_path: Path, together: int) -> None:
    said = [
        *("workload=custom", "workload._target_=bench.workloads.ImageClassifier"),
        *("workload.name=own", f"workload.dataset={__name__}.images", "workload.val_size=100"),
        *(f"workload.model._target_={__name__}.Net", "workload.model.width=6"),
        *("trainer.max_steps=4", "trainer.enable_progress_bar=false"),
    ]
    configs = [validate(compose("config", [*said, f"seed={seed}"])) for seed in range(together)]
    directories = [tmp_path / str(seed) for seed in range(together)]
    for directory in directories:
        directory.mkdir()
    records = Run(configs, directories).train()
    assert len({record.metrics["val/loss"] for record in records}) == together
    for directory, record in zip(directories, records, strict=True):
        assert (record.status, record.hyperparameters["width"]) == ("completed", 6)
        model = load_model(directory)
        test = images().test
        with torch.no_grad():
            correct = (model(test.images).argmax(1) == test.labels).double().mean()
        assert float(correct) == pytest.approx(record.metrics["test/accuracy"])
