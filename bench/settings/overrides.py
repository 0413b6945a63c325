"""What an override may not say: Hydra would take it, or end in a traceback."""

import functools
import re
from dataclasses import fields, replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from bench.errors import BenchError
from bench.settings.schema import Config

KEY = re.compile(r"[a-z]\w*(\.\w+)*", re.ASCII)
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?", re.ASCII)  # most, as Hydra reads them
MOST_LINES = 10_000  # that are remembered, parsed
GROUPS = {"experiment", *(f.name for f in fields(Config) if "part" in f.metadata)}

# What Hydra would write, and where; with what we have it do, which Lightning says again to the
# other processes of a run.
OURS: dict[str, tuple[Any, ...]] = {
    "hydra.run.dir": (".",),
    "hydra.sweep.dir": (".",),
    "hydra.sweep.subdir": (".",),
    "hydra.output_subdir": (None,),
    "hydra.job.chdir": (None, False),
}


def usable(line: str) -> list[str]:
    """What to tell Hydra instead: a choice by its name, even where that is a number; and nothing
    for ``experiment=null``, which holds anyway.

    Raises:
        BenchError: it says what it may not.
        HydraException: it is not understood.
    """
    override = parsed(line)
    check(override)
    key, value = override.key_or_group, override.value()
    chosen = key in GROUPS or "/" in key
    if not chosen or override.is_sweep_override() or isinstance(value, str | list | dict):
        return [line]
    if value is None and (override.is_delete() or key == "experiment"):
        return [line] if override.is_delete() else []
    return [f"{override.get_key_element()}='{override.get_value_element_as_str()}'"]


@functools.lru_cache(MOST_LINES)
def parsed(line: str) -> Override:
    """One override, by Hydra's grammar. Of numbers, of which a sweep has thousands, it is asked
    once for each key: it takes a third of a millisecond.

    Raises:
        HydraException: it is not understood.
    """
    key, _, value = line.partition("=")
    if NUMBER.fullmatch(value) and KEY.fullmatch(key):
        number = int(value) if value.lstrip("-").isdigit() else float(value)
        return replace(_of_key(key), _value=number, input_line=line)
    return _parser().parse_overrides([line])[0]


@functools.lru_cache(MOST_LINES)
def _of_key(key: str) -> Override:
    return _parser().parse_overrides([f"{key}=0"])[0]


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def check(override: Override) -> None:
    """
    Raises:
        BenchError: it says what it may not.
    """
    key, value = override.key_or_group, override.value()
    if key == "hydra/sweeper" and value == "basic":
        raise BenchError(
            f"{override.input_line}: leaves a file of its own; leave it out, or take grid: each "
            "makes a run of every combination"
        )
    if any(is_within(ours, key) for ours in OURS) and value not in OURS.get(key, ()):
        raise BenchError(
            f"{override.input_line}: runs have directories of ours; runs_dir and study say where"
        )


def is_within(inner: str, outer: str) -> bool:
    """A key within another, or the same."""
    return f"{inner}.".startswith(f"{outer}.")
