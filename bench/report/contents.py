"""What a report shows: which tables and figures, of which runs, with which words beside them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from bench import study as studies
from bench.analysis import selection
from bench.errors import BenchError
from bench.report import figures, style
from bench.study import Study

PAIR = ("workload", "optimizer")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with its words; ``name`` is its file's, without a suffix."""

    name: str
    title: str
    caption: str
    figure: Figure


@dataclass(kw_only=True)
class Contents:
    """Everything that a report says, before it is put on a page.

    Attributes:
        best: ``selection.select`` for each workload and optimizer.
        trials: ``selection.trials``, with the settings that are not numbers.
        problems: one line each for what could not be read or drawn.
    """

    study: Study
    directory: Path
    best: pd.DataFrame
    trials: pd.DataFrame
    looks: dict[str, style.Look]
    problems: list[str] = field(default_factory=list)


def gather(study: Study, directory: Path) -> Contents:
    """The tables of a report.

    Raises:
        BenchError: the study has no run to report on.
    """
    if study.runs.empty:
        raise BenchError(_nothing_to_report(study))
    best = selection.select(study.runs, by=PAIR)
    runs = study.runs.groupby(list(PAIR))["status"].agg(
        runs="size",
        all_diverged=lambda status: (status == "diverged").sum(),
        all_failed=lambda status: (status == "failed").sum(),
    )
    looks = style.looks(study.runs["optimizer"].unique())
    order = {name: position for position, name in enumerate(looks)}
    best = best.merge(runs.reset_index(), on=list(PAIR)).sort_values(
        list(PAIR), key=lambda column: column.map(order) if column.name == "optimizer" else column
    )
    return Contents(
        study=study,
        directory=directory,
        best=best.reset_index(drop=True),
        trials=_trials(study),
        looks=looks,
        problems=list(study.problems),
    )


def write(directory: Path) -> Contents:
    """Writes a study's report into ``directory/report``.

    Raises:
        BenchError: there is nothing to report on, or the report cannot be written.
    """
    contents = gather(studies.read(directory), directory / studies.REPORT_DIRECTORY)
    try:
        contents.directory.mkdir(exist_ok=True)
        contents.best.to_csv(contents.directory / "best.csv", index=False)
        contents.trials.to_csv(contents.directory / "trials.csv", index=False)
        contents.study.runs.to_csv(contents.directory / "runs.csv", index=False)
        with mpl.rc_context(style.RC):
            for drawing in draw(contents):
                path = contents.directory / drawing.name
                style.save(drawing.figure, path, title=drawing.title)
    except OSError as error:
        raise BenchError(
            f"{contents.directory}: the report cannot be written ({error.strerror})"
        ) from error
    return contents


def draw(contents: Contents) -> Iterator[Drawing]:
    for workload in contents.best["workload"].unique():
        yield from _convergence(contents, workload)
        yield from _sensitivity(contents, workload)


def _convergence(contents: Contents, workload: str) -> Iterator[Drawing]:
    best = contents.best[(contents.best["workload"] == workload) & contents.best["trial"].notna()]
    curves = {}
    for optimizer, trial in zip(best["optimizer"], best["trial"], strict=True):
        runs = contents.study.runs
        chosen = runs[
            (runs["workload"] == workload)
            & (runs["optimizer"] == optimizer)
            & (runs["trial"] == trial)
            & (runs["status"] == "completed")
        ]
        curves[optimizer], problems = studies.read_curves(contents.study, chosen)
        contents.problems += problems
    for y in ("val/accuracy", "val/loss", "train/loss"):
        for x in ("epoch", "step", "seconds"):
            figure = figures.convergence(curves, x=x, y=y, looks=contents.looks)
            if figure is not None:
                yield Drawing(
                    name=f"convergence_{workload}_{y.replace('/', '_')}_by_{x}",
                    title=f"{workload}: {figures.AXIS_LABELS[y]} against {figures.AXIS_LABELS[x]}",
                    caption="Mean over seeds at the selected setting; the band spans all seeds.",
                    figure=figure,
                )


def _sensitivity(contents: Contents, workload: str) -> Iterator[Drawing]:
    runs = contents.study.runs
    runs = runs[runs["workload"] == workload]
    if "lr" not in contents.study.settings or "val/accuracy" not in runs:
        return
    best = contents.best[contents.best["workload"] == workload].set_index("optimizer")
    yield Drawing(
        name=f"lr_sensitivity_{workload}",
        title=f"{workload}: validation accuracy against learning rate",
        caption="",
        figure=figures.lr_sensitivity(
            by_lr(runs), metric="val/accuracy", looks=contents.looks, selected=dict(best["lr"])
        ),
    )


def by_lr(runs: pd.DataFrame, metric: str = "val/accuracy") -> pd.DataFrame:
    """One row an optimizer and learning rate: the best trial there, over its completed runs.

    Columns ``optimizer, lr, mean, min, max`` (of the metric, missing where no run completed) and
    ``diverged, runs`` (counts over all trials at that learning rate).
    """
    scored = runs.assign(
        score=selection.score(runs),
        value=runs[metric].where(runs["status"] == "completed"),
        diverged=runs["status"] == "diverged",
    )
    trials = scored.groupby(["optimizer", "lr", "trial"], as_index=False).agg(
        score=("score", "mean"),
        mean=("value", "mean"),
        min=("value", "min"),
        max=("value", "max"),
        diverged_here=("diverged", "sum"),
    )
    trials = trials.sort_values("score", ascending=False, kind="stable", na_position="last")
    best = trials.drop_duplicates(["optimizer", "lr"])
    counts = scored.groupby(["optimizer", "lr"], as_index=False).agg(
        diverged=("diverged", "sum"), runs=("diverged", "size")
    )
    return best.merge(counts, on=["optimizer", "lr"]).sort_values(["optimizer", "lr"])


def _trials(study: Study) -> pd.DataFrame:
    """``selection.trials`` with every setting, numbers or text, and the number of failed runs."""
    trials = selection.trials(study.runs, by=PAIR)
    extra = [name for name in ("lr", *study.settings) if name not in trials and name in study.runs]
    rest = (
        study.runs.assign(failed=study.runs["status"] == "failed")
        .groupby([*PAIR, "trial"])
        .agg(**{name: (name, "first") for name in dict.fromkeys(extra)}, failed=("failed", "sum"))
    )
    return trials.merge(rest.reset_index(), on=[*PAIR, "trial"])


def _nothing_to_report(study: Study) -> str:
    if study.problems:
        return f"{study.directory}: none of its records can be used"
    if study.unfinished:
        return f"{study.directory}: none of its {len(study.unfinished)} runs has finished yet"
    return f"{study.directory}: holds no record of a run; give a study's directory"
