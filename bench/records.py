"""Record <-> one JSON file: what a run leaves behind, enough to reproduce and to analyse it.

No torch here: reports read thousands of these.
"""

import json
import os
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

from bench import files
from bench.declared import LARGEST, LONGEST, Between, Refused, check_of
from bench.errors import BenchError
from bench.metrics import Description

SCHEMA = 2
FILE_NAME = "record.json"
LARGEST_FILE = 4_000_000  # bytes; a record has some thousands

# What every run was judged by until then.
BEFORE_SCHEMA_2: dict[str, Any] = {
    "metric": Description(name="accuracy", unit="fraction", higher_is_better=True, chance=0.1),
    "units": {"accuracy": "fraction", "loss": "nats"},
}

Status = Literal["completed", "diverged", "failed", "pruned"]
UNFINISHED = ("failed", "pruned")  # what is known of such a run is not what the whole run gives

Name = Annotated[str, Between(0, 200)]
Count = Annotated[int, Between(0, 2**53)]  # a whole number that a float holds exactly
Number = float | None


class Target(TypedDict, total=False):
    metric: str
    value: Number
    step: Annotated[int, Between(1, 2**53)] | None
    seconds: Number


class Search(TypedDict, total=False):
    """How the setting of a run was chosen.

    sampler: ``single`` for a run that was not part of a sweep; ``grid``, ``random``, ``tpe``; of a
        sweeper that is not ours, its name.
    prior: of the configuration keys that were searched, what was said: values (``1e-3,1e-2``) or
        what to draw from (``tag(log,interval(1e-4,1))``).
    command: what was typed after ``python -m bench``, word by word.
    """

    sampler: Annotated[str, Between(1, 200)]
    prior: dict[str, str]
    command: list[str]


@dataclass(kw_only=True)
class Record:
    """What one run was and what came of it. Numbers are finite or None.

    The types are what `read` holds a file against; a field with a default may be absent there.

    Attributes:
        schema: version of this format.
        id: digest of everything in the configuration that decides the result.
        workload, optimizer, schedule: their configured names.
        hyperparameters: the numbers a study may vary, by their configuration key without the
            group: ``lr``, ``weight_decay``, ``batch_size``, ...
        problem: the configuration keys that say what was minimised, not how; absent in records from
            before there was this field.
        status: ``diverged`` when the loss stopped being finite, ``failed`` on any other error,
            ``pruned`` when a sweep stopped it to go on with better ones. The latter is the start of
            the whole run, which takes its place if it is made.
        reason: why it did not complete, else None.
        stopped: of a pruned run, where: ``pruned at step 300``. None of others, and absent in
            records from before there was this field.
        steps, epochs: optimizer steps taken; epochs completed (a fraction if one was cut short).
        metrics: last values by name, such as ``val/accuracy`` or ``test/loss``; a metric that was
            not measured is None or absent.
        metric: the one that selects: its ``name`` (without a split), its ``unit`` (``fraction`` is
            a share of 1), whether ``higher_is_better``, and what ``chance`` gives, None where that
            is not known. Since schema 2; before, every run was judged by accuracy in ten classes.
        units: of the metrics, by name without the split; "" or absent where there is none.
        best: the best value of that metric on the validation split, ``val/<name>``, and the
            ``epoch`` (from 1) it was reached in, else None each.
        target: ``metric``, ``value``, and the ``step`` and training ``seconds`` at which validation
            first reached it, None when it never did.
        timing: seconds spent in training steps, in evaluation, and in all;
            training ``samples_per_second``; ``runs_together``: how many runs shared the machine's
            step (1 unless the run was one of a stack); ``resumed_at_step``: only of a run that went
            on from a shorter one, whose steps up to there, and seconds, are its own;
            ``interruptions``: only of a run that was ended early, how often it went on.
        stack: of a run that trained in one, a digest of the ids of its runs, in their order. What a
            run becomes depends on its company, in the last bits at first: ``.stacks`` in the study
            holds who that was. None alone, and in records from before there was this field.
        config: the resolved configuration.
        overrides: what was said on the command line, and where a person's own configurations lie
            (``hydra.searchpath``); empty in records from before there was this field.
        search: how the setting was chosen, by the sweep that first made this run; None in records
            from before there was this field.
        environment: versions (``optimizer-bench``: ours), device, threads, a digest of our
            ``source``, git commit and whether the tree was dirty, the checksum of the ``data``,
            and of ``classes`` that are not ours, digests of their files.
    """

    schema: int = SCHEMA
    id: Name
    study: Name
    workload: Name
    optimizer: Name
    schedule: Name
    seed: Count
    hyperparameters: dict[str, Number]
    problem: list[str] = field(default_factory=list)
    status: Status
    reason: str | None = None
    stopped: str | None = None
    steps: Count = 0
    epochs: Annotated[float, Between(0, LARGEST)] = 0.0
    metrics: dict[str, Number]
    metric: Description
    units: dict[str, str] = field(default_factory=dict)
    best: dict[str, Number]
    target: Target
    timing: dict[str, Number]
    config: dict[str, Any]
    overrides: list[str] = field(default_factory=list)
    search: Search | None = None
    stack: Name | None = None
    environment: dict[str, Any]


