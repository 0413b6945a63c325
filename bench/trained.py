"""The trained model of a run, back in Python."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench import records
from bench.continuation import CHECKPOINT
from bench.errors import BenchError
from bench.records import Record
from bench.settings.workloads import workload_of
from bench.workloads.models import drawn
from bench.workloads.workload import Workload


def load_model(run: str | Path) -> nn.Module:
    """The model that a run left, on the CPU and in evaluation mode:

        from bench import load_model
        from bench.data import load

        model = load_model("runs/default/mnist_mlp/adam/lr=0.001,seed=0")
        test = load("mnist").test
        correct = (model(test.images).argmax(1) == test.labels).float().mean()

    Args:
        run: its directory. Runs of a stack have left theirs, too.

    Returns:
        What `Workload.deployed` makes of the model, here of images as the data set has them, from 0
        to 255; with the ``record`` of its run as an attribute.

    Raises:
        BenchError: that is no run which has ended, or it left no weights.
    """
    record, workload, model = finished(run)
    deployed = workload.deployed(model)
    deployed.record = record  # type: ignore[assignment]
    return deployed.eval()


def finished(run: str | Path, *, scored: bool = True) -> tuple[Record, Workload, nn.Module]:
    """The same as it was trained: on the workload's own examples.

    Args:
        scored: of a run with ``trainer.ema_decay`` the average of its weights, which was evaluated,
            rather than the weights themselves.

    Raises:
        BenchError: as `load_model`.
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
    if record.status == "pruned":
        raise BenchError(f"{directory}: its run was {record.stopped}; the same run alone ends it")
    state = checkpoint(directory, record)["state_dict"]
    weights = _weights(directory, state, scored=scored)
    workload = workload_of(record.config)
    model = drawn(workload, record.seed)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise BenchError(f"{directory / CHECKPOINT}: {' '.join(str(error).split())}") from error
    return record, workload, model


def checkpoint(directory: Path, record: Record) -> dict[str, Any]:
    """What a run left: ``state_dict``, and with it, unless it trained in a stack,
    ``optimizer_states``.

    Raises:
        BenchError: it left nothing, or nothing that can be read.
    """
    path = directory / CHECKPOINT
    if not path.is_file():
        raise BenchError(
            f"{directory}: its run ({record.status}) left no {CHECKPOINT}; one that does is made "
            "with trainer.enable_checkpointing=true"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        _ = content["state_dict"].items()
    except (
        OSError,
        RuntimeError,
        LookupError,
        TypeError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise BenchError(f"{path}: not a checkpoint of plain numbers that can be read") from error
    return content


def _weights(directory: Path, state: dict[str, Any], *, scored: bool) -> dict[str, Any]:
    for part in ("averaged.", "model.") if scored else ("model.",):
        weights = {k.removeprefix(part): v for k, v in state.items() if k.startswith(part)}
        if weights:
            return weights
    raise BenchError(f"{directory / CHECKPOINT}: holds no weights of a model")
