"""Fixtures that several test folders use."""

import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import interruption
from bench.__main__ import main
from bench.command_line import CONF, PLUGINS
from bench.data import Dataset, Split
from bench.errors import BenchError
from bench.settings import schema
from bench.workloads import ImageClassifier, images, models
from bench.workloads.images import Shape
from bench.workloads.models import drawn

# Where tests are started in the background of a script, or under nohup, these are ignored.
for number in interruption.SIGNALS:
    if signal.getsignal(number) is signal.SIG_IGN:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)
torch.set_num_threads(1)  # small tensors, and several test processes may share the machine
sys.path.append(str(PLUGINS))
schema.register()


def fake_dataset(name: str = "mnist", *, size: int = 6000, seed: int = 0) -> Dataset:
    """Images of ten classes that a linear model can tell apart, in the format of ``name``."""
    shape = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}[name]
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randint(0, 256, (10, *shape), generator=generator)

    def split(n: int) -> Split:
        labels = torch.randint(0, 10, (n,), generator=generator)
        noise = torch.randint(0, 256, (n, *shape), generator=generator)
        images = (0.3 * patterns[labels] + 0.7 * noise).to(torch.uint8)
        return Split(images, labels)

    return Dataset(name, 10, split(size), split(200))


def classifier(
    model: Mapping[str, Any], image_shape: tuple[int, ...] = (1, 28, 28), **fields: Any
) -> ImageClassifier:
    """A workload of images of ten classes, of any shape."""
    usual = {"init": "default", "init_std": 0.01, "init_bias": 0.0, "dropout": 0.0}
    workload = ImageClassifier(name="made_up", model={**usual, **model}, **fields)
    workload.shape = Shape(image_shape, 10, 6000, 200)
    return workload


def build_model(
    model: Mapping[str, Any], image_shape: tuple[int, ...] = (1, 28, 28), *, seed: int = 0
) -> Any:
    return drawn(classifier(model, image_shape), seed)


@pytest.fixture
def fake_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is a small made-up one: nothing is fetched, nothing is read."""
    monkeypatch.setattr("bench.data.tensors.load", lambda name, data_dir=None: fake_dataset(name))
    images.prepared.cache_clear()
    models.forget()


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Dataset]:
    """Loads a real data set, or skips the test where none can be had."""

    def get(name: str) -> Dataset:
        from bench.data import load

        try:
            return load(name)
        except BenchError as error:
            pytest.skip(str(error))

    return get


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Types ``python -m bench <arguments>`` in an empty directory: exit status and output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        monkeypatch.setattr(sys, "path", list(sys.path))
        try:
            main()
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
            if isinstance(exit_.code, str):
                print(exit_.code, file=sys.stderr)
        finally:
            interruption.forget()
        out, err = capfd.readouterr()
        return status, out + err

    return run


def config_names(group: str) -> list[str]:
    """The options of a config group that have a file, found by looking."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))
