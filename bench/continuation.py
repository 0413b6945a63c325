"""What a run, or a stack of them, can go on from, so that it becomes what it would have been: its
own checkpoint, if it was ended early, or a finished run that is shorter.

No torch here: a sweep asks it of all its runs before the first one starts.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import files, records
from bench.errors import BenchError
from bench.records import Record
from bench.settings.identity import decisive
from bench.settings.measured import curvature_steps
from bench.settings.schema import evaluation_steps, multipliers, total_steps

LENGTH = ("trainer.max_epochs", "trainer.max_steps")
LENGTH_IN_NAME = re.compile(r"max_(epochs|steps)=\d+,")
DIGEST = re.compile(r",[0-9a-f]{16}$")
CHECKPOINT = Path("checkpoints", "last.ckpt")
STACKS = ".stacks"  # of a study: what its unfinished ones go on from
MOST = 10_000_000  # bytes of a stack's description


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
            if record.status not in records.UNFINISHED:
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


def changes(now: Mapping[str, Any], then: Mapping[str, Any]) -> str | None:
    """What of an environment is other than it was, and may change a result. The number of threads
    is taken over."""
    apart = {"threads"}
    if "source" in then:  # which tells more than the commit
        apart |= {"git_commit", "git_dirty"}
    names = sorted((now.keys() | then.keys()) - apart)
    changed = [
        f"{n} was {then.get(n)}, is {now.get(n)}" for n in names if now.get(n) != then.get(n)
    ]
    return ", ".join(changed) or None


def _refusal(
    directory: Path, record: Record, config: Mapping[str, Any], environment: Mapping[str, Any]
) -> str | None:
    """Why going on from a run would not give what the longer one gives from its beginning."""
    if (changed := changes(environment, record.environment)) is not None:
        return changed
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
    ends, others = (
        [step for step in curvature_steps(c) if step <= record.steps]
        for c in (config, record.config)
    )
    if ends != others:
        return (
            "the steps at which its curvature was measured depend on its length "
            f"(trainer.curvature={config['trainer']['curvature']})"
        )
    if record.timing.get("runs_together") != 1:
        return "it was trained in a stack, whose checkpoints hold only weights"
    if not (directory / CHECKPOINT).is_file():
        return f"it has no {CHECKPOINT}"
    return None


@dataclass(frozen=True)
class StackFiles:
    """What a stack leaves in its study: who is in it, and while it is not finished a checkpoint.

    Attributes:
        checkpoint: the file; it need not be there.
        runs: of each run its directory and its ``id``, in order.
        environment: what it was begun in, of one that was read.
    """

    checkpoint: Path
    runs: Sequence[tuple[Path, str]]
    environment: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[tuple[Path, str]]) -> StackFiles:
        ids = "\n".join(own for _, own in runs)
        name = hashlib.sha256(ids.encode()).hexdigest()[:16]
        return cls(_study(runs[0][0]) / STACKS / f"{name}.ckpt", runs)

    @property
    def name(self) -> str:
        return self.checkpoint.stem

    @property
    def directories(self) -> list[Path]:
        return [directory for directory, _ in self.runs]

    @property
    def description(self) -> Path:
        return self.checkpoint.with_suffix(".json")

    def describe(self, step: int, *, environment: Mapping[str, Any]) -> None:
        """Says who trains together, for whoever makes the stack again.

        Raises:
            BenchError: it cannot be written.
        """
        study = _study(self.runs[0][0])
        runs = [{"directory": str(path.relative_to(study)), "id": own} for path, own in self.runs]
        content = {"runs": runs, "step": step, "environment": environment}
        aside = partial(self.description)
        try:
            self.description.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            os.replace(aside, self.description)
        except OSError as error:
            raise BenchError(f"{self.description}: cannot be written ({error.strerror})") from error

    def finish(self) -> None:
        """Once every run has its record: who was in it stays known."""
        for path in (self.checkpoint, partial(self.checkpoint)):
            path.unlink(missing_ok=True)


def partial(path: Path) -> Path:
    """Where a file is written before it is moved to its place."""
    return path.with_name(f".{path.name}.partial")


def stacks(study: Path) -> list[StackFiles]:
    """Those that trained in a study, finished or not.

    What a run in a stack becomes depends, in the last bits, on its company, and the checkpoint of a
    stack is that of all its runs. So whoever plans a sweep makes each of which a run is missing as
    it was, as one task: the jobs of all its directories, in this order, also those that have a
    record by now. `bench.runs.run` has the latter train along, and leaves their records
    alone. Where a directory is none of the sweep's, the stack cannot be made again.
    """
    found = []
    for path in sorted((study / STACKS).glob("*.json")):
        try:
            content = json.loads(files.read(path, most=MOST))
            runs = [(study / run["directory"], str(run["id"])) for run in content["runs"]]
            found.append(StackFiles(path.with_suffix(".ckpt"), runs, dict(content["environment"])))
        except (BenchError, ValueError, LookupError, TypeError, RecursionError):
            continue  # whatever that is, it is no stack of ours
    return found


def is_made(directory: Path) -> bool:
    """Whether a run has its record, and neither failed nor was stopped on its way."""
    try:
        return records.read(directory / records.FILE_NAME).status not in records.UNFINISHED
    except (BenchError, ValueError):  # the latter where that can be no path
        return False


def _study(directory: Path) -> Path:
    """Of a run, by where it lies."""
    return directory.parents[2]
