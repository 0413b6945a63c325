# mypy: disable-error-code="import-untyped"
"""The optimizers at their best settings, as runs of TensorBoard beside the study's own.

``report/<optimizer>`` has the mean curves over seeds, with tags that all optimizers share, so that
one card shows them all; ``report/figures`` the layout of Custom Scalars and the columns of HParams.
Another directory (``by_short_names``) leads to the same and, by names that leave out what all runs
share, to every finished run. All of it can be written again at any time, while TensorBoard reads.
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2

from bench import records
from bench.analysis import selection
from bench.board import MOST_RUNS, by_short_names, events
from bench.errors import BenchError
from bench.report import curves, style
from bench.settings.identity import shown_settings
from bench.study import Study

PAIR = ("workload", "optimizer")
SPLITS = {"train": "training", "val": "validation"}
FIGURES = "figures"
LONGEST_NAME = 150

# TensorBoard 2.21 has seven colours for runs, in turn by the time at which they began: slate, cyan,
# pink, yellow, purple, light green, orange. The place of the one that is like an optimizer's own.
COLOURS = 7
PLACES = {
    "sgd": 0,
    "momentum": 1,
    "rmsprop": 2,
    "adagrad": 3,
    "nesterov": 4,
    "adamw": 5,
    "adam": 6,
}


@dataclass(frozen=True)
class Session:
    """A run as HParams has it, and what its record was when it was read."""

    modified: int
    record: records.Record
    settings: dict[str, events.Setting]


class Overview:
    """Writes the overview of a study, again and again; a record is read once.

    Args:
        directory: the study's.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sessions: dict[str, Session] = {}
        self.times: dict[Path, float] = {}

    def write(self, study: Study) -> None:
        """What there is to see by now.

        Raises:
            OSError: it cannot be written into the study. Beside the study, it is left out.
        """
        report = study.report_directory
        looks = style.looks(study.runs["optimizer"].unique())
        best = _best(study)
        found, _ = curves.read(study, best)
        runs = self._runs(study, best)
        real = {name: self._began(study.directory / path) for name, path in runs.items()}
        began = _times(looks, [time for time in real.values() if time is not None])
        shown = {FIGURES}
        for optimizer in looks:
            points = list(_points(study, best, found, optimizer, since=began[optimizer]))
            if points:
                shown.add(folder := _folder(optimizer))
                events.write(
                    report / folder,
                    points,
                    kind="curves",
                    began=began[optimizer],
                    restarts=True,
                )
        for path in report.glob("*/events.out.tfevents.0.*.curves"):
            if path.parent.name not in shown:
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    path.parent.rmdir()
        about = [self._columns(study, runs.values()), events.layout(_layout(study, found))]
        events.write(
            report / FIGURES, map(events.Point, about), kind="overview", began=began[FIGURES]
        )
        with suppress(OSError):
            self._by_short_names(study, runs, shown)

    def _runs(self, study: Study, best: pd.DataFrame) -> dict[str, str]:
        """The directory of each run, by its short name."""
        runs = study.runs
        if len(runs) > MOST_RUNS:
            runs = runs.merge(best[[*PAIR, "trial"]].dropna(), on=[*PAIR, "trial"])[:MOST_RUNS]
        workloads, seeds = (study.runs[name].nunique() > 1 for name in ("workload", "seed"))
        names = []
        for row in runs[[*PAIR, "trial", "seed"]].itertuples(index=False):
            said = [row.optimizer, row.trial, *([f"seed={row.seed}"] if seeds else [])]
            name = _safe(" ".join(said))
            names.append(f"{_safe(row.workload)}/{name}" if workloads else name)
        taken = Counter(names)
        unique = [
            name if taken[name] == 1 else f"{name} {identity}"
            for name, identity in zip(names, runs["id"], strict=True)
        ]
        return dict(zip(map(str, unique), map(str, runs["directory"]), strict=True))

    def _began(self, run: Path) -> float | None:
        """When a run's first event was written."""
        for path in sorted(run.glob(events.PATTERN)):
            if path not in self.times:
                with suppress(OSError, ValueError):
                    self.times[path] = events.began(path)
            if path in self.times:
                return self.times[path]
        return None

    def _columns(self, study: Study, shown: Collection[str]) -> Summary.Value:
        """Of HParams, for the runs that it shows: what varies first, and of what was measured only
        what ranks."""
        for directory in self.sessions.keys() - set(shown):
            del self.sessions[directory]
        for directory in shown:
            path = study.directory / directory / records.FILE_NAME
            with suppress(OSError, BenchError):
                modified = path.stat().st_mtime_ns
                if directory in self.sessions and self.sessions[directory].modified == modified:
                    continue
                record = records.read(path)
                settings = records.finite(shown_settings(record.config))
                known = {name: value for name, value in settings.items() if value is not None}
                self.sessions[directory] = Session(modified, record, known)
        settings = [
            {"status": session.record.status} | session.settings
            for session in self.sessions.values()
        ]
        values: dict[str, set[events.Setting]] = {}
        for one in settings:
            for name, value in one.items():
                values.setdefault(name, set()).add(value)
        varying = {name for name, several in values.items() if len(several) > 1} | {"status"}
        names = dict.fromkeys(metric.name for metric in study.runs["metric"])
        metrics = {events.BEST.format(name): f"best {name}" for name in names}
        metrics |= {events.STEPS: "steps to target"}
        metrics |= {f"test/{name}": f"test {name}" for name in names}
        return events.experiment(settings, varying, metrics)

    def _by_short_names(self, study: Study, runs: Mapping[str, str], shown: Iterable[str]) -> None:
        place = by_short_names(study.directory)
        report = study.report_directory
        wanted = {_link(report / name, place / name) for name in shown}
        for name, directory in runs.items():
            run = study.directory / directory
            wanted |= {_link(path, place / name / path.name) for path in run.glob(events.PATTERN)}
            if directory in self.sessions:
                wanted |= {self._session(self.sessions[directory], run, place / name)}
        for where, directories, files in os.walk(place, topdown=False):
            links = {*files, *(name for name in directories if Path(where, name).is_symlink())}
            for path in {Path(where, name) for name in links} - wanted:
                path.unlink(missing_ok=True)
            with suppress(OSError):
                os.rmdir(where)

    def _session(self, session: Session, run: Path, target: Path) -> Path:
        for path in events.files(target, "session"):
            if path.stat().st_mtime_ns >= session.modified:
                return path
        record = session.record
        ended = session.modified / 1e9
        began = self._began(run) or ended - (record.timing.get("total_seconds") or 0.0)
        values = events.session(session.settings, status=record.status, seconds=(began, ended))
        values += events.outcome(record.best, record.target)
        points = [events.Point(value, record.steps, ended) for value in values]
        events.write(target, points, kind="session", began=began)
        return events.files(target, "session")[-1]


