"""A study's records as one table, one row a run: the input of every analysis and report.

No torch here, and nothing is cached on disk: 10,000 records are read in seconds.
"""

import json
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bench import records
from bench.analysis import selection
from bench.declared import LARGEST
from bench.errors import BenchError
from bench.files import read as read_file
from bench.metrics import Metric
from bench.settings import identity
from bench.settings.workloads import problem_keys

REPORT_DIRECTORY = "report"
CURVE_FILE = "metrics.csv"
OVERRIDES_FILE = Path(".hydra", "overrides.yaml")
LARGEST_CURVE = 250_000_000  # bytes
LARGEST_OVERRIDES = 100_000
MOST_CURVES = 1000  # columns of a file of them

RUN_COLUMNS = (
    *("workload", "optimizer", "schedule", "seed"),
    *("status", "reason", "steps", "epochs", "id", "metric", "sampler"),
)
UNKNOWN = "unknown"  # the sampler where a record does not say

# Columns that stand beside those of settings somewhere; a setting that is called so is renamed.
TAKEN = frozenset(
    {
        *RUN_COLUMNS,
        *("trial", "directory", "runs", "seeds", "compared", "edges", "notes"),
        *("completed", "diverged", "all_diverged", "share_diverged", "lost", "failed", "missing"),
        *("score", "std", "test", "test_std", "low", "high", "validation", "sd"),
        *("width", "width_low", "width_high", "open_low", "open_high"),
        *("time", "reached", "target", "targets", "after_1", "after_2", "after_4"),
    }
)

# Configuration keys (or groups of them) that do not make a setting, beside those that decide no
# result: the seed is what a setting is repeated over, names have columns of their own, and a length
# is a budget.
NOT_A_SETTING = (
    *identity.NEUTRAL,
    *identity.GROUP_NAMES,
    *identity.LENGTH,
    *("seed", "experiment", "workload.target"),
)


# What an older record does not name.
ADDED = identity.hyperparameters(identity.ADDED, problem_keys({"workload": {}}))
SCHEDULE = "schedule.name"
MOST_TOLD = 6  # values of a choice's own setting that names can tell apart

