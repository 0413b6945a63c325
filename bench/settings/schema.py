"""Structured configs: what each key is, its type, its default and what it accepts.

Hydra merges the YAML files of ``conf/`` and the command line into these, so that a misspelt key or
a wrong type fails before anything runs; `validate` then checks ranges. The optimizers' and the
schedules' keys come from their own declarations in `optimizers`. No torch here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from typing import Any, Optional, Union, cast

import numpy as np
import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from bench.errors import BenchError
from bench.settings import help
from bench.settings.fields import accepts, section, whole_or
from bench.settings.hydra import describe_workloads, root_of
from bench.settings.messages import explain, no_such_key
from bench.settings.paths import called, found
from bench.settings.workloads import CLASSIFIER, kind_of, schema_for, workload_of
from bench.workloads.classifiers import CNN, MLP
from bench.workloads.workload import Workload
from optimizers.rule import OPTIONS, Hyperparameter, Rule
from optimizers.rules import RULES
from optimizers.schedules import SCHEDULES
from optimizers.without_rules import METHODS

DEFAULT_EPOCHS = 5
PLACES = ("tensorboard", "compare")  # of ``runs_dir``, which hold what reports make of studies
MOST_STEPS = 100_000_000  # the learning rates of all steps are computed at once


@dataclass
class Trainer:
    """Lightning's own names, then ours, from ``steps_per_execution`` on.

    Without ``max_epochs`` a run takes `DEFAULT_EPOCHS`, or ``max_steps`` if they are given. With
    ``evaluations`` it is validated so many times, most often at its start (`evaluation_steps`), and
    its training loss is logged then, too. After ``patience`` validations without a better value of
    the metric it stops. With ``accumulate_grad_batches`` a step takes the mean gradient of so many
    batches, and steps are what everything else counts.
    At ``curvature`` of its validations the Hessian of its loss is measured.
    With ``ema_decay`` it is validated and tested with the exponential moving average of its
    weights. ``callbacks`` and ``loggers`` work beside ours: each a dotted path, or
    ``{_target_: path, argument: value}``. With ``resume`` a run goes on from the longest finished
    one that differs only in its length. Every ``checkpoint_seconds`` (null for never), and after
    evaluations, a run is saved: ended early, it goes on from there by the same command.
    """

    max_epochs: Optional[int] = accepts(None, "[1, inf)", kind=int)  # noqa: UP045
    max_steps: int = accepts(-1, "[-1, inf)", kind=int)
    accelerator: str = "auto"
    devices: Union[int, str] = whole_or(1, "auto")  # noqa: UP007
    strategy: str = "auto"
    precision: str = accepts(
        "32-true", None, "32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true"
    )
    accumulate_grad_batches: int = accepts(1, "[1, inf)", kind=int)
    log_every_n_steps: int = accepts(50, "[1, inf)", kind=int)
    val_check_interval: Optional[int] = accepts(None, "[1, inf)", kind=int)  # noqa: UP045
    check_val_every_n_epoch: int = accepts(1, "[1, inf)", kind=int)
    deterministic: bool = True
    enable_progress_bar: bool = True
    enable_checkpointing: bool = True
    enable_model_summary: bool = False
    steps_per_execution: Union[int, str] = whole_or("auto", "auto")  # noqa: UP007
    evaluations: Optional[int] = accepts(None, "[1, inf)", kind=int)  # noqa: UP045
    patience: Optional[int] = accepts(None, "[1, inf)", kind=int)  # noqa: UP045
    curvature: Optional[int] = accepts(None, "[1, inf)", kind=int)  # noqa: UP045
    cuda_graph: str = accepts("auto", None, "auto", "never")
    threads: Optional[int] = accepts(None, "[1, 1024]", kind=int)  # noqa: UP045
    keep_freed_memory: bool = True
    ema_decay: Optional[float] = accepts(None, "[0, 1)")  # noqa: UP045
    checkpoint_seconds: Optional[float] = accepts(30.0, "[0, inf)", none=True)  # noqa: UP045
    callbacks: list[Any] = field(default_factory=list, metadata={"by_path": True})
    loggers: list[Any] = field(default_factory=list, metadata={"by_path": True})
    resume: bool = False


@dataclass
class Schedule:
    name: str = MISSING


@dataclass
class Config:
    """The kinds of its parts are checked by `checked`: OmegaConf fails on unions within them."""

    study: str = "default"
    seed: int = accepts(0, "[0, 4294967295]", kind=int)
    runs_dir: str = "runs"
    data_dir: Optional[str] = None  # noqa: UP045
    diagnostics: bool = False
    workload: Any = section(Workload)
    optimizer: Any = section(object)  # ours, or any class's
    schedule: Any = section(object)
    trainer: Any = section(Trainer)


def schema_of(
    name: str, target: str | None, declared: Mapping[str, Hyperparameter], *bases: type
) -> type:
    """A dataclass with a field for each declared hyperparameter."""
    typed: list[Any] = [("name", str, field(default=name))]
    if target is not None:
        typed.append(("_target_", str, field(default=target)))
    for key, hyperparameter in declared.items():
        default = hyperparameter.default
        kind = type(default) if default is not None else hyperparameter.kind
        annotation = Optional[kind] if default is None else kind  # noqa: UP045
        typed.append(
            (key, annotation, field(default=default, metadata={"declared": hyperparameter}))
        )
    return make_dataclass(name, typed, bases=bases)


def register() -> None:
    """Tells Hydra of the schemas: the root, and one for each group option."""
    store = ConfigStore.instance().store
    store(name="base", node=Config)
    store(group="schema/trainer", name="base", node=Trainer)
    # What files of workloads began with before they named a class.
    store(group="schema/workload", name="base", node=schema_for({"_target_": CLASSIFIER}))
    store(group="schema/model", name="mlp", node=MLP)
    store(group="schema/model", name="cnn", node=CNN)
    for name, rule in RULES.items():
        schema = schema_of(name, f"optimizers.{rule.__name__}", {**rule.hyperparameters, **OPTIONS})
        store(group="schema/optimizer", name=name, node=schema)
    for name, method in METHODS.items():
        schema = schema_of(name, f"optimizers.{method.kind}", method.hyperparameters)
        store(group="schema/optimizer", name=name, node=schema)
    for name, schedule in SCHEDULES.items():
        schema = schema_of(name, None, schedule.declarations(), Schedule)
        store(group="schema/schedule", name=name, node=schema)
    # Any importable class: its arguments are its own, so no key is unknown here.
    for group in ("workload", "optimizer", "schedule"):
        anything = DictConfig({"name": "${._target_}", "_target_": "???"}, flags={"struct": False})
        store(group=group, name="custom", node=anything)
    describe_workloads()
    help.register()


def validate(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain containers.

    Raises:
        BenchError: a value is missing or out of range.
    """
    return completed(typed(config))