def _best(study: Study) -> pd.DataFrame:
    """The trial to show of each optimizer: the selected one, or the only one."""
    best = selection.select(study.runs, by=PAIR)
    trials = study.runs.groupby(list(PAIR))["trial"].agg(["first", "nunique"])
    only = trials.loc[trials["nunique"] == 1, "first"].rename("only").astype(object)
    best = best.merge(only.reset_index(), on=list(PAIR), how="left")
    selected = best["trial"].astype(object)
    return best.assign(trial=selected.where(selected.notna(), best["only"]).astype(object))


def _link(source: Path, link: Path) -> Path:
    """A link that stays right where both are moved together."""
    link.parent.mkdir(parents=True, exist_ok=True)
    leads = os.path.relpath(source.resolve(), link.parent.resolve())
    if not link.is_symlink() or os.readlink(link) != leads:
        link.unlink(missing_ok=True)
        link.symlink_to(leads)
    return link


def _points(
    study: Study,
    best: pd.DataFrame,
    found: Mapping[str, Mapping[str, pd.DataFrame]],
    optimizer: str,
    *,
    since: float,
) -> Iterator[events.Point]:
    """The mean curves of an optimizer, the lowest and the highest; by training time from then."""
    said = []
    for workload, by_optimizer in found.items():
        if optimizer not in by_optimizer:
            continue
        for metric in _metrics(study, workload):
            band = curves.band(by_optimizer[optimizer], "seconds", metric)
            tags = _tags(study, workload, metric)
            for row in band.to_dict("records"):
                for column, tag in tags.items():
                    value = events.scalar(tag, row[column])
                    yield events.Point(value, int(row["step"]), since + row["x"])
        rows = best[(best["workload"] == workload) & (best["optimizer"] == optimizer)]
        for row in rows.itertuples(index=False):
            said.append(f"- {workload}: **{row.trial}**, the mean of {row.seeds} seed(s)")
    if said:
        yield events.Point(events.text("best setting", "\n".join(said)))


