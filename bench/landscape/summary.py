"""What was measured of several runs' curvature, as tables in the terminal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.intervals import FEWEST, mean_interval
from bench.landscape.curvature import Curvature
from bench.records import Record, finite
from bench.report import text
from bench.settings.identity import decisive

Measured = tuple[Record, Curvature]

QUANTITIES: dict[str, Callable[[Curvature], float]] = {
    "loss": lambda c: c.loss,
    "gradient norm": lambda c: c.gradient_norm,
    "largest eigenvalue": lambda c: c.top[0] if c.top else np.nan,
    "smallest eigenvalue": lambda c: c.bottom[0] if c.bottom else np.nan,
    "condition number": lambda c: c.condition,
    "trace": lambda c: c.trace,
    "noise scale (examples)": lambda c: c.noise_scale,
    "cosine, gradient": lambda c: c.gradient_alignment,
    "cosine, next step": lambda c: c.update_alignment,
    "edge": lambda c: c.edge,
    "its bound": lambda c: c.bound,
    "rank corr., own": lambda c: c.state_correlation,
    "rank corr., sampled": lambda c: c.sampled_correlation,
}
# What a value cannot leave, nor an interval.
BOUNDS = {name: (0.0, 1.0) for name in QUANTITIES if name.startswith("cosine")}
BOUNDS |= {name: (-1.0, 1.0) for name in QUANTITIES if name.startswith("rank")}
# Ratios whose lower part may be near 0: of few seeds no interval is known to cover.
RATIOS = ("condition number", "noise scale (examples)")
FIRST_COLUMN, COLUMN = 24, 26  # characters

LEGEND = (
    "Cosines are with the eigenvector of the largest eigenvalue. Edge: the largest eigenvalue, of "
    "the preconditioned Hessian where the method has a preconditioner; steps on a quadratic are "
    "unstable above its bound (2/lr for gradient descent), which is that of full batches. Rank "
    "correlations: of the root of squared gradients with the Hessian's diagonal, those that the "
    "optimizer has kept (AdaGrad's sum, Adam's and RMSProp's average), and of batches drawn here."
)


def grouped(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """By everything but the seed; each group by a name that says in what it differs from others of
    its workload and optimizer."""
    groups: dict[str, list[Measured]] = {}
    for record, curvature in measured:
        own = {key: value for key, value in settings(record).items() if key != "seed"}
        key = json.dumps(finite(own), sort_keys=True)
        groups.setdefault(key, []).append((record, curvature))
    firsts = [of_it[0][0] for of_it in groups.values()]
    named = [name_of(record, firsts) for record in firsts]
    twice = Counter(named)
    told = [name if twice[name] == 1 else f"{name}\n({n})" for n, name in enumerate(named, 1)]
    return dict(zip(told, groups.values(), strict=True))


def settings(record: Record) -> dict[str, Any]:
    return decisive(record.config)


def name_of(record: Record, among: Sequence[Record]) -> str:
    """Its workload, its optimizer, the learning rate, and what else differs between those of the
    same workload and optimizer; a line each."""
    alike = [r for r in among if (r.workload, r.optimizer) == (record.workload, record.optimizer)]
    own, others = settings(record), [settings(r) for r in alike]
    keys = sorted(k for k in own if k != "seed" and any(o.get(k) != own[k] for o in others))
    first = ["optimizer.lr"] if "optimizer.lr" in own else []
    said = [
        f"{key.rpartition('.')[2]} {text.number(own[key])}" for key in dict.fromkeys(first + keys)
    ]
    return "\n".join([record.workload, record.optimizer, *said])


def cell(name: str, values: Sequence[float], error: float | None = None) -> str:
    """One number with its standard error, if it has one; of several seeds their mean, from three on
    with Student's 95 % interval; of a ratio the least and the most."""
    # Without what is rounding: of a number just below 1 all digits would be shown.
    known = np.array([float(f"{value:.9g}") for value in values if not text.missing(value)])
    if not known.size:
        return text.NOTHING
    if len(values) == 1:
        return text.number(float(known[0])) + (f" ± {text.number(error)}" if error else "")
    of_some = f" of {known.size}" if known.size < len(values) else ""
    if name in RATIOS and known.size > 1:
        return f"from {text.interval(known.min(), known.max())}{of_some}"
    found = mean_interval(known)
    if known.size < FEWEST:
        return text.number(found.estimate) + of_some
    low, high = np.clip([found.low, found.high], *BOUNDS.get(name, (-np.inf, np.inf)))
    return f"{text.number(found.estimate)} ({text.interval(float(low), float(high))}){of_some}"


def show(measured: Sequence[Measured], console: Console) -> None:
    groups = list(grouped(measured).items())
    console.print(Text(_heading(measured)))
    at_once = max(1, (console.width - FIRST_COLUMN) // COLUMN)
    for start in range(0, len(groups), at_once):
        console.print(_table(groups[start : start + at_once]))
    console.print(Text(LEGEND, style="dim"))
    notes = Counter(note for _, curvature in measured for note in curvature.notes)
    for note, runs in notes.items():
        of = f" ({text.count(runs, 'run')})" if len(measured) > 1 else ""
        console.print(Text(f"note: {note}{of}", style="yellow"))


def _heading(measured: Sequence[Measured]) -> str:
    sets = {(c.examples, c.train_size, c.seed) for _, c in measured}
    said = [
        "the function itself"
        if size == 1
        else f"all {size:,} training examples"
        if examples == size
        else f"{examples:,} of {size:,} training examples (seed {seed})"
        for examples, size, seed in sorted(sets)
    ]
    seconds = sum(c.seconds for _, c in measured)
    products = sum(c.products for _, c in measured)
    return (
        f"Hessian of the training loss, {text.listed(said)}; {text.count(len(measured), 'run')}, "
        f"{products:,} products in {text.seconds(seconds)}; trace ± its standard error; of several "
        "seeds mean (95 % interval), of the noise scale the range"
    )


def _table(groups: Sequence[tuple[str, list[Measured]]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", min_width=FIRST_COLUMN - 2, no_wrap=True)
    for name, of_it in groups:
        seeds = f"\n{text.count(len(of_it), 'seed')}" if len(of_it) > 1 else ""
        table.add_column(Text(name + seeds), justify="right")
    for name, quantity in QUANTITIES.items():
        cells = []
        for _, of_it in groups:
            error = of_it[0][1].trace_error if name == "trace" and len(of_it) == 1 else None
            cells.append(cell(name, [quantity(curvature) for _, curvature in of_it], error))
        if any(said != text.NOTHING for said in cells):
            table.add_row(name, *map(Text, cells))
    return table
