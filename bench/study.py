"""A study's records as one table, one row a run: the input of every analysis and report.

No torch here, and nothing is cached on disk: 10,000 records are read in seconds.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import identity, records
from bench.errors import BenchError

REPORT_DIRECTORY = "report"
CURVE_FILE = "metrics.csv"

RUN_COLUMNS = (
    *("workload", "optimizer", "schedule", "seed"),
    *("status", "reason", "steps", "epochs", "id"),
)

# Configuration keys (or groups of them) that do not make a setting, beside those that decide no
# result: the seed is what a setting is repeated over, and names have columns of their own.
NOT_A_SETTING = (
    *identity.NEUTRAL,
    *("seed", "experiment", "workload.name", "workload.target", "optimizer.name", "schedule.name"),
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study's directory holds.

    Attributes:
        directory: where it was read from.
        runs: one row a run, in the order of workload, optimizer, trial, seed. Columns:
            ``workload, optimizer, schedule, seed, status, reason, steps, epochs, id``;
            ``trial``, the setting without the seed, unique within a workload and optimizer;
            ``directory``, relative to the study's; a column for each hyperparameter and for each
            other setting that varies, by plain name; every metric by its name, and ``best/…``,
            ``target/…``, ``timing/…``. What a run does not have is missing (NaN).
        settings: the columns that vary within a workload and optimizer, ``lr`` first.
        shared: the configuration keys on which all runs agree, with their values.
        environments: each distinct environment with the number of runs made in it, commonest first;
            without what follows from the workload and the optimizer: the data, the classes.
        problems: one line for each file that could not be used.
        unfinished: directories of runs that have no record: in progress, or interrupted.
    """

    directory: Path
    runs: pd.DataFrame
    settings: list[str]
    shared: dict[str, Any]
    environments: list[tuple[dict[str, Any], int]]
    problems: list[str]
    unfinished: list[Path]

    @property
    def name(self) -> str:
        return self.directory.resolve().name


def read(directory: Path) -> Study:
    """Reads every record below ``directory``. A file that is not one becomes a problem's line.

    Raises:
        BenchError: there is no such directory, or it cannot be read.
    """
    if not directory.is_dir():
        raise BenchError(f"{directory}: no such directory; give a study's, such as runs/quickstart")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise BenchError(f"{directory}: cannot be read; check its permissions")
    found, unfinished = _find_runs(directory)
    problems: list[str] = []
    rows: list[dict[str, Any]] = []
    configs: list[dict[str, Any]] = []
    environments: dict[str, int] = defaultdict(int)
    seen: dict[str, Path] = {}
    for run_directory in found:
        path = run_directory / records.FILE_NAME
        try:
            record = records.read(path)
            row = _row(record)
            config = {
                key: json.dumps(value) if isinstance(value, list) else value
                for key, value in (*identity.ADDED.items(), *identity.leaves(record.config))
            }
        except BenchError as error:
            problems.append(str(error))
            continue
        except (TypeError, ValueError, AttributeError) as error:
            problems.append(f"{path}: a field does not hold what a record's should ({error})")
            continue
        if record.id in seen:
            problems.append(f"{path}: the same run as {seen[record.id]}; counted once")
            continue
        seen[record.id] = path
        row["directory"] = str(run_directory.relative_to(directory))
        rows.append(row)
        configs.append(config)
        about = {
            key: value
            for key, value in record.environment.items()
            if key not in ("data", "classes")
        }
        environments[json.dumps(about, sort_keys=True)] += 1
    runs = pd.DataFrame(rows, columns=None if rows else [*RUN_COLUMNS, "trial", "directory"])
    settings = _add_settings(runs, configs) if rows else []
    runs = runs.sort_values(["workload", "optimizer", *settings, "seed"], kind="stable")
    return Study(
        directory=directory,
        runs=runs.reset_index(drop=True),
        settings=settings,
        shared=_shared(configs),
        environments=[
            (json.loads(text), count)
            for text, count in sorted(environments.items(), key=lambda item: -item[1])
        ],
        problems=problems,
        unfinished=unfinished,
    )


