"""Every record of a study as one CSV file beside it, to be read in one go by whatever reads tables.

A row a run, in the order of their directories. A column a value of ``record.json``, named by its
keys with dots between them: ``status``, ``timing.total_seconds``, ``config.optimizer.lr``; the
fields in the order that `bench.records.Record` has them, what is within one sorted by name. What a
record does not have, or is null, is empty; truth values are ``true`` and ``false``; lists are JSON.
Numbers are written so that they are read back the same to the last bit.
"""

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from bench import records
from bench.errors import BenchError
from bench.report.page import no_formula
from bench.study import Study

FILE_NAME = "records.csv"
PLACES = {field.name: place for place, field in enumerate(fields(records.Record))}

Row = tuple[tuple[str, ...], tuple[str, ...]]  # columns, which rows share; values


def write(study: Study) -> Path:
    """Writes the records of ``study.runs`` into the study's directory, in the place of an earlier
    file: a reader sees the one or the other.

    Raises:
        OSError: it cannot be written.
    """
    rows = list(_rows(study))
    columns = sorted({name for names, _ in rows for name in names}, key=_place)
    path = study.directory / FILE_NAME
    partial = path.with_name(f".{FILE_NAME}.partial")
    with open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([no_formula(name) for name in columns])
        for names, values in rows:
            own = dict(zip(names, values, strict=True))
            writer.writerow([own.get(name, "") for name in columns])
    os.replace(partial, path)
    return path


def _rows(study: Study) -> Iterator[Row]:
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    for directory in sorted(map(str, study.runs["directory"])):
        with suppress(BenchError):  # it was there when the study was read
            record = records.read(study.directory / directory / records.FILE_NAME)
            flat = {"directory": directory} | dict(_flat(vars(record)))
            names = tuple(flat)
            text = (sys.intern(_text(value)) for value in flat.values())
            yield shared.setdefault(names, names), tuple(text)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(no_formula(value))
    return json.dumps(value) if isinstance(value, bool | list) else repr(value)


def _place(column: str) -> tuple[int, str]:
    return PLACES.get(column.partition(".")[0], -1), column
