"""The workload that a configuration describes."""

import functools
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bench.errors import BenchError
from bench.settings.paths import found, line
from bench.workloads.workload import Workload

EXAMPLE = "my_module.MyWorkload"
CLASSIFIER = "bench.workloads.ImageClassifier"  # what every workload was until records told
KEPT = 16  # workloads of different settings, with the steps that were recorded of each


def kind_of(target: Any) -> type[Workload]:
    """The class at a path.

    Raises:
        BenchError: there is none, or it is no workload.
    """
    kind = found("workload._target_", target, EXAMPLE)
    if not (isinstance(kind, type) and issubclass(kind, Workload)):
        raise BenchError(f"workload._target_={target}: is no subclass of bench.workloads.Workload")
    return kind


def schema_for(given: Mapping[str, Any]) -> DictConfig:
    """The keys of the section ``workload``, with types and defaults, where these values are given.

    Raises:
        BenchError: there is no such class, or its fields are none that a configuration can hold.
    """
    target = given["_target_"]
    kind = kind_of(target)
    try:
        schema = OmegaConf.structured(kind.schema(given))
        schema["_target_"] = target
        return schema
    except Exception as error:
        raise BenchError(f"workload._target_={target}: {line(error)}") from error


def workload_of(config: Mapping[str, Any]) -> Workload:
    """That of a resolved configuration, of a record's, too. The same for the same settings."""
    return _made(json.dumps(config["workload"], sort_keys=True), config.get("data_dir"))


def problem_keys(config: Mapping[str, Any]) -> list[str]:
    """The keys of the section ``workload`` that say what is minimised, not how."""
    return _problem_keys(config["workload"].get("_target_", CLASSIFIER))


@functools.cache
def _problem_keys(target: str) -> list[str]:
    return [
        f"workload.{own.name}" for own in fields(kind_of(target)) if own.metadata.get("problem")
    ]


@functools.lru_cache(KEPT)
def _made(settings: str, data_dir: str | None) -> Workload:
    values = {"_target_": CLASSIFIER} | json.loads(settings)
    target = values["_target_"]
    try:
        workload = kind_of(target)(**values)
    except TypeError as error:
        raise BenchError(f"workload._target_={target}: {line(error)}") from error
    workload.data_dir = None if data_dir is None else Path(data_dir)  # type: ignore[misc]
    return workload
