"""How to make these numbers again: commands, versions, hardware, configuration."""

import shlex
from typing import Any

import pandas as pd

from bench.report import figures, text
from bench.report.contents import Contents
from bench.report.page import Block, Gallery, Section
from bench.study import Study

MOST_COMMANDS = 12
MOST_VALUES = 20
HARDWARE = ("device", "threads", "platform")


def section(contents: Contents, gallery: Gallery) -> Section:
    del gallery  # nothing is drawn
    study = contents.study
    usual = study.environments[0][0] if study.environments else {}
    others = [environment for environment, _ in study.environments[1:]]
    versions = {name: value for name, value in usual.items() if name not in HARDWARE}
    hardware = {name: usual.get(name) for name in HARDWARE}
    blocks = [
        ("Commands", _commands(contents)),
        ("What was swept", _swept(contents)),
        ("What it ran on", [*_told(hardware), ("time", _time(contents)), *_stacks(contents)]),
        ("Versions", [*_told(versions), *_differences(usual, others)]),
        ("Data", [(f"checksum of {name}'s", value) for name, value in study.data.items()]),
        ("What all runs share", _told(study.shared)),
    ]
    lead = (
        "What made this study, and what it was made with. Each run's record.json and .hydra "
        "directory hold its own in full."
    )
    return Section(
        anchor="reproduce",
        title="How to reproduce it",
        short="Reproduce",
        blocks=[
            Block(paragraphs=[lead]),
            *(Block(heading=heading, facts=facts) for heading, facts in blocks if facts),
        ],
    )


def _commands(contents: Contents) -> list[tuple[str, str]]:
    """Those that made the runs; of records that do not know it, that of one run."""
    study = contents.study
    made = [
        (f"{text.count(runs, 'run')}", f"python -m bench {shlex.join(words)}")
        for words, runs in study.commands
    ]
    if not made and contents.overrides:
        made = [
            ("one run of the best setting", f"python -m bench {shlex.join(contents.overrides)}")
        ]
    return [
        *made[:MOST_COMMANDS],
        *([("and", f"{len(made) - MOST_COMMANDS:,} more")] if len(made) > MOST_COMMANDS else []),
        ("report", report_command(study)),
        *(("curves", f"tensorboard --logdir {source}") for source in study.sources),
    ]


def report_command(study: Study) -> str:
    return f"python -m bench.report {shlex.join(map(str, study.sources))}"


def _swept(contents: Contents) -> list[tuple[str, str]]:
    """Each name that varies with its values, for each optimizer where they differ."""
    runs = contents.study.runs
    swept = []
    for name in ("workload", "optimizer", *contents.study.settings, "seed"):
        if runs[name].nunique() < 2:
            continue
        values = {
            optimizer: _values(rows[name].dropna()) for optimizer, rows in runs.groupby("optimizer")
        }
        label = figures.label(name)
        if name == "optimizer" or len(set(values.values())) == 1:
            swept.append((label, _values(runs[name].dropna())))
        else:
            said = [(opt, values[opt]) for opt in contents.looks if values.get(opt)]
            swept += [(f"{label}, {optimizer}", told) for optimizer, told in said]
    return swept


def _values(column: pd.Series) -> str:
    values = sorted(column.unique())
    if len(values) > MOST_VALUES and pd.api.types.is_numeric_dtype(column):
        return f"{len(values)} values from {text.number(values[0])} to {text.number(values[-1])}"
    return ", ".join(map(text.number, values))


def _time(contents: Contents) -> str:
    """What the runs of a stack took, they took together."""
    runs = contents.study.runs
    seconds = runs.get("timing/total_seconds", pd.Series(dtype=float))
    together = _together(runs)
    return f"{text.seconds(float((seconds / together.clip(lower=1)).sum()))} of computing, added up"


def _together(runs: pd.DataFrame) -> pd.Series:
    return runs.get("timing/runs_together", pd.Series(1.0, index=runs.index)).fillna(1)


def _stacks(contents: Contents) -> list[tuple[str, str]]:
    together = _together(contents.study.runs)
    stacked = int((together > 1).sum())
    if not stacked:
        return []
    how_many = f"{stacked:,} of {text.count(len(together), 'run')}"
    return [
        (
            "company",
            f"{how_many} trained in stacks of up to {int(together.max())}; on some machines that "
            "changes the last bits of each step, and so the same command makes the same stacks",
        )
    ]


def _told(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, _plain(value)) for name, value in values.items() if value not in (None, {})]


def _differences(usual: dict[str, Any], others: list[dict[str, Any]]) -> list[tuple[str, str]]:
    if not others:
        return []
    changed = {
        name for other in others for name in usual | other if usual.get(name) != other.get(name)
    }
    how_many = text.count(len(others), "other environment")
    return [("also used", f"{how_many}, not the same in {text.listed(sorted(changed))}")]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    return str(value)
