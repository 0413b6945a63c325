"""Studies set against each other: the same workloads under two settings, before and after.

They become one study, in which each optimizer is called after where it comes from, so that every
statistic and figure compares them as it compares optimizers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench import study as studies
from bench.analysis import selection
from bench.errors import BenchError
from bench.study import Study

DIRECTORY = "compare"
OWN = 'name="generator" content="bench.report"'  # in a page of ours


@dataclass(frozen=True, kw_only=True)
class Joined(Study):
    """Several studies as one; ``parts`` has each by the name that its optimizers bear."""

    parts: dict[str, Study]

    @property
    def sources(self) -> list[Path]:
        return [part.directory for part in self.parts.values()]

    @property
    def report_directory(self) -> Path:
        return self.directory


def named(optimizer: str, part: str) -> str:
    return f"{optimizer} ({part})"


def read(directories: Sequence[Path], output: Path | None = None) -> Joined:
    """Reads studies and joins what they share.

    Args:
        output: where the report is to be; ``compare/<a>-vs-<b>`` beside the first if None.

    Raises:
        BenchError: they cannot be compared, or ``output`` holds something else than a report.
    """
    places = [directory.resolve() for directory in directories]
    for i, place in enumerate(places):
        for other in places[:i]:
            if place == other:
                raise BenchError(f"{directories[i]}: given twice; a study is compared with another")
            if place.is_relative_to(other) or other.is_relative_to(place):
                raise BenchError(f"{directories[i]}: lies within another of the studies")
    found = [studies.read(directory) for directory in directories]
    for study in found:
        if study.runs.empty:
            raise BenchError(f"{study.directory}: has no finished run to compare")
    parts = dict(zip(_labels(places), found, strict=True))
    if output is None:
        name = "-vs-".join(re.sub(r"[^\w.-]+", "_", label) for label in parts)
        output = directories[0].parent / DIRECTORY / name
    _check(output)
    return _join(parts, output)


def _labels(places: Sequence[Path]) -> list[str]:
    """The studies' names, with as many of the folders they are in as it takes to tell them."""
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return ["/".join(place.parts[-depth:]) for place in places]


def _check(output: Path) -> None:
    page = output / "index.html"
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not page.is_file() or OWN not in page.read_text("utf-8", errors="replace")[:2000]:
        raise BenchError(f"{output}: holds something else than a report; give another --output")


def _join(parts: dict[str, Study], output: Path) -> Joined:
    shared = set.intersection(*(set(part.runs["workload"]) for part in parts.values()))
    if not shared:
        have = "; ".join(
            f"{label} has {', '.join(part.runs['workload'].unique())}"
            for label, part in parts.items()
        )
        raise BenchError(f"the studies share no workload: {have}")
    placed = [_placed(part, label, shared) for label, part in parts.items()]
    runs = pd.concat([part.runs for part in placed], ignore_index=True)
    for workload, rows in runs.groupby("workload"):
        names = {f"{metric.name} ({metric.unit})" for metric in rows["metric"]}
        if rows["metric"].nunique() > 1:
            raise BenchError(f"{workload} is not judged by the same metric: {sorted(names)}")
    together: dict[str, Any] = {
        field.name: _merged([getattr(part, field.name) for part in placed])
        for field in fields(Study)
        if field.name not in ("directory", "runs", "shared")
    }
    together["settings"].sort(key=lambda name: name != "lr")
    common = [part.shared for part in parts.values()]
    return Joined(
        directory=output,
        runs=selection.judged(runs),
        shared={
            key: value
            for key, value in common[0].items()
            if all(other.get(key, ...) == value for other in common)
        },
        parts=parts,
        **together,
    )


def _placed(part: Study, label: str, shared: set[str]) -> Study:
    """A study with the runs of these workloads alone, which are found from anywhere."""
    runs = part.runs[part.runs["workload"].isin(shared)]
    here = part.directory.resolve()
    places = {place: str(here / place) for place in runs["directory"]}
    by_run: dict[str, Any] = {
        field.name: {places.get(key, key): value for key, value in known.items()}
        for field in fields(part)
        if isinstance(known := getattr(part, field.name), dict)
    }
    return replace(
        part,
        runs=runs.assign(
            directory=runs["directory"].map(places),
            optimizer=[named(optimizer, label) for optimizer in runs["optimizer"]],
        ),
        **by_run,
    )


def _merged(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {key: item for value in values for key, item in value.items()}
    items = [item for value in values for item in value]
    hashable = all(isinstance(item, str) for item in items)
    return list(dict.fromkeys(items)) if hashable else items