FIELDS = {
    name: check_of(kind) for name, kind in get_type_hints(Record, include_extras=True).items()
}
NEEDED = {
    own.name for own in fields(Record) if own.default is MISSING and own.default_factory is MISSING
}


def write(record: Record, directory: Path) -> Path:
    """Writes ``directory/record.json`` atomically: a reader sees the whole file or none."""
    path = directory / FILE_NAME
    partial = directory / f".{FILE_NAME}.partial"
    text = json.dumps(finite(asdict(record)), indent=1, allow_nan=False)
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return path


def read(path: Path) -> Record:
    """Reads a record. What it returns is what the fields declare, whoever wrote the file.

    Raises:
        BenchError: the file is missing, is not JSON, or is not a record of this schema.
    """
    text = files.read(path, most=LARGEST_FILE)
    try:
        content = json.loads(
            text.decode(), parse_constant=_no_number, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{path}: not a complete JSON file ({error})") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise BenchError(f"{path}: not a record (no 'schema' field)")
    if content["schema"] == 1 and "metric" not in content:
        content = BEFORE_SCHEMA_2 | content | {"schema": SCHEMA}
    if content["schema"] != SCHEMA:
        raise BenchError(
            f"{path}: schema {content['schema']!r:.40}, this version reads 1 to {SCHEMA}; "
            "run the study again, or read it with the version that wrote it"
        )
    missing, unknown = sorted(NEEDED - content.keys()), sorted(content.keys() - FIELDS.keys())
    if missing or unknown:
        raise BenchError(f"{path}: not a record (missing {missing}, unknown {unknown!s:.200})")
    for name, value in content.items():
        try:
            FIELDS[name](value)
        except Refused as refusal:
            refusal.key = (name, *refusal.key)
            raise BenchError(f"{path}: not a record ({refusal})") from refusal
    record = Record(**content)
    if contradiction := _contradiction(record):
        raise BenchError(f"{path}: not a record ({contradiction})")
    return record


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant} is no number in JSON")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice[:40]!r} is there twice")
    return content


def _contradiction(record: Record) -> str | None:
    """What no field can tell alone."""
    for key in Description.__annotations__:
        if key not in record.metric:
            return f"metric.{key}: not there"
    if not record.metric["name"] or "/" in record.metric["name"]:
        return f"metric.name: {record.metric['name']!r:.40} is no word without a slash"
    for name in record.hyperparameters:
        if "/" in name:
            return f"hyperparameters.{name:.40}: a name with a slash is a metric's"
    for name in record.metrics:
        if "/" not in name:
            return f"metrics.{name:.40}: a name is split/metric"
    if (record.stopped is not None) != (record.status == "pruned"):
        return f"stopped: {record.stopped!r:.40}, of a run that {record.status}"
    step, seconds = record.target.get("step"), record.target.get("seconds")
    if step is not None and not (step <= record.steps and record.epochs > 0):
        return f"target.step: {step}, after {record.steps} steps and {record.epochs:g} epochs"
    if seconds is not None and not seconds > 0:
        return f"target.seconds: {seconds:g}, not more than 0"
    return None


def finite(value: Any) -> Any:
    """``value`` with every NaN, infinity and number too large to compute with, at any depth,
    replaced by None, and what is no Unicode in a text by a question mark."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float) and not abs(value) <= LARGEST:  # nor is NaN
        return None
    return value


def failed(fields_known: dict[str, Any], metric: Description, reason: str) -> Record:
    """The record of a run that ended in an error before it could be measured."""
    name = f"val/{metric['name']}"
    return Record(
        **fields_known,
        status="failed",
        reason=reason[:LONGEST],
        metrics={},
        metric=metric,
        best={name: None, "epoch": None},
        target={"metric": name, "value": None, "step": None, "seconds": None},
        timing={},
        environment={},
    )
