"""The configurations of a sweep, composed quickly.

Hydra takes some 60 ms to put a configuration together from its groups, and next to nothing to set
values in it. So each choice of groups is composed once, and the values of a job are set in a copy
of that: by Hydra's own code and in its order, so that types, errors and results are Hydra's.

To copy, check and resolve that takes another 10 ms. So of jobs that differ in numbers alone the
first is planned in full, and of the others only what their numbers decide. Whatever is out of the
ordinary is planned in full, too.
"""

import copy
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.errors import BenchError
from bench.settings.hydra import directory_name, set_values
from bench.settings.jobs import Job, job_of, noted, plan, split
from bench.settings.overrides import MOST_LINES, is_within, parsed, usable
from bench.settings.schema import check, completed, declarations, typed

MOST_PATTERNS = 64
MOST_SECTIONS = 1000
SHARED = ("workload", "schedule", "trainer")  # sections of which a sweep has few different ones


@dataclass(frozen=True)
class Pattern:
    """Jobs that differ in numbers alone.

    Attributes:
        plain: the configuration of the first of them, typed but not completed.
        hydra: Hydra's own, without what each job has for itself.
        keys: of the numbers, with what their fields say.
        number: that of an override as its field holds it.
    """

    plain: Mapping[str, Any]
    hydra: Mapping[str, Any]
    keys: Mapping[str, Mapping[str, Any]]
    number: Callable[[str], Any]

    def with_numbers(self, numbers: Mapping[str, Override]) -> dict[str, Any]:
        """The validated configuration of another job.

        Raises:
            BenchError, HydraException, OmegaConfBaseException: a number is not accepted.
        """
        plain = {k: dict(v) if isinstance(v, dict) else v for k, v in self.plain.items()}
        for key, override in numbers.items():
            value = self.number(str(override.input_line))
            check(key, value, self.keys[key])
            *sections, name = key.split(".")
            place = plain
            for depth, section in enumerate(sections):
                if depth > 0:  # the first is a copy already
                    place[section] = dict(place[section])
                place = place[section]
            place[name] = value
        return completed(plain)


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
        self._patterns: dict[tuple[str, ...], Pattern | None] = {}
        self._sections: dict[str, Any] = {}
        self._search: tuple[Mapping[str, Any] | None, dict[str, Any]] | None = None

    def plan(self, overrides: Sequence[str], search: Mapping[str, Any] | None = None) -> Job:
        """The job that `bench.settings.jobs.plan` makes of what is composed of these overrides;
        jobs share what they have in common.

        Args:
            search: how the sweep chose it; without, as far as Hydra tells.

        Raises:
            BenchError, HydraException: an override is not understood or not accepted.
        """
        said = _parsed(overrides)
        numbers = {o.key_or_group: o for o in said if self._sets_number(o)}
        kind = tuple(o.key_or_group if self._sets_number(o) else str(o.input_line) for o in said)
        pattern = self._patterns.get(kind)
        if pattern is not None:
            try:
                config = pattern.with_numbers(numbers)
                return self._job(config, self._told(said, pattern.hydra), search)
            except (BenchError, HydraException, OmegaConfBaseException):
                pass  # to be said as of any other job
        own, hydra = self.compose(overrides)
        job = plan(own, hydra, search)
        if kind not in self._patterns:
            if len(self._patterns) >= MOST_PATTERNS:
                self._patterns.clear()
            others = [o for o in said if self._sets_value(o) and not self._sets_number(o)]
            self._patterns[kind] = _pattern(own, hydra, numbers, others)
        return self._job(job.config, hydra, search)

    def compose(self, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
        """What Hydra's ``load_sweep_config`` makes of a job, as `split` divides it.

        Raises:
            BenchError, HydraException: an override is not understood or not accepted.
        """
        said = _parsed(overrides)
        values = list(filter(self._sets_value, said))
        chosen = [o.input_line for o in said if not self._sets_value(o)]
        own, hydra = self._composed(*chosen)
        own = copy.deepcopy(own)
        set_values(values, own)
        return own, self._told(said, hydra)

    def _told(self, said: Sequence[Override], hydra: Mapping[str, Any]) -> dict[str, Any]:
        """Hydra's own configuration of one job."""
        ours = [override for override in said if not override.is_hydra_override()]
        task = [override.input_line for override in ours]
        name = directory_name(ours, **hydra["job"]["config"]["override_dirname"])
        return {
            **hydra,
            "overrides": hydra["overrides"] | {"task": task},
            "job": hydra["job"] | {"override_dirname": name},
        }

    def _job(
        self, config: dict[str, Any], hydra: dict[str, Any], search: Mapping[str, Any] | None
    ) -> Job:
        """With what it has in common with other jobs."""
        if self._search is None or self._search[0] is not search:
            self._search = search, noted(hydra, search)
        for name in SHARED:
            if len(self._sections) >= MOST_SECTIONS:
                self._sections.clear()
            config[name] = self._sections.setdefault(json.dumps(config[name]), config[name])
        return job_of(config, hydra, self._search[1])

    def _load(self, *overrides: str) -> tuple[DictConfig, dict[str, Any]]:
        return split(self.loader.load_sweep_config(self.config, list(overrides)))

    def _sets_value(self, override: Override) -> bool:
        """Rather than having a say in what is put together; told apart as Hydra does."""
        if override.is_hydra_override() or override.is_sweep_override():
            return False
        return isinstance(override.value(), dict) or not self._is_group(override.key_or_group)

    def _sets_number(self, override: Override) -> bool:
        """And nothing else: no more than the number depends on which one it is."""
        return (
            override.type == OverrideType.CHANGE
            and override.package is None
            and type(override.value()) in (int, float)
            and not override.key_or_group.endswith("_target_")
            and self._sets_value(override)
        )

    def _has_options(self, group: str) -> bool:
        settings = list(self.config.hydra.overrides.hydra)
        name = self.config.hydra.job.config_name
        return bool(self.loader.get_group_options(group, None, name, settings))


def _pattern(
    own: DictConfig,
    hydra: Mapping[str, Any],
    numbers: Mapping[str, Override],
    others: Sequence[Override],
) -> Pattern | None:
    """What jobs have in common with the one that was planned; None where another number could
    change more than itself: where something refers to it, or is set within it or around it, or
    the keys of the workload's class may follow from it.

    Args:
        own: which `validate` has seen.
        others: the values that are set beside the numbers.
    """
    raw = _leaves(OmegaConf.to_container(own, resolve=False))
    named = {word for key in numbers for word in key.split(".")}
    for value in raw.values():
        if isinstance(value, str) and "${" in value:
            plainly = re.fullmatch(r"\$\{\.*(\w+(?:\.\w+)*)\}", value)
            if plainly is None or named & set(plainly[1].split(".")):
                return None
    for key in numbers:
        if type(raw.get(key)) not in (int, float):
            return None
        if any(is_within(o.key_or_group, key) or is_within(key, o.key_or_group) for o in others):
            return None
    if any(o.key_or_group == "workload._target_" for o in others):
        return None
    plain = typed(own)
    scratch = copy.deepcopy(own)

    @functools.lru_cache(MOST_LINES)
    def read(line: str) -> Any:
        override = parsed(line)
        set_values([override], scratch)
        return OmegaConf.select(scratch, override.key_or_group)

    fields = declarations(own, plain)
    return Pattern(plain, hydra, {key: fields[key] for key in numbers}, read)


def _leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """Every value of nested containers by its dotted key."""
    if not isinstance(node, dict | list):
        return {prefix: node}
    items = node.items() if isinstance(node, dict) else enumerate(node)
    found: dict[str, Any] = {}
    for key, value in items:
        found |= _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _parsed(lines: Sequence[str]) -> list[Override]:
    return [override for line in lines for override in parse(line)]


def parse(line: str) -> list[Override]:
    return [parsed(usual) for usual in usable(line)]
