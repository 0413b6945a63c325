"""A job: one run to be made, from a composed configuration to its place.

No torch here: jobs are planned, validated and skipped without it.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose
from omegaconf import DictConfig, OmegaConf, open_dict

from bench import records
from bench.command_line import search_path, typed
from bench.declared import LONGEST
from bench.errors import BenchError
from bench.records import Record
from bench.settings.identity import digest, run_directory
from bench.settings.overrides import usable
from bench.settings.schema import validate
from bench.settings.workloads import schema_for


@dataclass(frozen=True)
class Job:
    """A validated configuration and where its run belongs.

    Attributes:
        config: resolved, plain containers.
        hydra: Hydra's own configuration, for ``.hydra/hydra.yaml``.
        overrides: what was said on the command line for this run, and where a person's own
            configurations lie.
        search: how it was chosen, as `bench.records.Search` says.
        threads: of a run that this one repeats, which has as many unless its configuration says
            otherwise: sums are made in parts, one for each.
        until: the step after which it pauses, at its next validation, for a sweep that may stop it
            there; None for nowhere. It is no part of what the run is: a pause changes nothing.
    """

    config: dict[str, Any]
    hydra: dict[str, Any]
    overrides: tuple[str, ...]
    directory: Path
    search: Mapping[str, Any] | None = None
    until: int | None = None
    threads: int | None = None

    @property
    def name(self) -> str:
        return "/".join(self.directory.parts[-3:])

    def recorded(self) -> Record | None:
        """The record that lies in the run's directory, if any, of a run that failed too.

        Raises:
            BenchError: it is no record, or that of another configuration, whose run did not fail.
        """
        path = self.directory / records.FILE_NAME
        if not path.exists():
            return None
        record = records.read(path)
        if record.id != digest(self.config) and record.status != "failed":
            raise BenchError(
                f"{self.directory}: holds a run of another configuration (its defaults have "
                "changed since); name another study, or move that run away"
            )
        if record.config == self.config:  # which thousands of jobs share
            record.config = self.config
        return record

    def finished(self) -> Record | None:
        """The same of a run that did not fail, and is not to go further: it is not made again."""
        record = self.recorded()
        if record is None or record.status == "failed":
            return None
        paused_before = self.until is None or record.steps < self.until
        return None if record.status == "pruned" and paused_before else record


def plan(own: DictConfig, hydra: dict[str, Any], search: Mapping[str, Any] | None = None) -> Job:
    """The job of one composed configuration: our keys, and Hydra's own.

    Args:
        search: how a sweep chose it; without, as far as Hydra tells.

    Raises:
        BenchError: a value is out of range.
    """
    _name_own_classes(own, hydra["overrides"]["task"])
    return job_of(validate(own), hydra, noted(hydra, search))


def job_of(config: dict[str, Any], hydra: dict[str, Any], search: Mapping[str, Any]) -> Job:
    """The job of a validated configuration.

    Args:
        search: as it was `noted`.
    """
    return Job(
        config=config,
        hydra=hydra,
        overrides=(*search_path(hydra), *hydra["overrides"]["task"]),
        directory=run_directory(config, _defaults(config, hydra["runtime"]["choices"])),
        search=search,
    )


def _sampler(hydra: Mapping[str, Any]) -> str:
    if hydra["mode"] != "MULTIRUN":
        return "single"
    sweeper = str(hydra["runtime"]["choices"]["hydra/sweeper"])
    return "tpe" if sweeper == "optuna" else sweeper


def noted(hydra: Mapping[str, Any], search: Mapping[str, Any] | None) -> dict[str, Any]:
    """How a job was chosen, as far as Hydra tells where nobody else does; with the command, where
    that and the priors are not too long for a record."""
    search = search or {"sampler": _sampler(hydra), "prior": {}}
    prior = {key: text for key, text in search["prior"].items() if len(text) <= LONGEST}
    command = list(typed) if len(" ".join(typed)) <= LONGEST else []
    return {"sampler": search["sampler"], "prior": prior, "command": command}


def _name_own_classes(own: DictConfig, said: Sequence[str]) -> None:
    """What was given another class than its file names does not get the file's name: two would have
    one directory."""
    keys = {line.partition("=")[0] for line in said}
    for group in ("workload", "schedule"):
        if f"{group}._target_" in keys and f"{group}.name" not in keys:
            with open_dict(own):
                own[group]["name"] = own[group]["_target_"]


def split(composed: DictConfig) -> tuple[DictConfig, dict[str, Any]]:
    """Our part of what Hydra composed, which loses the other: Hydra's, as plain containers."""
    hydra = plain_hydra(composed.hydra)
    with open_dict(composed):
        del composed["hydra"]
    return composed, hydra


def plain_hydra(hydra: Any) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(hydra, enum_to_str=True))


def choices(
    config: Mapping[str, Any], chosen: Mapping[str, str] | None = None
) -> tuple[list[str], list[str], list[str]]:
    """What chooses the workload, the optimizer and the schedule of a configuration.

    Args:
        chosen: the options under which classes that are not ours were given their arguments, by
            group; ``custom`` where nothing else is said.
    """
    said = []
    for group in ("workload", "optimizer", "schedule"):
        name, target = config[group]["name"], config[group].get("_target_")
        option = "custom" if chosen is None else chosen[group]
        own = [f"{group}={option}", f"{group}._target_={target}"]
        said.append(own if name == target else [f"{group}={name}"])
    workload, optimizer, schedule = said
    return workload, optimizer, schedule


def _defaults(config: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """The configuration of the same workload, optimizer and schedule with nothing else said.

    Args:
        chosen: Hydra's choices, of each group.
    """
    first, second, third = choices(config, chosen)
    whole = (*first, *second, *third)
    if not _USUAL or whole in _USUAL:  # most commands ask for no other
        with suppress(BenchError):
            return _usual(*whole)
    optimizer, schedule = _usual(*second), _usual(*third)
    try:
        workload = _usual(*first)
    except BenchError:  # a person's own class has values that must be given
        fields = OmegaConf.to_container(schema_for(config["workload"]))
        workload = optimizer | {"workload": fields}
    return workload | {"optimizer": optimizer["optimizer"], "schedule": schedule["schedule"]}


_USUAL: dict[tuple[str, ...], dict[str, Any]] = {}


def _usual(*choices: str) -> dict[str, Any]:
    """The configuration with nothing but these choices: composed once for each group, not for each
    combination of them."""
    if choices not in _USUAL:
        said = [said for choice in choices for said in usable(choice)]
        _USUAL[choices] = validate(compose("config", said))
    return _USUAL[choices]