def typed(config: DictConfig) -> dict[str, Any]:
    """The configuration, which takes the fields of its own classes, as plain containers in which
    each value by itself is accepted.

    Raises:
        BenchError: a value is missing or out of range.
    """
    _give_schema(config)
    return checked(config)


def completed(plain: dict[str, Any]) -> dict[str, Any]:
    """The same, with what follows from it, and what no key can tell alone looked at.

    Raises:
        BenchError: values do not go together.
    """
    _name_optimizer(plain["optimizer"])
    _name_schedule(plain["schedule"])
    trainer = plain["trainer"]
    if trainer["max_epochs"] is None and trainer["max_steps"] == -1:
        trainer["max_epochs"] = DEFAULT_EPOCHS
    _check_together(plain)
    return plain


def _give_schema(config: DictConfig) -> None:
    """Has a workload whose class only the command line named take that class's fields, and looks
    whether classes are named at all.

    Raises:
        BenchError: there is no such class, or it has no such keys.
    """
    for group in ("workload", "optimizer", "schedule"):
        section = config.get(group)
        if isinstance(section, DictConfig) and OmegaConf.is_missing(section, "_target_"):
            raise BenchError(
                f"{group}._target_: a value is needed: a dotted path, such as my_module.MyClass"
            )
    given = config.get("workload")
    if not isinstance(given, DictConfig):
        return
    target = OmegaConf.select(config, "workload._target_")
    if OmegaConf.get_type(config, "workload") is kind_of(target):
        return
    try:
        values = OmegaConf.to_container(given, resolve=True)
        typed = OmegaConf.create({"workload": schema_for(cast(dict[str, Any], values))})
        merged = OmegaConf.merge(typed, {"workload": values})
    except OmegaConfBaseException as error:
        raise BenchError(explain(error)) from error
    with open_dict(config):
        config.workload = cast(DictConfig, merged).workload