def _metrics(study: Study, workload: str) -> list[str]:
    """What there are curves of, as ``metrics.csv`` calls it."""
    metric = selection.metric_of(study.runs[study.runs["workload"] == workload])
    return list(dict.fromkeys((f"val/{metric.name}", "val/loss", "train/loss")))


def _tags(study: Study, workload: str, metric: str) -> dict[str, str]:
    """The tag of each column of a band. Custom Scalars finds a run by the first parenthesis."""
    several = study.runs["workload"].nunique() > 1
    split, _, name = metric.partition("/")
    named = f"{SPLITS[split]} {name.replace('_', ' ')}"
    where = f" on {workload}" if several else ""
    tags = {
        "mean": f"best{where}/{named}",
        "min": f"seeds{where}/{named}, lowest",
        "max": f"seeds{where}/{named}, highest",
    }
    return {column: re.sub(r"[()]", " ", tag) for column, tag in tags.items()}


def _layout(study: Study, found: Mapping[str, Mapping[str, pd.DataFrame]]) -> layout_pb2.Layout:
    """A chart a metric, with a band an optimizer, and below them those of every run.

    A chart has one series: of a chart with more, TensorBoard misses tags in every run that has not
    got them all.
    """
    categories = []
    for workload, by_optimizer in found.items():
        charts = []
        for metric in reversed(_metrics(study, workload)):  # TensorBoard turns them round
            if not any(metric in table for table in by_optimizer.values()):
                continue
            tags = _tags(study, workload, metric)
            series = layout_pb2.MarginChartContent.Series(
                value=tags["mean"], lower=tags["min"], upper=tags["max"]
            )
            content = layout_pb2.MarginChartContent(series=[series])
            title = tags["mean"].partition("/")[2]
            charts.append(layout_pb2.Chart(title=title, margin=content))
        title = f"{workload}: each optimizer at its best setting, lowest to highest seed"
        categories.append(layout_pb2.Category(title=title, chart=charts))
    metrics = dict.fromkeys(metric for name in found for metric in _metrics(study, name))
    every = [
        layout_pb2.Chart(
            title=metric, multiline=layout_pb2.MultilineChartContent(tag=[events.exactly(metric)])
        )
        for metric in metrics
    ]
    categories.append(layout_pb2.Category(title="Every run", chart=every, closed=True))
    return layout_pb2.Layout(category=categories)


def _times(optimizers: Iterable[str], real: Sequence[float]) -> dict[str, float]:
    """When each optimizer's run is to begin, and ``figures``, so that TensorBoard gives each
    the colour that is like its own: it has its turn between the runs that began before and after.
    """
    waiting = _places(optimizers)
    others = sorted(real) or [0.0]
    others.insert(0, others[0] - 1)  # the figures'
    order: list[list[str]] = [[]]  # of optimizers, after so many others
    for turn in itertools.count():
        left = len(others) - len(order) + 1
        ahead = {name: (place - turn) % COLOURS for name, place in waiting.items()}
        if not ahead:
            break
        name = min(ahead, key=lambda name: ahead[name])
        if left and ahead[name]:
            order.append([])
        else:
            order[-1].append(name)
            del waiting[name]
    times = {FIGURES: others[0]}
    ends = [others[0] - 1, *others, others[-1] + 1]
    for start, end, names in zip(ends, ends[1:], order, strict=False):
        for i, name in enumerate(names, start=1):
            times[name] = start + (end - start) * i / (len(names) + 1)
    return times


def _places(optimizers: Iterable[str]) -> dict[str, int]:
    """The place in the palette for each optimizer: its own, or the next that is free."""
    places = {name: PLACES[name] for name in optimizers if name in PLACES}
    free = [place for place in range(COLOURS) if place not in places.values()]
    unknown = [name for name in optimizers if name not in PLACES]
    return places | dict(zip(unknown, itertools.cycle(free or range(COLOURS)), strict=False))


def _folder(optimizer: str) -> str:
    """The name of an optimizer's run."""
    return f"{FIGURES}_" if optimizer == FIGURES else _safe(optimizer)


def _safe(name: object) -> str:
    """A name of a directory that is as it is read: no path, nothing hidden, not too long."""
    text = re.sub(r"[\x00-\x1f/\\]+", "_", str(name)).strip(" .") or "_"
    return text.encode()[:LONGEST_NAME].decode(errors="ignore")
