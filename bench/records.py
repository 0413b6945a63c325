"""Record <-> one JSON file: what a run leaves behind, enough to reproduce and to analyse it.

No torch here: reports read thousands of these.
"""

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bench.errors import BenchError

SCHEMA = 1
FILE_NAME = "record.json"

Status = Literal["completed", "diverged", "failed"]
STATUSES: tuple[Status, ...] = ("completed", "diverged", "failed")


@dataclass(kw_only=True)
class Record:
    """What one run was and what came of it. Numbers are finite or None.

    Attributes:
        schema: version of this format.
        id: digest of everything in the configuration that decides the result.
        workload, optimizer, schedule: their configured names.
        hyperparameters: the numbers a study may vary, by their configuration key without the
            group: ``lr``, ``weight_decay``, ``batch_size``, ...
        status: ``diverged`` when the loss stopped being finite, ``failed`` on any other error.
        reason: why it did not complete, else None.
        steps, epochs: optimizer steps taken; epochs completed (a fraction if one was cut short).
        metrics: last values by name, such as ``val/accuracy`` (a fraction of 1) or ``test/loss``
            (nats per sample); a metric that was not measured is None or absent.
        best: the highest ``val/accuracy`` and the epoch (from 1) it was reached in, else None each.
        target: ``metric``, ``value``, and the ``step`` and training ``seconds`` at which validation
            first reached it, None when it never did.
        timing: seconds spent in training steps, in evaluation, and in all;
            training ``samples_per_second``; ``runs_together``: how many runs shared the machine's
            step (1 unless the run was one of a stack); ``resumed_at_step``: only of a run that went
            on from a shorter one, whose steps up to there, and seconds, are its own.
        config: the resolved configuration.
        environment: versions, device, threads, git commit and whether the tree was dirty.
    """

    schema: int = SCHEMA
    id: str
    study: str
    workload: str
    optimizer: str
    schedule: str
    seed: int
    hyperparameters: dict[str, float]
    status: Status
    reason: str | None = None
    steps: int = 0
    epochs: float = 0.0
    metrics: dict[str, float | None]
    best: dict[str, float | None]
    target: dict[str, Any]
    timing: dict[str, float | None]
    config: dict[str, Any]
    environment: dict[str, Any]


def write(record: Record, directory: Path) -> Path:
    """Writes ``directory/record.json`` atomically: a reader sees the whole file or none."""
    path = directory / FILE_NAME
    partial = directory / f".{FILE_NAME}.partial"
    text = json.dumps(finite(asdict(record)), indent=1, allow_nan=False)
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return path


def read(path: Path) -> Record:
    """Reads a record.

    Raises:
        BenchError: the file is missing, is not JSON, or is not a record of this schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BenchError(f"{path}: not a complete JSON file ({error})") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise BenchError(f"{path}: not a record (no 'schema' field)")
    if content["schema"] != SCHEMA:
        raise BenchError(
            f"{path}: schema {content['schema']!r}, this version reads schema {SCHEMA}; "
            "run the study again, or read it with the version that wrote it"
        )
    names = {field.name for field in fields(Record)}
    if names != content.keys():
        missing, unknown = sorted(names - content.keys()), sorted(content.keys() - names)
        raise BenchError(f"{path}: not a record (missing {missing}, unknown {unknown})")
    if content["status"] not in STATUSES:
        raise BenchError(f"{path}: status {content['status']!r} is none of {', '.join(STATUSES)}")
    return Record(**content)


def finite(value: Any) -> Any:
    """``value`` with every NaN and infinity, at any depth, replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def failed(fields_known: dict[str, Any], reason: str) -> Record:
    """The record of a run that ended in an error before it could be measured."""
    return Record(
        **fields_known,
        status="failed",
        reason=reason,
        metrics={},
        best={"val/accuracy": None, "epoch": None},
        target={"metric": "val/accuracy", "value": None, "step": None, "seconds": None},
        timing={},
        environment={},
    )