Group = tuple[str, str]  # a workload and an optimizer


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study's directory holds.

    Attributes:
        directory: where it was read from.
        runs: one row a run, in the order of workload, optimizer, trial, seed. Columns:
            ``workload, optimizer, schedule, seed, status, reason, steps, epochs, id``, where a
            workload that runs were given different lengths for is one workload for each length,
            named so, since runs of different lengths do not compare;
            ``sampler``, how the setting was chosen (``single, grid, random, tpe``, or ``unknown``
            where that was not noted);
            ``trial``, the setting without the seed, unique within a workload and optimizer;
            ``directory``, relative to the study's; a column for each hyperparameter and for each
            other setting that varies, by plain name; every metric by its name, and ``best/…``,
            ``target/…``, ``timing/…``; ``metric``, the one that selects, which all runs of a
            workload share, and ``floor/…`` as ``selection.judged`` has them. What a run does not
            have is missing (NaN).
        variants: of each workload whose runs minimised different things (a quadratic of condition
            10, and of 100), its names in ``runs`` by what differs.
        lengths: of each workload (by its name in ``runs`` but for that) that runs were given
            different lengths for, its names in ``runs`` by length.
        metrics: of each workload (by its name in ``runs`` but for that) whose runs disagree about
            what they are judged by, its names in ``runs`` by metric.
        units: of everything measured, by its name without the split.
        settings: the columns that vary within a workload and optimizer, ``lr`` first. What follows
            from a choice, as the numbers of a schedule follow from which one it is, is no setting:
            where a choice was tried with several, its name says which (``cosine, final 0.1``), and
            nothing else does.
        keys: of each of them, its configuration key.
        shared: the configuration keys on which all runs agree, with their values.
        environments: each distinct environment with the number of runs made in it, commonest first:
            of runs that did not fail, and without what follows from the workload and the optimizer:
            the data, the classes.
        commands: each distinct command that made runs, word by word as it was typed after
            ``python -m bench``, with the number of runs it made, commonest first.
        data: of each workload that has any, the checksum of its data.
        problems: one line for each file that could not be used.
        unfinished: directories of runs that have no record: in progress, or interrupted.
    """

    directory: Path
    runs: pd.DataFrame
    variants: dict[str, dict[str, str]] = field(default_factory=dict)
    lengths: dict[str, dict[str, str]]
    metrics: dict[str, dict[str, str]]
    units: dict[str, str]
    settings: list[str]
    keys: dict[str, str] = field(default_factory=dict)
    shared: dict[str, Any]
    environments: list[tuple[dict[str, Any], int]]
    commands: list[tuple[list[str], int]]
    data: dict[str, str]
    problems: list[str]
    unfinished: list[Path]

    @property
    def name(self) -> str:
        return self.directory.resolve().name

    @property
    def pruned(self) -> pd.DataFrame:
        """The runs that a sweep stopped on their way; in ``runs`` they are without a score."""
        return self.runs[self.runs["status"] == "pruned"]

    @property
    def whole(self) -> pd.DataFrame:
        """The runs of each workload and optimizer of which none was pruned: what to ask how much a
        setting matters. The settings that are left of others were chosen for being good."""
        pair = ["workload", "optimizer"]
        pruned = pd.MultiIndex.from_frame(self.pruned[pair])
        return self.runs[~pd.MultiIndex.from_frame(self.runs[pair]).isin(pruned)]

    @property
    def sources(self) -> list[Path]:
        """The directories that runs were read from."""
        return [self.directory]

    @property
    def report_directory(self) -> Path:
        return self.directory / REPORT_DIRECTORY


def read(directory: Path) -> Study:
    """Reads every record below ``directory``. A file that is not one becomes a problem's line.

    Raises:
        BenchError: there is no such directory, or it cannot be read.
    """
    if not directory.is_dir():
        raise BenchError(f"{directory}: no such directory; give a study's, such as runs/quickstart")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise BenchError(f"{directory}: cannot be read; check its permissions")
    if not _is_unicode(directory.resolve()):
        raise BenchError(f"{_printable(str(directory))}: its name is not Unicode; give it another")
    found, unfinished = find_runs(directory)
    problems: list[str] = []
    rows: list[dict[str, Any]] = []
    configs: list[dict[str, Any]] = []
    problem: set[str] = set()
    environments: dict[str, int] = defaultdict(int)
    commands: Counter[tuple[str, ...]] = Counter()
    seen: dict[str, Path] = {}
    units: dict[str, str] = {}
    data: dict[str, dict[str, None]] = defaultdict(dict)
    for run_directory in found:
        path = run_directory / records.FILE_NAME
        try:
            if not _is_unicode(path):
                raise BenchError(f"{path}: its name is not Unicode; give it another")
            record = records.read(path)
        except BenchError as error:
            problems.append(_printable(str(error)))
            continue
        if record.id in seen:
            problems.append(_printable(f"{path}: the same run as {seen[record.id]}; counted once"))
            continue
        seen[record.id] = path
        shown = _printable(vars(record))
        rows.append(_row(shown) | {"directory": str(run_directory.relative_to(directory))})
        configs.append(_flat(shown["config"]))
        problem.update(shown["problem"])
        units |= shown["units"] | {shown["metric"]["name"]: shown["metric"]["unit"]}
        about = {
            key: value
            for key, value in shown["environment"].items()
            if key not in ("data", "classes")
        }
        if record.status != "failed":
            environments[json.dumps(about, sort_keys=True)] += 1
        if command := (shown["search"] or {}).get("command"):
            commands[tuple(command)] += 1
        if checksum := shown["environment"].get("data"):
            data[shown["workload"]].setdefault(str(checksum))
    variants = _tell_apart(rows, _problems(rows, configs, sorted(problem)), "with")
    lengths = _tell_apart(rows, list(map(_length, configs)), "for")
    metrics = _tell_apart(rows, _metrics(rows), "by")
    runs = pd.DataFrame(rows, columns=None if rows else [*RUN_COLUMNS, "trial", "directory"])
    runs, keys = _with_settings(runs, configs) if rows else (runs, {})
    runs = runs.sort_values(["workload", "optimizer", *keys, "seed"], kind="stable")
    return Study(
        directory=directory,
        runs=selection.judged(runs.reset_index(drop=True)),
        variants=variants,
        lengths=lengths,
        metrics=metrics,
        units=units,
        settings=list(keys),
        keys=keys,
        shared=_shared(configs),
        environments=[
            (json.loads(text), count)
            for text, count in sorted(environments.items(), key=lambda item: -item[1])
        ],
        commands=[(list(command), count) for command, count in commands.most_common()],
        data={workload: ", ".join(checksums) for workload, checksums in data.items()},
        problems=problems,
        unfinished=unfinished,
    )


def read_study(directory: str | os.PathLike[str]) -> pd.DataFrame:
    """A study's runs, one row each, as ``Study.runs`` describes them: settings by plain name, what
    was measured as ``val/<metric>`` and ``test/<metric>``; ``metric`` is what the run is judged by.

        runs = bench.read_study("runs/first")
        runs[runs["status"] == "completed"].groupby(["optimizer", "lr"])["val/loss"].mean()

    A file that cannot be used is warned of and left out.

    Raises:
        BenchError: there is no such directory, or it cannot be read.
    """
    study = read(Path(directory))
    for problem in study.problems:
        warnings.warn(problem, stacklevel=2)
    return study.runs


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
            curves.append(_curve(path).assign(run=label))
        except BenchError as error:
            problems.append(_printable(str(error)))
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(), problems


def read_overrides(study: Study, directory: str) -> list[str]:
    """What was said on the command line for the run in ``directory``, word by word as it was said;
    nothing where it was not noted.

    Raises:
        BenchError: the file that it is noted in holds something else.
    """
    path = study.directory / directory / OVERRIDES_FILE
    if not os.path.lexists(path):
        return []
    content = read_file(path, most=LARGEST_OVERRIDES)
    try:
        words = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = str(error).splitlines()[0]
        raise BenchError(_printable(f"{path}: not a list of overrides ({why})")) from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BenchError(_printable(f"{path}: not a list of overrides"))
    return [_printable(word) for word in words]


def _curve(path: Path) -> pd.DataFrame:
    """The numbers of a run's ``metrics.csv``; what is no number, or too large to be drawn, and a
    row that is of no step, is left out."""
    content = read_file(path, most=LARGEST_CURVE)
    if content.partition(b"\n")[0].count(b",") >= MOST_CURVES:
        raise BenchError(f"{path}: not a table of numbers (more than {MOST_CURVES:,} columns)")
    try:
        table = pd.read_csv(BytesIO(content), low_memory=False)
    except ValueError as error:
        raise BenchError(f"{path}: not a table of numbers ({error})") from error
    if "step" not in table.columns:
        raise BenchError(f"{path}: has no column 'step'")
    if not all(map(pd.api.types.is_numeric_dtype, table.dtypes)):
        table = table.apply(pd.to_numeric, errors="coerce")
    numbers = table.astype(float)
    numbers = numbers.where(numbers.abs() <= LARGEST)
    return numbers[numbers["step"].between(0, 2**53)]


def find_runs(directory: Path) -> tuple[list[Path], list[Path]]:
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


def _row(record: dict[str, Any]) -> dict[str, Any]:
    sampler = (record["search"] or {}).get("sampler", UNKNOWN)
    record = record | {"metric": Metric(**record["metric"]), "sampler": sampler}
    row = {name: record[name] for name in RUN_COLUMNS}
    named = record["hyperparameters"]
    named = named | (ADDED | named)
    for group, values in (
        ("", {_column(name): value for name, value in named.items()}),
        ("", record["metrics"]),
        ("best/", record["best"]),
        ("target/", record["target"]),
        ("timing/", record["timing"]),
    ):
        row |= {
            group + name: value if isinstance(value, str) else _float(value)
            for name, value in values.items()
        }
    return row


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Each value of a configuration by its whole key; one that holds several as text."""
    return {
        key: json.dumps(value) if isinstance(value, list) else value
        for key, value in (*identity.ADDED.items(), *identity.leaves(config))
    }


