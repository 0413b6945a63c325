"""What leans on Hydra's inner workings, in one place. What is heavy is imported when it is needed.

Beside that, configuration files of workloads get the fields of the class that they name: a file in
``workload/`` says ``_target_`` and values, and Hydra is to know every other key, too, with its type
and default, before the command line is merged into it. It loads configurations through sources, one
for each scheme of a place (``file://``, ``pkg://``), which are replaced here.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

WORKLOADS = "workload/"


def flags() -> ArgumentParser:
    """Hydra's, as it parses them."""
    from hydra._internal.utils import get_args_parser

    return get_args_parser()


def compose_and_run(task: Callable[[Any], None], **options: Any) -> None:
    """What ``hydra.main`` does after it has looked at the function it decorates."""
    from hydra._internal.utils import _run_hydra

    _run_hydra(task_function=task, **options)


def source(scheme: str, path: str) -> Any:
    """A place for configurations, through which Hydra reads them.

    Raises:
        ValueError: there are no such places.
    """
    return _sources().resolve(scheme)("", f"{scheme}://{path}")


def options(loader: Any, group: str) -> list[str]:
    """Of a group, sorted; without composing anything, which Hydra's own question for them does."""
    from hydra.core.object_type import ObjectType

    return sorted(loader.repository.get_group_options(group, ObjectType.CONFIG))


def text_of(loader: Any, name: str) -> str:
    """What stands in a configuration's file, comments too; nothing where it has none."""
    for source in loader.get_sources():
        if source.is_config(name):
            place = Path(source.path)
            if source.scheme() == "pkg":
                place = Path(str(resources.files(source.path.replace("/", "."))))
            path = place / f"{name}.yaml"
            return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return ""


def set_values(values: Sequence[Any], config: Any) -> None:
    """Sets what overrides say in a composed configuration."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    ConfigLoaderImpl._apply_overrides_to_config(list(values), config)


def root_of(config: Any) -> Any:
    """The whole configuration that it is a part of."""
    return config._get_root()


def node_of(config: Any, key: str) -> Any:
    """What stands there; a section only where it has something in it. Resolves nothing."""
    node = config._get_node(key)
    return None if node._is_none() or node._is_missing() or node._is_interpolation() else node


def directory_name(overrides: Sequence[Any], **options: Any) -> str:
    """Hydra's name for a job with these overrides."""
    from hydra._internal.config_loader_impl import get_overrides_dirname

    return get_overrides_dirname(list(overrides), **options)


def describe_workloads() -> None:
    """From now on, in this process, every file of a workload has all keys of its class."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.core_plugins.importlib_resources_config_source import (
        ImportlibResourcesConfigSource,
    )

    types = _sources().types
    for usual in (FileConfigSource, ImportlibResourcesConfigSource):
        types[usual.scheme()] = _describing(usual)


def _sources() -> Any:
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.plugins import Plugins

    Plugins.instance()  # registers what kinds of places there are
    return SourcesRegistry.instance()


def _describing(usual: Any) -> Any:
    def load_config(self: Any, config_path: str) -> Any:
        result = usual.load_config(self, config_path)
        if config_path.startswith(WORKLOADS):
            result.config = _described(result.config)
        return result

    return type(usual.__name__, (usual,), {"load_config": load_config})


def _described(config: Any) -> Any:
    """With the keys, types and defaults of the class it names, if it names one."""
    from omegaconf import DictConfig, OmegaConf, open_dict

    from bench.settings.workloads import schema_for

    if not (isinstance(config, DictConfig) and isinstance(config.get("_target_"), str)):
        return config
    values: Any = OmegaConf.to_container(config)
    defaults = {key: values.pop(key) for key in ("defaults",) if key in values}
    described = OmegaConf.merge(schema_for(values), values)
    with open_dict(described):
        described.merge_with(defaults)
    return described
