"""The trained model of a run, back in Python."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench import data, records
from bench.continuation import CHECKPOINT
from bench.data.tensors import parts, scaling
from bench.errors import BenchError
from bench.records import Record
from bench.workloads.workload import shape_of


class TrainedModel(nn.Module):
    """Images as the data set has them, from 0 to 255, [B, C, H, W], to logits [B, classes].

    Attributes:
        model: the network alone; takes images as `scale` gives them.
        record: of its run.
    """

    def __init__(self, model: nn.Module, *, shift: Tensor, divisor: Tensor, record: Record) -> None:
        super().__init__()
        self.model = model
        self.record = record
        self.shift: Tensor
        self.divisor: Tensor
        self.register_buffer("shift", shift)
        self.register_buffer("divisor", divisor)

    def scale(self, images: Tensor) -> Tensor:
        """By the statistics of the images it was trained on, as ``workload.feature_scaling``
        says; in the model's dtype."""
        scaled = (images.float() - self.shift) / self.divisor
        return scaled.to(next(self.model.parameters()).dtype)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.scale(images))


def load_model(run: str | Path) -> TrainedModel:
    """The model that a run left, on the CPU and in evaluation mode::

        from bench import load_model
        from bench.data import load

        model = load_model("runs/default/mnist_mlp/adam/lr=0.001,seed=0")
        test = load("mnist").test
        accuracy = (model(test.images).argmax(1) == test.labels).float().mean()

    Args:
        run: its directory. Runs of a stack have left theirs, too.

    Raises:
        BenchError: that is no run which has ended, or it left no weights.
    """
    directory = Path(run)
    if not (directory / records.FILE_NAME).is_file():
        raise BenchError(
            f"{directory}: not the directory of a run that has ended (no {records.FILE_NAME}); "
            "give one such as runs/default/mnist_mlp/adam/lr=0.001,seed=0"
        )
    record = records.read(directory / records.FILE_NAME)
    if record.status == "failed":
        raise BenchError(f"{directory}: its run failed ({record.reason}); run it again")
    weights = _weights(directory, record)
    workload = record.config["workload"]
    place = record.config["data_dir"]
    dataset = data.load(workload["dataset"], None if place is None else Path(place))
    with torch.device("meta"):
        model = shape_of(workload["model"], dataset.train.images.shape[1:], dataset.classes)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise BenchError(f"{directory / CHECKPOINT}: {' '.join(str(error).split())}") from error
    _, train = parts(dataset, val_size=workload["val_size"], split_seed=workload["split_seed"])
    shift, divisor = scaling(dataset.train.images, train, workload["feature_scaling"])
    return TrainedModel(model, shift=shift, divisor=divisor, record=record).eval()


def _weights(directory: Path, record: Record) -> dict[str, Any]:
    path = directory / CHECKPOINT
    if not path.is_file():
        raise BenchError(
            f"{directory}: its run ({record.status}) left no {CHECKPOINT}; one that does is made "
            "with trainer.enable_checkpointing=true"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise BenchError(f"{path}: not a checkpoint of plain numbers that can be read") from error
    for part in ("averaged.", "model."):  # an average of the weights is what was scored
        weights = {k.removeprefix(part): v for k, v in state.items() if k.startswith(part)}
        if weights:
            return weights
    raise BenchError(f"{path}: holds no weights of a model")