def _float(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _column(name: str) -> str:
    return f"setting.{name}" if name in TAKEN else name


def _is_unicode(path: Path) -> bool:
    """Names of files are bytes; what is not Unicode in them cannot be written anywhere else."""
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def _printable(value: Any) -> Any:
    """Text, at any depth, with a space for every character that a terminal obeys, an SVG may not
    hold, or nobody sees."""
    kind = type(value)
    if kind is float or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(letter if letter.isprintable() else " " for letter in value)
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return list(map(_printable, value)) if isinstance(value, list) else value


def _tell_apart(
    rows: list[dict[str, Any]], labels: Sequence[str], word: str
) -> dict[str, dict[str, str]]:
    """Makes one workload for each label of those whose runs do not all have the same."""
    given: dict[str, dict[str, None]] = defaultdict(dict)
    for row, label in zip(rows, labels, strict=True):
        given[row["workload"]].setdefault(label)
    names = {
        workload: {
            label: f"{workload} {word} {label}"
            for label in sorted(several, key=lambda label: (len(label), label))
        }
        for workload, several in sorted(given.items())
        if len(several) > 1
    }
    for row, label in zip(rows, labels, strict=True):
        if row["workload"] in names:
            row["workload"] = names[row["workload"]][label]
    return names


def _problems(
    rows: list[dict[str, Any]], configs: list[dict[str, Any]], keys: Sequence[str]
) -> list[str]:
    """What each run minimised, as far as it is not the same in all runs of its workload."""
    said: dict[str, dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    for row, config in zip(rows, configs, strict=True):
        for key in keys:
            said[row["workload"]][key].add(config.get(key))

    def label(row: dict[str, Any], config: dict[str, Any]) -> str:
        varying = [key for key in keys if len(said[row["workload"]][key]) > 1]
        told = (f"{identity.plain_name(key)} {_text(config.get(key))}" for key in varying)
        return ", ".join(told)

    return [label(row, config) for row, config in zip(rows, configs, strict=True)]


def _metrics(rows: list[dict[str, Any]]) -> list[str]:
    """By what each run is judged: the metric's name, and more where that does not tell apart. A
    failed run, of which nothing was measured, goes with the others of its workload."""
    said: dict[str, dict[Metric, None]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: row["status"] == "failed"):
        known = said[row["workload"]]
        if row["status"] == "failed" and known and row["metric"] not in known:
            row["metric"] = next(iter(known))
        known.setdefault(row["metric"])

    def label(row: dict[str, Any]) -> str:
        metric = row["metric"]
        if [other.name for other in said[row["workload"]]].count(metric.name) == 1:
            return metric.name
        way = "higher" if metric.higher_is_better else "lower"
        unit = metric.unit or "no unit"
        return f"{metric.name} ({unit}, {way} is better, chance {metric.chance})"

    return list(map(label, rows))


def _length(config: dict[str, Any]) -> str:
    """How long a run may go on: ``2 epochs``, ``500 steps, patience 3``."""
    epochs, steps, patience = (
        None if value == unlimited else value
        for value, unlimited in ((config.get(k, u), u) for k, u in identity.LENGTH.items())
    )
    said = [
        f"{f'{number:,}' if _is_number(number) else number} {unit}{'' if number == 1 else 's'}"
        for number, unit in ((epochs, "epoch"), (steps, "step"))
        if number is not None
    ]
    said = [" or ".join(said) or "as long as it takes"]
    return ", ".join(said + ([] if patience is None else [f"patience {patience}"]))


def _is_setting(key: str) -> bool:
    return not key.endswith("_target_") and not any(
        key == other or key.startswith(f"{other}.") for other in NOT_A_SETTING
    )


def _with_settings(
    runs: pd.DataFrame, configs: list[dict[str, Any]]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Adds ``trial`` and the settings that vary but are no hyperparameters; of all settings that
    vary, the configuration key."""
    members: dict[Group, list[int]] = defaultdict(list)
    for position, group in enumerate(zip(runs["workload"], runs["optimizer"], strict=True)):
        members[group].append(position)
    named = zip(configs, runs["schedule"], strict=True)
    configs = [config | {SCHEDULE: name} for config, name in named]
    varying = {group: _varying(configs, positions) for group, positions in members.items()}
    runs, configs = _folded(runs, configs, members, varying)

    keys = dict.fromkeys(key for group in varying.values() for key in group if key != SCHEDULE)
    names = {key: _column(name) for key, name in identity.plain_names(keys).items()}
    columns = {}
    for key, name in names.items():
        column = pd.Series([config.get(key) for config in configs], index=runs.index)
        # A number of which none is better, such as the threads to run on, is told as a word.
        numbers = identity.is_tunable(key) and column.dropna().map(_is_number).all()
        if name not in runs or not numbers:
            text = column.map(lambda value: None if value is None else str(value))
            columns[name] = column.astype(float) if numbers else text
    runs = runs.drop(columns=list(columns), errors="ignore")
    runs = pd.concat([runs, pd.DataFrame(columns, index=runs.index)], axis=1)

    trials = [""] * len(runs)
    for group, positions in members.items():
        shown = sorted(varying[group] or ["optimizer.lr"], key=_place)
        for position in positions:
            config = configs[position]
            trials[position] = " ".join(
                f"{names.get(key, 'schedule' if key == SCHEDULE else 'lr')}={_text(config[key])}"
                for key in shown
                if key in config
            )
    runs["trial"] = trials

    settings = {name: key for key, name in sorted(names.items(), key=lambda item: item[1])}
    if any(SCHEDULE in group for group in varying.values()):
        settings["schedule"] = "schedule"
    return runs, dict(sorted(settings.items(), key=lambda item: item[0] != "lr"))


def _varying(configs: Sequence[dict[str, Any]], positions: Sequence[int]) -> list[str]:
    """The keys of settings that these runs do not agree on, and of the schedule's name."""
    values: dict[str, set[Any]] = defaultdict(set)
    present: dict[str, int] = defaultdict(int)
    for position in positions:
        for key, value in configs[position].items():
            values[key].add(value)
            present[key] += 1
    return [
        key
        for key in values
        if (_is_setting(key) or key == SCHEDULE)
        and (len(values[key]) > 1 or present[key] < len(positions))
    ]


def _folded(
    runs: pd.DataFrame,
    configs: list[dict[str, Any]],
    members: dict[Group, list[int]],
    varying: dict[Group, list[str]],
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The runs and configurations in which a choice stands for what follows from it, which is no
    longer among those ``varying``, either.

    What belongs to a choice follows from it, unless it was varied by itself: with the same values
    under every choice, or over more of them than names can tell.
    """
    parts: dict[str, set[str]] = defaultdict(set)  # of each choice, what belongs to it
    for keys in varying.values():
        for choice in keys:
            owned = {key for key in keys if _belongs(key, choice)}
            if owned and any(isinstance(config.get(choice), str) for config in configs):
                parts[choice] |= owned
    for choice, owned in parts.items():
        chosen = {group: at for group, at in members.items() if choice in varying[group]}
        tried: dict[str, list[dict[Any, set[Any]]]] = {
            key: [_tried(configs, at, choice, key) for at in chosen.values()] for key in owned
        }
        follow = sorted(key for key in owned if not _is_free(tried[key]))
        if not follow:
            continue
        configs = list(configs)
        for group, positions in chosen.items():
            varying[group] = [key for key in varying[group] if key not in follow]
            for position in positions:
                config = configs[position]
                value = config.get(choice)
                told = [
                    key
                    for key in follow
                    if any(len(values.get(value, ())) > 1 for values in tried[key])
                ]
                name = ", ".join([_text(value), *(_told(config, key, choice) for key in told)])
                kept = {key: item for key, item in config.items() if key not in follow}
                configs[position] = kept | {choice: name}
        places = [position for positions in chosen.values() for position in positions]
        for name in {_column(identity.plain_name(key)) for key in follow} & set(runs):
            runs = runs.assign(**{name: runs[name].mask(np.isin(np.arange(len(runs)), places))})
            runs = runs if runs[name].notna().any() else runs.drop(columns=name)
        if choice == SCHEDULE:
            names = [configs[position][SCHEDULE] for position in places]
            runs = runs.assign(schedule=runs["schedule"].to_numpy(copy=True))
            runs.iloc[places, runs.columns.get_loc("schedule")] = names
    return runs, configs


def _belongs(key: str, choice: str) -> bool:
    """Whether it only says something of what the choice is: ``schedule.every``, ``init_std``."""
    if choice == SCHEDULE:
        return key.startswith("schedule.") and key != choice
    return key.startswith(f"{choice}_")


def _tried(
    configs: Sequence[dict[str, Any]], positions: Sequence[int], choice: str, key: str
) -> dict[Any, set[Any]]:
    """The values of a key that each value of a choice was tried with."""
    values: dict[Any, set[Any]] = defaultdict(set)
    for position in positions:
        values[configs[position].get(choice)].add(configs[position].get(key))
    return values


def _is_free(tried: Sequence[dict[Any, set[Any]]]) -> bool:
    several = [values for by_choice in tried for values in by_choice.values()]
    if max(map(len, several)) > MOST_TOLD:
        return True
    return len(several[0]) > 1 and all(
        values == next(iter(by_choice.values()))
        for by_choice in tried
        for values in by_choice.values()
    )


def _told(config: dict[str, Any], key: str, choice: str) -> str:
    """``final 0.1``: what is said of a choice beside its name."""
    start = "schedule." if choice == SCHEDULE else f"{choice}_"
    value = config.get(key)
    word = key.removeprefix(start).replace("_", " ")
    return f"{word} {'not set' if value is None else _text(value)}"


def _place(key: str) -> tuple[bool, bool]:
    """In a trial's name: the learning rate first, the schedule last."""
    return key != "optimizer.lr", key == SCHEDULE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shared(configs: list[dict[str, Any]]) -> dict[str, Any]:
    missing = object()
    shared = dict(configs[0]) if configs else {}
    for config in configs[1:]:
        shared = {key: value for key, value in shared.items() if config.get(key, missing) == value}
    return shared