def read_curves(study: Study, runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The logged curves of some rows of ``study.runs``, below one another.

    Returns:
        The columns of ``metrics.csv``, all float, with ``run``: the row's label in ``runs``; and
        one line for each file that is missing or could not be read.
    """
    curves, problems = [], []
    for label, directory in runs["directory"].items():
        path = study.directory / str(directory) / CURVE_FILE
        try:
            curve = pd.read_csv(path)
            for column in curve.columns:
                curve[column] = pd.to_numeric(curve[column], errors="coerce").astype(float)
        except OSError as error:
            problems.append(f"{path}: cannot be read ({error.strerror})")
        except ValueError as error:
            problems.append(f"{path}: not a table of numbers ({error})")
        else:
            if "step" in curve.columns:
                curves.append(curve.assign(run=label))
            else:
                problems.append(f"{path}: has no column 'step'")
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(), problems


def _find_runs(directory: Path) -> tuple[list[Path], list[Path]]:
    """The directories that hold a record, and those that hold only a run's other traces."""
    found, unfinished = [], []
    for where, directories, files in os.walk(directory):
        here = Path(where)
        if records.FILE_NAME in files or records.FILE_NAME in directories:
            found.append(here)
        elif CURVE_FILE in files or ".hydra" in directories:
            unfinished.append(here)
        skipped = {REPORT_DIRECTORY} if here == directory else set()
        within = here in (*found[-1:], *unfinished[-1:])  # where loggers may have their own files
        directories[:] = sorted(
            name
            for name in directories
            if not (within and here != directory)
            and name not in skipped
            and name != "checkpoints"
            and not name.startswith(".")
        )
    return found, unfinished


def _row(record: records.Record) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(record, name) for name in RUN_COLUMNS}
    named = record.hyperparameters
    added = identity.hyperparameters(identity.ADDED)  # which an older record does not name
    for name, value in (named | (added | named)).items():
        row[name] = float(value)
    for group, values in (
        ("", record.metrics),
        ("best/", record.best),
        ("target/", record.target),
        ("timing/", record.timing),
    ):
        row |= {group + name: np.nan if x is None else x for name, x in values.items()}
    for name in ("workload", "optimizer", "schedule", "id"):
        if not isinstance(row[name], str):
            raise TypeError(f"{name} is {row[name]!r}, not text")
    for name in ("seed", "steps", "epochs"):
        if not isinstance(row[name], int | float):
            raise TypeError(f"{name} is {row[name]!r}, not a number")
    return row


def _is_setting(key: str) -> bool:
    return not key.endswith("_target_") and not any(
        key == other or key.startswith(f"{other}.") for other in NOT_A_SETTING
    )


def _plain_names(keys: Iterable[str]) -> dict[str, str]:
    """The names that hyperparameters have in a record, for any configuration key.

    ``optimizer.lr`` is ``lr``, ``schedule.gamma`` stays, ``workload.model.init`` is ``init``. Where
    two keys would get the same name, each keeps its whole key.
    """
    names = {}
    for key in keys:
        group, _, rest = key.partition(".")
        names[key] = key if group == "schedule" or not rest else rest.removeprefix("model.")
    taken = Counter(names.values())
    return {key: name if taken[name] == 1 else key for key, name in names.items()}


def _add_settings(runs: pd.DataFrame, configs: list[dict[str, Any]]) -> list[str]:
    """Adds ``trial`` and the settings that vary but are no hyperparameters; names all that vary."""
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, group in enumerate(zip(runs["workload"], runs["optimizer"], strict=True)):
        members[group].append(position)

    varying: dict[tuple[str, str], list[str]] = {}
    for group, positions in members.items():
        values: dict[str, set[Any]] = defaultdict(set)
        present: dict[str, int] = defaultdict(int)
        for position in positions:
            for key, value in configs[position].items():
                values[key].add(value)
                present[key] += 1
        varying[group] = [
            key
            for key in values
            if _is_setting(key) and (len(values[key]) > 1 or present[key] < len(positions))
        ]

    keys = dict.fromkeys(key for group in varying.values() for key in group)
    names = _plain_names(keys)
    for key, name in names.items():
        if name not in runs:
            column = pd.Series([config.get(key) for config in configs], index=runs.index)
            numbers = column.dropna().map(
                lambda value: isinstance(value, int | float) and not isinstance(value, bool)
            )
            text = column.map(lambda value: None if value is None else str(value))
            runs[name] = column.astype(float) if numbers.all() else text

    trials = [""] * len(runs)
    schedules = list(runs["schedule"])
    for group, positions in members.items():
        with_schedule = len({schedules[position] for position in positions}) > 1
        always = [] if varying[group] or with_schedule else ["optimizer.lr"]
        for position in positions:
            config = configs[position]
            parts = [
                f"{names.get(key, 'lr')}={_text(config[key])}"
                for key in sorted(always + varying[group], key=lambda key: key != "optimizer.lr")
                if key in config
            ]
            if with_schedule:
                parts.append(f"schedule={schedules[position]}")
            trials[position] = " ".join(parts)
    runs["trial"] = trials

    settings = sorted(set(names.values()), key=lambda name: (name != "lr", name))
    if runs.groupby(["workload", "optimizer"])["schedule"].nunique().max() > 1:
        settings.append("schedule")
    return settings


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shared(configs: list[dict[str, Any]]) -> dict[str, Any]:
    missing = object()
    shared = dict(configs[0]) if configs else {}
    for config in configs[1:]:
        shared = {key: value for key, value in shared.items() if config.get(key, missing) == value}
    return shared
