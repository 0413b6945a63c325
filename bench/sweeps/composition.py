"""The configurations of a sweep, composed quickly.

Hydra takes some 60 ms to put a configuration together from its groups, and next to nothing to set
values in it. So each choice of groups is composed once, and the values of a job are set in a copy
of that: by Hydra's own code and in its order, so that types, errors and results are Hydra's.
"""

import copy
import functools
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from bench.settings.hydra import directory_name, set_values
from bench.settings.jobs import split
from bench.settings.overrides import usable


class Composer:
    """Composes the jobs of a sweep.

    Args:
        config: of the sweep itself, as Hydra composed it.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self.loader = loader
        self.config = config
        self._composed = functools.cache(self._load)
        self._is_group = functools.cache(self._has_options)

    def compose(self, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
        """What Hydra's ``load_sweep_config`` makes of a job, as `split` divides it.

        Raises:
            BenchError, HydraException: an override is not understood or not accepted.
        """
        parsed = [override for line in overrides for override in parse(line)]
        values = list(filter(self._sets_value, parsed))
        chosen = [o.input_line for o in parsed if not self._sets_value(o)]
        own, hydra = self._composed(*chosen)
        own = copy.deepcopy(own)
        set_values(values, own)
        ours = [override for override in parsed if not override.is_hydra_override()]
        task = [override.input_line for override in ours]
        name = directory_name(ours, **hydra["job"]["config"]["override_dirname"])
        return own, hydra | {
            "overrides": hydra["overrides"] | {"task": task},
            "job": hydra["job"] | {"override_dirname": name},
        }

    def _load(self, *overrides: str) -> tuple[DictConfig, dict[str, Any]]:
        return split(self.loader.load_sweep_config(self.config, list(overrides)))

    def _sets_value(self, override: Override) -> bool:
        """Rather than having a say in what is put together; told apart as Hydra does."""
        if override.is_hydra_override() or override.is_sweep_override():
            return False
        return isinstance(override.value(), dict) or not self._is_group(override.key_or_group)

    def _has_options(self, group: str) -> bool:
        settings = list(self.config.hydra.overrides.hydra)
        name = self.config.hydra.job.config_name
        return bool(self.loader.get_group_options(group, None, name, settings))


@functools.cache
def parse(line: str) -> list[Override]:
    return OverridesParser.create().parse_overrides(usable(line))
