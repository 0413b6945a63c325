"""What a run is called: its digest, its directory and its hyperparameters, from its configuration.

No torch here: a sweep of thousands of runs is named before the first one starts.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.settings.workloads import problem_keys

LONGEST_NAME = 120

# Where things lie and how they are shown or executed: none of it changes a result.
NEUTRAL = frozenset(
    {
        "study",
        "runs_dir",
        "data_dir",
        "trainer.enable_progress_bar",
        "trainer.enable_checkpointing",
        "trainer.enable_model_summary",
        "trainer.keep_freed_memory",
        "trainer.steps_per_execution",
        "trainer.cuda_graph",
        "trainer.loggers",
        "trainer.resume",
        "trainer.checkpoint_seconds",
    }
)

# Numbers of these groups may have a better value, but for those that say what is measured.
TUNABLE = ("optimizer", "schedule", "workload", "trainer.ema_decay")
NOT_TUNABLE = ("workload.target", "workload.val_size", "workload.split_seed")

# Keys that came later, with what was done before: so set, they leave a run what it was.
ADDED: Mapping[str, Any] = {
    "trainer.patience": None,
    "trainer.accumulate_grad_batches": 1,
    "trainer.ema_decay": None,
    "trainer.callbacks": [],
    "trainer.curvature": None,
    "trainer.evaluations": None,
    "workload.label_smoothing": 0.0,
    "workload.spread_decades": None,
    "workload.examples": None,
    "workload.label_noise": 0.0,
    "workload.model.kernel_size": 3,
    "workload._target_": "bench.workloads.ImageClassifier",
}

# How long a run may go on, each with what sets no limit: a budget that is given, not a setting
# that could be better or worse.
LENGTH: Mapping[str, Any] = {
    "trainer.max_epochs": None,
    "trainer.max_steps": -1,
    "trainer.patience": None,
}

SCALARS = (str, int, float, type(None))  # asked first: whether one is a mapping takes long to tell
GROUP_NAMES = ("workload.name", "optimizer.name", "schedule.name")


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything in ``config`` that decides the result, by key."""
    return {
        key: value
        for key, value in leaves(config)
        if key not in NEUTRAL and ADDED.get(key, ...) != value
    }


def digest(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits over everything in ``config`` that decides the result."""
    text = json.dumps(decisive(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    for key in ("workload.name", "optimizer.name", "schedule.name", "optimizer.lr"):
        changed.pop(key, None)
    for group in ("workload", "optimizer", "schedule"):  # their names say it
        changed.pop(f"{group}._target_", None)
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


def hyperparameters(config: Mapping[str, Any], problem: Collection[str] = ()) -> dict[str, float]:
    """The numbers a study may vary, without the keys of ``problem``: by their own names, those of
    the schedule as ``schedule.<name>``."""
    return {
        plain_name(key): value
        for key, value in leaves(config)
        if is_tunable(key) and key not in problem and _is_number(value)
    }


def is_tunable(key: str) -> bool:
    """Whether a configuration key, if it holds a number, may have a better value."""
    return key not in NOT_TUNABLE and (key in TUNABLE or key.partition(".")[0] in TUNABLE)


def plain_name(key: str) -> str:
    """``optimizer.lr`` is ``lr``, ``schedule.gamma`` stays, ``workload.model.init`` is ``init``."""
    group, _, rest = key.partition(".")
    return key if group == "schedule" or not rest else rest.removeprefix("model.")


def plain_names(keys: Iterable[str]) -> dict[str, str]:
    """The plain name of each key; the whole key where two would get the same name."""
    names = {key: plain_name(key) for key in keys}
    taken = Counter(names.values())
    return {key: name if taken[name] == 1 else key for key, name in names.items()}


def shown_settings(config: Mapping[str, Any]) -> dict[str, float | str]:
    """Everything that decides a run's result, each once, by plain names, as what TensorBoard's
    HParams can hold: lists, and truth values (which PyTorch would write as 1 and 0), are text;
    None, and a limit that is not set, are left out."""
    values = {
        key: value
        for key, value in leaves(config)
        if key not in NEUTRAL
        and not key.endswith("_target_")
        and value is not None
        and LENGTH.get(key, ...) != value
    }
    groups = {key: key.partition(".")[0] for key in values if key in GROUP_NAMES}
    names = plain_names(key for key in values if key not in groups) | groups
    return {
        names[key]: value if _is_number(value) or isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }


def record_fields(
    config: Mapping[str, Any],
    overrides: Sequence[str] = (),
    search: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields of a record that are known before the run starts."""
    problem = problem_keys(config)
    return {
        "id": digest(config),
        "study": config["study"],
        "workload": config["workload"]["name"],
        "optimizer": config["optimizer"]["name"],
        "schedule": config["schedule"]["name"],
        "seed": config["seed"],
        "hyperparameters": hyperparameters(config, problem),
        "problem": problem,
        "config": dict(config),
        "overrides": list(overrides),
        "search": search,
    }


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings with its dotted key; a list is one value."""
    for key, value in config.items():
        if not isinstance(value, SCALARS) and isinstance(value, Mapping):
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _readable(value: Any) -> str:
    if isinstance(value, list | tuple):
        text = "-".join(map(_readable, value))
    elif isinstance(value, Mapping):
        text = "-".join(_readable(v if k == "_target_" else f"{k}={v}") for k, v in value.items())
    elif isinstance(value, bool) or value is None:
        text = str(value).lower()
    else:
        text = str(value)
    return re.sub(r"[^\w.+-]+", "_", text)
