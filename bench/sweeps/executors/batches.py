"""Tasks that are done by Slurm jobs, as files that the command which watches and the jobs share:
``<study>/.slurm/<batch>``, named as the array of jobs is. All of them are small, JSON, and put in
place whole; of each job there are as many however many runs it makes.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.holding import Taken
from bench.settings.jobs import Job
from bench.sweeps.executors import Outcome, Task

FOLDER = ".slurm"


@dataclass
class State:
    """How far a job of a batch is.

    Attributes:
        done: how many of its tasks have ended, the first ones.
        outcomes: of those that leave more than their records, by their number.
        steps, diverged: of the task in hand, as `making.make` tells them.
        began: the steps from which it went on when the job was started the last time.
        fruitless: how often, at last, that was no further than the time before.
        over: whether nothing is left to be done.
        full: why no run can be written, if none can.
    """

    done: int = 0
    outcomes: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    diverged: int = 0
    began: int = 0
    fruitless: int = 0
    over: bool = False
    full: str | None = None

    def end_task(self, outcome: Outcome) -> None:
        if isinstance(outcome, Taken):
            self.outcomes[str(self.done)] = {"taken": str(outcome.directory)}
        elif outcome:
            failed = {str(directory): why for directory, why in outcome.items()}
            self.outcomes[str(self.done)] = {"failed": failed}
        self.done += 1
        self.steps = self.diverged = self.began = self.fruitless = 0

    def outcome(self, task: int) -> Outcome:
        said = self.outcomes.get(str(task), {})
        if "taken" in said:
            return Taken(Path(said["taken"]))
        return {Path(directory): why for directory, why in said.get("failed", {}).items()}


@dataclass(frozen=True)
class Batch:
    """An array of jobs.

    Attributes:
        directory: of its files; its name is the jobs' name.
    """

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    def write(self, bundles: Sequence[Sequence[Task]]) -> None:
        """What each job is to do."""
        self.directory.mkdir(parents=True)
        for number, tasks in enumerate(bundles):
            _write(self._tasks(number), [[_described(job) for job in task] for task in tasks])
        runs = [[[os.path.abspath(job.directory) for job in task] for task in b] for b in bundles]
        _write(self.directory / "runs.json", runs)

    def runs(self) -> list[tuple[int, list[list[str]]]]:
        """The jobs that have a last word to be read, by their numbers, and the directories of the
        runs of each of their tasks; none while that is being written."""
        runs = _read(self.directory / "runs.json") or []
        return [(number, own) for number, own in enumerate(runs) if self._tasks(number).exists()]

    def tasks(self, number: int) -> list[Task]:
        return [[_job(said) for said in task] for task in _read(self._tasks(number))]

    def state(self, number: int) -> State:
        return State(**(_read(self._state(number)) or {}))

    def tell(self, number: int, state: State) -> None:
        """That this is the state of a job. What is told matters less than what is made: where it
        cannot be written, nothing is said."""
        with suppress(OSError):
            _write(self._state(number), asdict(state))

    def log(self, number: int) -> Path:
        return self.directory / f"{number}.log"

    def remove(self, number: int) -> None:
        """The files of a job, and with the last one those of the batch."""
        for path in (self._tasks(number), self._state(number), self.log(number)):
            path.unlink(missing_ok=True)
        if not any(self.directory.glob("*.tasks.json")) and not any(self.directory.glob("*.log")):
            self.remove_all()

    def remove_all(self) -> None:
        with suppress(OSError):
            for path in self.directory.iterdir():
                path.unlink(missing_ok=True)
            self.directory.rmdir()
            self.directory.parent.rmdir()  # unless there are others

    def _tasks(self, number: int) -> Path:
        return self.directory / f"{number}.tasks.json"

    def _state(self, number: int) -> Path:
        return self.directory / f"{number}.state.json"


def of_study(study: Path) -> list[Batch]:
    """Those that were begun, and whose last word nobody has read yet."""
    return [Batch(path) for path in sorted(Path(study, FOLDER).glob("*/")) if path.is_dir()]


def _described(job: Job) -> dict[str, Any]:
    return {
        "config": job.config,
        "hydra": job.hydra,
        "overrides": list(job.overrides),
        "directory": str(job.directory),
        "search": job.search,
        "until": job.until,
    }


def _job(said: Mapping[str, Any]) -> Job:
    own = dict(said)
    overrides, directory = tuple(own.pop("overrides")), Path(own.pop("directory"))
    return Job(**own, overrides=overrides, directory=directory)


def _write(path: Path, content: Any) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(content))
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
