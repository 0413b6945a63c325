"""Configuration files of workloads get the fields of the class that they name.

A file in ``workload/`` says ``_target_`` and values. Hydra is to know every other key, too, with
its type and default, before the command line is merged into it: it loads configurations through
sources, one for each scheme of a place (``file://``, ``pkg://``), which are replaced here.
"""

from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import (
    ImportlibResourcesConfigSource,
)
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

GROUP = "workload/"


def describe_workloads() -> None:
    """From now on, in this process."""
    Plugins.instance()  # registers Hydra's own
    types = SourcesRegistry.instance().types
    for source in (Files, Resources):
        types[source.scheme()] = source


class Described:
    def load_config(self, config_path: str) -> ConfigResult:
        result: ConfigResult = super().load_config(config_path)  # type: ignore[misc]
        if config_path.startswith(GROUP):
            result.config = described(result.config)
        return result


class Files(Described, FileConfigSource):
    pass


class Resources(Described, ImportlibResourcesConfigSource):
    pass


def described(config: Any) -> Any:
    """With the keys, types and defaults of the class it names, if it names one."""
    from bench.settings.workloads import schema_for

    if not (isinstance(config, DictConfig) and isinstance(config.get("_target_"), str)):
        return config
    values: Any = OmegaConf.to_container(config)
    apart = {key: values.pop(key) for key in ("defaults",) if key in values}
    merged = OmegaConf.merge(schema_for(values), values)
    if apart:
        OmegaConf.set_struct(merged, False)
        merged.merge_with(apart)
    return merged
