"""The sharpness that ``trainer.curvature`` logged along training, beside its bound, as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from bench import records
from bench.errors import BenchError
from bench.landscape import stability
from bench.landscape.summary import name_of
from bench.records import Record
from bench.report import style, text
from bench.report.style import MUTED
from bench.study import CURVE_FILE

SHARPNESS = "curvature/sharpness"
MOST = 6  # settings that one figure holds
WIDER = 1.9  # inches of a panel


@dataclass(frozen=True)
class Drawn:
    path: Path
    lines: list[str]


@dataclass(frozen=True)
class Curve:
    """Of one run: its sharpness at some steps; the bound at its last one, NaN where none is known
    that goes by the Hessian alone."""

    record: Record
    steps: np.ndarray
    sharpness: np.ndarray
    bound: float


def curves(runs: Sequence[Path]) -> list[Curve]:
    """Of the runs that have logged it."""
    found = []
    for run in runs:
        record = records.read(run / records.FILE_NAME)
        if not (run / CURVE_FILE).is_file() or record.status == "failed":
            continue
        table = pd.read_csv(run / CURVE_FILE)
        if SHARPNESS not in table:
            continue
        rows = table[["step", SHARPNESS]].dropna()
        if rows.empty:
            continue
        known = stability.bound(record.config, record.steps)
        hessian = known.value is not None and known.slot is None
        bound = (known.value or 0.0) - known.weight_decay if hessian else np.nan
        found.append(Curve(record, rows["step"].to_numpy(), rows[SHARPNESS].to_numpy(), bound))
    return found


def draw(runs: Sequence[Path], directory: Path) -> Drawn:
    """Writes ``curvature.png``, ``.svg`` and ``.pdf``: a panel for each setting, a line for each
    seed, and the bound dashed.

    Raises:
        BenchError: nothing was logged, or for too many settings.
    """
    found = curves(runs)
    if not found:
        raise BenchError(
            f"{directory}: none of its runs has logged its curvature; make them with, for example, "
            "trainer.curvature=20"
        )
    panels: dict[str, list[Curve]] = {}
    firsts = [curve.record for curve in found]
    for curve in found:
        panels.setdefault(name_of(curve.record, firsts), []).append(curve)
    if len(panels) > MOST:
        raise BenchError(
            f"{directory}: {len(panels)} settings; at most {MOST} make a figure: give the "
            "directories of some runs, or a smaller study"
        )
    with mpl.rc_context(style.RC):
        drawing = panels_of(panels)
        path = directory / "curvature.png"
        style.save(drawing, path, title="Largest eigenvalue of the Hessian along training")
    return Drawn(path, [line for name, own in panels.items() for line in said(name, own)])


def panels_of(panels: Mapping[str, Sequence[Curve]]) -> style.Drawing:
    drawing = style.Drawing({"x": "step", "y": "sharpness"}, layout="constrained")
    drawing.set_size_inches(0.6 + WIDER * max(2, len(panels)), style.HEIGHT)
    axes = drawing.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    looks = style.looks(own[0].record.optimizer for own in panels.values())
    for ax, (name, own) in zip(axes, panels.items(), strict=True):
        for curve in own:
            look = looks[curve.record.optimizer]
            positive = np.where(curve.sharpness > 0, curve.sharpness, np.nan)
            ax.plot(curve.steps, positive, **look.line(), marker=".", linewidth=1.1)
        bound = own[0].bound
        if np.isfinite(bound):
            ax.axhline(bound, color=MUTED, linewidth=1.0, dashes=(4, 2))
            ax.annotate(
                f"bound {text.number(bound)}",
                (1, bound),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=MUTED,
            )
        ax.set_title(style.words(" ".join(name.split("\n")[1:])), fontsize=9)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(lambda value, _: text.number(float(value)))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(left=0)
        ax.set_xlabel("step")
    axes[0].set_ylabel("largest eigenvalue")
    return drawing


def said(name: str, curves: Sequence[Curve]) -> list[str]:
    """A line for each run: what was measured last, and its largest value, against the bound."""
    lines = []
    for curve in curves:
        last, most = curve.sharpness[-1], curve.sharpness.max()
        of = ""
        if np.isfinite(curve.bound):
            of = (
                f"; bound {text.number(curve.bound)}: last / bound "
                f"{last / curve.bound:.2f}, largest / bound {most / curve.bound:.2f}"
            )
        lines.append(
            f"{', '.join(name.splitlines())}, seed {curve.record.seed}: sharpness "
            f"{text.number(float(curve.sharpness[0]))} at step {curve.steps[0]:,}, "
            f"{text.number(float(last))} at step {curve.steps[-1]:,}{of}"
        )
    return lines
