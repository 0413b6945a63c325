"""Which finished run a longer one can go on from, so that it becomes what it would have been.

No torch here: a sweep asks it of all its runs before the first one starts.
"""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import records
from bench.errors import BenchError
from bench.records import Record
from bench.settings.identity import decisive
from bench.settings.schema import evaluation_steps, multipliers, total_steps

LENGTH = ("trainer.max_epochs", "trainer.max_steps")
LENGTH_IN_NAME = re.compile(r"max_(epochs|steps)=\d+,")
DIGEST = re.compile(r",[0-9a-f]{16}$")
CHECKPOINT = Path("checkpoints", "last.ckpt")


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        directory: of the run it goes on from; None for the beginning.
        line: the same for people, with the reason.
        threads: with which it must go on, as the order of sums depends on their number.
    """

    directory: Path | None
    line: str
    threads: int | None = None


def find(config: Mapping[str, Any], directory: Path, environment: Mapping[str, Any]) -> Start:
    """The longest finished run of the same study that differs from this one in its length alone,
    if it was made in the same environment and left what it takes to go on."""
    runs = [(path, record) for path, record in _others(directory) if _is_start(record, config)]
    refused = []
    for path, record in sorted(runs, key=lambda run: -run[1].steps):
        reason = _refusal(path, record, config, environment)
        if reason is None:
            line = f"goes on from {path}, step {record.steps}"
            return Start(path, line, record.environment.get("threads"))
        refused.append(f"{path} cannot be continued: {reason}")
    return Start(None, f"starts from the beginning: {(refused or ['there is no shorter run'])[0]}")


def _others(directory: Path) -> list[tuple[Path, Record]]:
    """The finished runs beside ``directory`` whose names may differ from its own in length only."""
    found = []
    # By names first: to read all records for each of many runs would take long.
    for name in _names_alike(directory):
        path = directory.parent / name / records.FILE_NAME
        if name != directory.name and path.is_file():
            try:
                record = records.read(path)
            except BenchError:
                continue  # the report names damaged files
            if record.status != "failed":
                found.append((path.parent, record))
    return found


def _names_alike(directory: Path) -> list[str]:
    parent, kind = directory.parent, _without_length(directory.name)
    if not parent.is_dir():
        return []
    by_kind = _by_kind(parent, parent.stat().st_mtime_ns)
    if kind is None:
        return [name for names in by_kind.values() for name in names]
    return [*by_kind.get(kind, ()), *by_kind.get(None, ())]


@functools.lru_cache(8)
def _by_kind(parent: Path, modified: int) -> dict[str | None, list[str]]:
    """The names in a directory by what they have in common; listed once for all its runs."""
    found: dict[str | None, list[str]] = {}
    for name in os.listdir(parent):
        found.setdefault(_without_length(name), []).append(name)
    return found


def _without_length(name: str) -> str | None:
    """None of a name that was cut, and says too little: it may be like any other."""
    return None if DIGEST.search(name) else LENGTH_IN_NAME.sub("", name)


def _is_start(record: Record, config: Mapping[str, Any]) -> bool:
    try:
        own, other = ({**decisive(c), **dict.fromkeys(LENGTH)} for c in (config, record.config))
        return records.finite(own) == other and total_steps(record.config) <= total_steps(config)
    except (AttributeError, KeyError, TypeError):  # a damaged record
        return False


def _refusal(
    directory: Path, record: Record, config: Mapping[str, Any], environment: Mapping[str, Any]
) -> str | None:
    """Why going on from a run would not give what the longer one gives from its beginning."""
    now, then = environment, record.environment
    apart = {"threads"}
    if "source" in then:  # which tells more than the commit
        apart |= {"git_commit", "git_dirty"}
    names = sorted((now.keys() | then.keys()) - apart)
    changed = [n for n in names if now.get(n, ...) != then.get(n, ...)]
    if changed:
        return ", ".join(f"{n} was {then.get(n)}, is {now.get(n)}" for n in changed)
    own, other = (
        multipliers(c["schedule"], total_steps(c))[: record.steps] for c in (config, record.config)
    )
    if own != other:
        return f"its learning rates depend on its length (schedule={record.schedule})"
    ends, others = (
        [step for step in evaluation_steps(c) or () if step <= record.steps]
        for c in (config, record.config)
    )
    if ends != others:
        return (
            "the steps at which it was validated depend on its length "
            f"(trainer.evaluations={config['trainer']['evaluations']})"
        )
    if record.timing.get("runs_together") != 1:
        return "it was trained in a stack, whose checkpoints hold only weights"
    if not (directory / CHECKPOINT).is_file():
        return f"it has no {CHECKPOINT}"
    return None