def checked(node: DictConfig, prefix: str = "") -> dict[str, Any]:
    """A structured config as plain containers, each value held against its declaration.

    Raises:
        BenchError: a value is missing, not understood or out of range.
    """
    try:
        container = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise BenchError(explain(error)) from error
    plain = cast(dict[str, Any], container)
    for key, value, metadata in _described(node, plain, prefix):
        check(key, value, metadata)
    return plain


def declarations(node: DictConfig, plain: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the fields of a structured config say of each value, by key; for `check`."""
    return {key: metadata for key, _, metadata in _described(node, plain)}


def check(key: str, value: Any, metadata: Mapping[str, Any]) -> None:
    """Holds a value against what its field says.

    Raises:
        BenchError: it is out of range.
    """
    if "declared" in metadata:
        _check(key, value, metadata["declared"])
    for item in value if "each" in metadata else ():
        _check(key, item, Hyperparameter(1, metadata["each"], kind=int))
    if "by_path" in metadata:
        value[:] = [_by_path(key, item) for item in value]
    word = metadata.get("whole_or", value)
    if value != word and not (isinstance(value, int) and value >= 1):
        raise BenchError(f"{key}={value}: must be a whole number from 1, or {word!r}")


def total_steps(config: Mapping[str, Any]) -> int:
    """Optimizer steps of a run that nothing ends early."""
    trainer, limits = config["trainer"], []
    if trainer["max_steps"] != -1:
        limits.append(trainer["max_steps"])
    if trainer["max_epochs"] is not None:
        limits.append(trainer["max_epochs"] * steps_per_epoch(config))
    return min(limits)


def evaluation_steps(config: Mapping[str, Any]) -> list[int] | None:
    """The optimizer steps after which a run with ``trainer.evaluations`` is validated: as many, or
    every step if there are fewer; the last one always. None where nothing of the kind is said.

    They grow with the cube. Straight lines between points so placed err the least, in the mean over
    all steps, from a curve that falls like a logarithm: in the L1 norm points are best as dense as
    the cube root of the second derivative (de Boor 1973), which is ``step**(-2/3)``.
    """
    count = config["trainer"].get("evaluations")
    if count is None:
        return None
    total, steps = total_steps(config), [0]
    count = min(count, total)
    for k in range(1, count + 1):
        steps.append(max(-(-total * k**3 // count**3), steps[-1] + 1))
    return steps[1:]


def multipliers(schedule: Mapping[str, Any], steps: int) -> list[float]:
    """The learning-rate multiplier of every step of a run, computed at once."""
    options = {key: value for key, value in schedule.items() if key not in ("name", "_target_")}
    if "_target_" in schedule:
        return _own_multipliers(schedule["_target_"], options, steps)
    if "total_steps" in options and options["total_steps"] is None:
        options["total_steps"] = steps
    return cast(list[float], SCHEDULES[schedule["name"]](**options)(np.arange(steps)).tolist())


def _own_multipliers(target: str, options: Mapping[str, Any], steps: int) -> list[float]:
    """Those of a person's function of the steps taken, an array [steps], or of a class whose
    instances are such functions. Either is given ``total_steps`` if it takes them."""
    key, total = "schedule._target_", {"total_steps": steps}
    function = found(key, target, "my_module.my_schedule")
    before = np.arange(steps)
    if isinstance(function, type):
        values = called(key, target, called(key, target, function, options, total), {}, {}, before)
    else:
        values = called(key, target, function, options, total, before)
    try:
        return np.broadcast_to(np.asarray(values, np.float64), steps).tolist()
    except (TypeError, ValueError) as error:
        raise BenchError(
            f"{key}={target}: must give {steps} numbers for an array of {steps} steps ({error})"
        ) from error


def steps_per_epoch(config: Mapping[str, Any]) -> int:
    """Optimizer steps of an epoch."""
    workload, accumulated = workload_of(config), config["trainer"].get("accumulate_grad_batches", 1)
    size = workload.train_size
    batch_size = size if workload.batch_size == "full" else int(workload.batch_size)
    batches = size // batch_size if workload.drop_last else -(-size // batch_size)
    return -(-batches // accumulated)


def as_yaml(plain: Any) -> str:
    """Plain containers as YAML, by libyaml: in pure Python it takes many times as long."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(plain, Dumper=dumper, sort_keys=False)


def _described(
    node: DictConfig, plain: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every value of a structured config, which is also given as plain containers (to read those
    takes a tenth of the time): its key, itself, and the metadata of its field.

    Raises:
        BenchError: it is not what its schema says: a key too many (Hydra lets ``+`` add any), or
            one that was taken out, or another thing where a section belongs.
    """
    schema = OmegaConf.get_type(node)
    metadata = {f.name: f.metadata for f in fields(schema)} if is_dataclass(schema) else {}
    if is_dataclass(schema):
        for name in plain.keys() - metadata.keys():
            raise BenchError(no_such_key(f"{prefix}{name}", sorted(metadata), root_of(node)))
        for name in metadata.keys() - plain.keys():
            raise BenchError(f"{prefix}{name}: a value is needed, none was given")
    for name, value in plain.items():
        key = f"{prefix}{name}"
        described: Mapping[str, Any] = metadata.get(name, {})
        if "part" in described:
            _check_part(key, value, OmegaConf.get_type(node, name), described["part"])
        if isinstance(value, dict):
            yield from _described(node[name], value, f"{key}.")
        else:
            yield key, value, described


def _check_part(key: str, value: Any, given: Any, kind: type) -> None:
    own = isinstance(value, dict) and "_target_" in value  # whose keys are its class's
    if not (own or (isinstance(value, dict) and issubclass(given, kind))):
        keys = [f.name for f in fields(kind)] if is_dataclass(kind) else ["_target_"]
        raise BenchError(f"{key}={value}: a section stands here, with {', '.join(keys)}")


def rule_of(optimizer: Mapping[str, Any]) -> type[Rule] | None:
    """The rule that these options are for; None for a class of somebody else's."""
    rule = RULES.get(optimizer["name"])
    ours = rule is not None and optimizer["_target_"] == f"optimizers.{rule.__name__}"
    return rule if ours else None


def _name_optimizer(optimizer: dict[str, Any]) -> None:
    """A class that is given one of our rules' arguments does not get its name."""
    for key in ("name", "_target_"):
        if not isinstance(optimizer.get(key), str):
            raise BenchError(f"optimizer.{key}={optimizer.get(key)}: must be text")
    method = METHODS.get(optimizer["name"])
    ours = method is not None and optimizer["_target_"] == f"optimizers.{method.kind}"
    if optimizer["name"] in {*RULES, *METHODS} and not ours and rule_of(optimizer) is None:
        optimizer["name"] = optimizer["_target_"]


def _name_schedule(schedule: dict[str, Any]) -> None:
    """The same, where one of ours was chosen and another's path given."""
    for key in ("name", *(("_target_",) if "_target_" in schedule else ())):
        if not isinstance(schedule.get(key), str):
            raise BenchError(f"schedule.{key}={schedule.get(key)}: must be text")
    if "_target_" not in schedule and schedule["name"] not in SCHEDULES:
        raise BenchError(
            f"schedule.name={schedule['name']}: no such schedule; there are {', '.join(SCHEDULES)}"
        )


def _check(key: str, value: Any, declared: Hyperparameter) -> None:
    try:
        declared.check(key, value)
    except ValueError as error:
        raise BenchError(str(error)) from error


def _by_path(key: str, item: Any) -> dict[str, Any]:
    """What is to be made, whose path may stand alone."""
    described = {"_target_": item} if isinstance(item, str) else item
    if not (isinstance(described, dict) and isinstance(described.get("_target_"), str)):
        raise BenchError(
            f"{key}: {item!r} is not accepted: each must be a dotted path, or "
            "{_target_: path, argument: value}"
        )
    return described


def _check_together(config: Mapping[str, Any]) -> None:
    """What no key can tell alone."""
    study, workload, trainer = config["study"], config["workload"], config["trainer"]
    names = {
        "study": study,
        "workload.name": workload["name"],
        "optimizer.name": config["optimizer"]["name"],
        "schedule.name": config["schedule"]["name"],
    }
    for key, name in names.items():
        if not re.fullmatch(r"\w[\w.+:-]*" if "." in key else r"\w[\w.+-]*", name):
            raise BenchError(
                f"{key}={name}: must be a plain directory name (letters, digits, . _ + -)"
            )
    if study in PLACES:
        raise BenchError(f"study={study}: that place beside studies is taken; choose another name")
    own = workload_of(config)
    own.check()
    if "_target_" in config["schedule"]:
        multipliers(config["schedule"], 2)
    accumulated = trainer["accumulate_grad_batches"]
    if own.batch_size == "full" and accumulated > 1:
        raise BenchError(
            f"trainer.accumulate_grad_batches={accumulated}: an epoch is one batch with "
            "workload.batch_size=full; give the size of a batch to accumulate several"
        )
    steps = steps_per_epoch(config)
    interval = trainer["val_check_interval"]
    if interval is not None and interval > steps:
        raise BenchError(
            f"trainer.val_check_interval={interval}: at most the {steps} steps of an epoch; "
            "for longer ones use trainer.check_val_every_n_epoch"
        )
    if trainer["evaluations"] is not None:
        for key, unset in (("val_check_interval", None), ("check_val_every_n_epoch", 1)):
            if trainer[key] != unset:
                raise BenchError(
                    f"trainer.evaluations={trainer['evaluations']}, trainer.{key}={trainer[key]}: "
                    "both say when a run is validated; leave one of them out, or set "
                    "trainer.evaluations=null"
                )
    if trainer["patience"] is not None and not own.validates:
        raise BenchError(
            f"trainer.patience={trainer['patience']}: waits for a better {own.metric.name} on "
            "validation data, and there are none; set workload.val_size"
        )
    if trainer["ema_decay"] is not None and trainer["precision"] == "bf16-true":
        raise BenchError(
            f"trainer.ema_decay={trainer['ema_decay']}: weights in bfloat16 are too coarse to be "
            "averaged; use trainer.precision=bf16-mixed"
        )
    if trainer["max_steps"] == 0:
        raise BenchError("trainer.max_steps=0: must be at least 1, or -1 for no limit")
    if total_steps(config) > MOST_STEPS:
        given = [f"trainer.{key}={trainer[key]}" for key in ("max_epochs", "max_steps")]
        raise BenchError(f"{', '.join(given)}: at most {MOST_STEPS:,} steps")
