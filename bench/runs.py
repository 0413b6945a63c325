"""From a job to its record: whoever makes a run holds its directory, trains, and leaves its files.

No torch at the top: a sweep records a failure without it.
"""

import contextlib
import errno
import logging
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from bench import interruption, records
from bench.continuation import StackFiles
from bench.errors import BenchError
from bench.holding import Taken, hold
from bench.landscape import trajectory
from bench.processes import is_first
from bench.records import Record
from bench.settings.identity import digest, record_fields
from bench.settings.jobs import Job
from bench.settings.schema import as_yaml
from bench.settings.workloads import workload_of

KEPT = ("checkpoints", "run.log")  # by a run that goes on
OUTPUTS = (
    *(".hydra", "checkpoints", "metrics.csv", "run.log", trajectory.FILE_NAME),
    "events.out.tfevents.*",
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
WAIT = 0.5  # seconds, between two looks at a run that another process makes


class Unwritable(BenchError):
    """There is no room where the runs lie: none of them can go on."""


def run(
    jobs: Sequence[Job],
    *,
    tell: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Record]:
    """Makes one run, or several as a stack, and leaves the directory of each: configuration, log,
    curves and record. Meanwhile it holds the directories; a run that is made already is not made
    again.

    A failure while training is recorded as ``failed``, with its traceback in ``run.log``.

    Args:
        tell: is told as they train of the optimizer steps done, and how many runs have diverged.
        say: is told, as the log is, how large the model is, and whether the runs go on from another
            one, where that is asked for.

    Returns:
        The records; none in a process that is not the first of several.

    Raises:
        Taken: another process makes one of them.
        Unwritable: there is no room for what they leave.
        BenchError: the runs cannot be made as configured; nothing was written.
        Interrupted: a signal asked for an end; called again, they go on.
    """
    import_module("bench.training")  # takes seconds, in which nothing is held yet
    if not is_first(jobs[0].config["trainer"]):
        return _make(jobs, tell, say)
    with interruption.noting(), _held(jobs):
        made = {job.directory: record for job in jobs if (record := job.finished()) is not None}
        missing = [job for job in jobs if job.directory not in made]
        if missing:
            begun = made and _stack(jobs).description.is_file()  # it takes all to go on
            records_made = _make(jobs if begun else missing, tell, say, made=made)
            made |= {job.directory: r for job, r in zip(missing, records_made, strict=True)}
        return [made[job.directory] for job in jobs]


def _stack(jobs: Sequence[Job]) -> StackFiles:
    return StackFiles.of([(job.directory, digest(job.config)) for job in jobs])


def run_when_free(job: Job, *, say: Callable[[str], None] | None = None) -> list[Record]:
    """As `run` for one job; if another process makes it, waits for that."""
    told = False
    while True:
        try:
            return run([job], say=say)
        except Taken as taken:
            if say is not None and not told:
                say(f"{taken}; waiting for it")
            told = True
            interruption.check()  # one that came while it was looked at who makes it
            time.sleep(WAIT)


def _make(
    jobs: Sequence[Job],
    tell: Callable[[int, int], None] | None,
    say: Callable[[str], None] | None,
    made: Mapping[Path, Record] | None = None,
) -> list[Record]:
    """Those of ``jobs`` that are not made; the others of a stack train along."""
    from bench.training import Run

    made = made or {}
    missing = [job for job in jobs if job.directory not in made]
    pauses = [job.until for job in missing if job.until is not None]
    ready = Run(
        [job.config for job in jobs],
        [job.directory for job in jobs],
        tell,
        overrides=[job.overrides for job in jobs],
        searches=[job.search for job in jobs],
        made=[job.directory in made for job in jobs],
        dropped=[job.directory in made and made[job.directory].status == "pruned" for job in jobs],
        stack=_stack(jobs) if len(jobs) > 1 else None,
        until=max(pauses) if len(pauses) == len(missing) else None,
        threads=jobs[0].threads,
    )
    interruption.check()
    if not ready.is_first_process:
        return ready.train()
    for job in missing:
        _open_directory(job, goes_on=ready.goes_on)
    if say is not None:
        say(ready.size)
    with _logging_to([job.directory / "run.log" for job in missing]):
        try:
            if ready.start is not None:
                logging.getLogger(__name__).info(ready.start.line)
                if say is not None:
                    say(ready.start.line)
            return ready.train()
        except Exception as error:
            refuse_if_full(error, jobs[0].directory)
            logging.getLogger(__name__).error("failed\n%s", traceback.format_exc())
            return [_record_failure(job, reason(error)) for job in missing]


def reason(error: Exception) -> str:
    """In one line."""
    message = " ".join(str(error).split())
    return message if isinstance(error, BenchError) else f"{type(error).__name__}: {message}"


def fail(job: Job, why: str) -> Record:
    """Records that a run could not be made, unless it has been made.

    Raises:
        Taken: another process makes it.
        Unwritable: there is no room for the record.
    """
    try:
        with _held([job]):
            return job.finished() or _record_failure(job, why)
    except (Taken, Unwritable):
        raise
    except BenchError as error:  # something else is in its place
        return failed(job, reason(error))


def _record_failure(job: Job, why: str) -> Record:
    record = failed(job, why)
    try:
        records.write(record, job.directory)
    except OSError as error:  # what failed is known nevertheless
        refuse_if_full(error, job.directory)
    return record


def failed(job: Job, why: str) -> Record:
    """The record of a run that could not be made, which is not written."""
    metric = workload_of(job.config).metric.description
    return records.failed(record_fields(job.config, job.overrides, job.search), metric, why)


def refuse_if_full(error: BaseException | None, directory: Path) -> None:
    """
    Raises:
        Unwritable: what lies behind the error is that no run could be written, not this one alone.
    """
    first = error
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            raise Unwritable(
                f"{directory}: cannot be written ({error.strerror}); "
                "the same command goes on once there is room"
            ) from first
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _held(jobs: Sequence[Job]) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        with _said_in_a_line(jobs[0].directory):
            held.enter_context(hold([job.directory for job in jobs]))
        yield


@contextlib.contextmanager
def _said_in_a_line(directory: Path) -> Iterator[None]:
    """What keeps a run from being written."""
    try:
        yield
    except OSError as error:
        refuse_if_full(error, directory)
        raise BenchError(
            f"{error.filename or directory}: cannot be written ({error.strerror}); "
            "move it away, or choose another place with runs_dir=..."
        ) from error


def _open_directory(job: Job, *, goes_on: bool) -> None:
    """Makes the run's directory, with what an earlier, unfinished attempt left taken out. A run
    that goes on has its curves in its checkpoint, and writes them anew."""
    directory = job.directory
    with _said_in_a_line(directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / records.FILE_NAME).unlink(missing_ok=True)
        for pattern in OUTPUTS:
            for path in () if goes_on and pattern in KEPT else directory.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (directory / ".hydra").mkdir()
        contents = {"config": job.config, "hydra": job.hydra, "overrides": list(job.overrides)}
        for name, content in contents.items():
            (directory / ".hydra" / f"{name}.yaml").write_text(as_yaml(content))


class _LogFile(logging.FileHandler):
    """Where a line cannot be written, the run ends by what else it writes."""

    def handleError(self, _: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def _logging_to(paths: Sequence[Path]) -> Iterator[None]:
    """Everything at level INFO, and every warning, goes to each of ``paths``."""
    root = logging.getLogger()
    level = root.level
    handlers = [_LogFile(path) for path in paths]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
