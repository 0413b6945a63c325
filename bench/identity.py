"""What a run is called: its digest, its directory and its hyperparameters, from its configuration.

No torch here: a sweep of thousands of runs is named before the first one starts.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LONGEST_NAME = 120

# Where things lie and how they are shown or executed: none of it changes a result.
NEUTRAL = frozenset(
    {
        "study",
        "runs_dir",
        "data_dir",
        "trainer.enable_progress_bar",
        "trainer.enable_checkpointing",
        "trainer.keep_freed_memory",
        "trainer.steps_per_execution",
        "trainer.cuda_graph",
        "trainer.resume",
    }
)

# Keys that came later, with what was done before: so set, they leave a run what it was.
ADDED: Mapping[str, Any] = {"trainer.patience": None, "trainer.accumulate_grad_batches": 1}


def digest(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits over everything in ``config`` that decides the result."""
    text = json.dumps(decisive(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of ``config`` that decides the result."""
    return {
        key: value
        for key, value in leaves(config)
        if key not in NEUTRAL and ADDED.get(key, ...) != value
    }


def run_directory(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Path:
    """``<runs_dir>/<study>/<workload>/<optimizer>/<what differs>``.

    The last part names the learning rate, a schedule that is not constant, every value that
    differs from ``defaults`` (the configuration of the same workload, optimizer and schedule with
    nothing else said), and the seed: ``lr=0.01,schedule=cosine,momentum=0.8,seed=0``.
    """
    usual = dict(leaves(defaults))
    own = {key: value for key, value in leaves(config) if key not in NEUTRAL and key != "seed"}
    changed = {key: value for key, value in own.items() if usual.get(key, ...) != value}
    if own.get("trainer.max_epochs") is None:  # max_steps says how long
        changed.pop("trainer.max_epochs", None)
    for key in ("workload.name", "optimizer.name", "optimizer._target_", "optimizer.lr"):
        changed.pop(key, None)
    parts = {"lr": config["optimizer"]["lr"]} if config["optimizer"].get("lr") is not None else {}
    if config["schedule"]["name"] != "constant":
        parts["schedule"] = config["schedule"]["name"]
    parts |= _short(changed) | {"seed": config["seed"]}
    name = ",".join(f"{key}={_readable(value)}" for key, value in parts.items())
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 17]},{digest(config)}"
    return Path(
        config["runs_dir"],
        config["study"],
        config["workload"]["name"],
        config["optimizer"]["name"],
        name,
    )


def hyperparameters(config: Mapping[str, Any]) -> dict[str, float]:
    """The numbers a study may vary: of the optimizer and the workload by their own names, of the
    schedule as ``schedule.<name>``."""
    numbers: dict[str, float] = {}
    for key, value in leaves(config):
        group, _, rest = key.partition(".")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if group == "optimizer":
            numbers[rest] = value
        elif group == "schedule":
            numbers[key] = value
        elif key in ("workload.batch_size", "workload.l2") or key.startswith("workload.model."):
            numbers[rest.removeprefix("model.")] = value
    return numbers


def record_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record that are known before the run starts."""
    return {
        "id": digest(config),
        "study": config["study"],
        "workload": config["workload"]["name"],
        "optimizer": config["optimizer"]["name"],
        "schedule": config["schedule"]["name"],
        "seed": config["seed"],
        "hyperparameters": hyperparameters(config),
        "config": dict(config),
    }


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings with its dotted key; a list is one value."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys cut to their last part, except where two would be the same."""
    last = {key: key.rpartition(".")[2] for key in values}
    uses = Counter([*last.values(), "lr", "schedule", "seed"])
    return {
        last[key] if uses[last[key]] == 1 else key: value for key, value in sorted(values.items())
    }


def _readable(value: Any) -> str:
    if isinstance(value, list | tuple):
        text = "-".join(map(_readable, value))
    elif isinstance(value, bool) or value is None:
        text = str(value).lower()
    else:
        text = str(value)
    return re.sub(r"[^\w.+-]+", "_", text)
