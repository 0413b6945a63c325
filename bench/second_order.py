"""`python -m bench.second_order`: what a step of Newton's method costs beside one of Adam.

Time and memory are measured up to what fits, a power of the number of parameters is fitted, and
what it would be at a million is extrapolated. No torch at the top: help comes at once.
"""

from __future__ import annotations

import csv
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.landscape.costs import Cost, Law

OUTPUT = Path("docs", "results", "second_order")
MILLION = 1_000_000
SIZES = {
    "newton": (1200, 1600, 2100, 2800, 3700, 5000),
    "adam": (100_000, 200_000, 500_000, MILLION, 2_000_000, 5_000_000),
}
MEASURES = {"seconds": "time of a step", "memory": "memory"}


def laws(costs: Iterable[Cost]) -> dict[tuple[str, str], Law]:
    """By optimizer and measure."""
    from bench.landscape.costs import Law

    rows = list(costs)
    found = {}
    for optimizer in dict.fromkeys(row.optimizer for row in rows):
        own = [row for row in rows if row.optimizer == optimizer]
        for measure in MEASURES:
            values = [getattr(row, measure) for row in own]
            found[optimizer, measure] = Law.of([row.parameters for row in own], values)
    return found


def sentences(costs: Sequence[Cost], fitted: dict[tuple[str, str], Law]) -> list[str]:
    """What was measured, and what it would be at a million parameters."""
    said = []
    at_million = {row.optimizer: row for row in costs if row.parameters == MILLION}
    for optimizer in dict.fromkeys(row.optimizer for row in costs):
        time, memory = (fitted[optimizer, measure] for measure in MEASURES)
        if (row := at_million.get(optimizer)) is not None:
            said.append(
                f"{optimizer}: at {MILLION:,} parameters a step takes {duration(row.seconds)} and "
                f"{size(row.memory)} (measured)."
            )
            continue
        largest = max((row for row in costs if row.optimizer == optimizer), key=_parameters)
        said.append(
            f"{optimizer}: at {largest.parameters:,} parameters a step takes "
            f"{duration(largest.seconds)} and {size(largest.memory)} (measured). Time grows with "
            f"the power {power(time)} of the number of parameters, memory with {power(memory)}. "
            f"Extrapolated to {MILLION:,}, {MILLION // largest.parameters} times as many as were "
            f"measured, a step would take {duration(time.at(MILLION))} and "
            f"{size(memory.at(MILLION))}."
        )
    return said


def _parameters(row: Cost) -> int:
    return row.parameters


def power(law: Law) -> str:
    return f"{law.exponent:.2f} ± {law.error:.2f}"


def duration(seconds: float) -> str:
    units = {"years": 365.25 * 86400, "days": 86400, "hours": 3600, "minutes": 60}
    for unit, length in units.items():
        if seconds >= 2 * length:
            return f"{seconds / length:,.3g} {unit}"
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{1e3 * seconds:.3g} ms"


def size(count: float) -> str:
    for unit, length in (("TB", 1e12), ("GB", 1e9)):
        if count >= length:
            return f"{count / length:,.3g} {unit}"
    return f"{count / 1e6:,.3g} MB"


def draw(costs: Sequence[Cost], fitted: dict[tuple[str, str], Law]) -> Figure:
    """Points that were measured, lines that were fitted, dashed where they are extrapolated."""
    import numpy as np

    from bench.report.style import HEIGHT, MUTED, WIDTH, looks
    from bench.report.style import figure as empty

    drawing = empty(extra_height=HEIGHT)
    drawing.set_size_inches(WIDTH, 1.9 * HEIGHT)
    panels = drawing.subplots(2, 1, sharex=True)
    look_of = looks(dict.fromkeys(row.optimizer for row in costs))
    for panel, (measure, name) in zip(panels, MEASURES.items(), strict=True):
        for optimizer, look in look_of.items():
            own = [row for row in costs if row.optimizer == optimizer]
            law, unit = fitted[optimizer, measure], 1e-6 if measure == "memory" else 1
            at, values = [row.parameters for row in own], [getattr(row, measure) for row in own]
            panel.plot(
                at,
                [unit * value for value in values],
                look.marker,
                color=look.colour,
                label=f"{optimizer}: {power(law)}",
            )
            for low, high, style in (
                (law.first, law.last, "-"),
                (law.last, MILLION, ":"),
            ):
                if low < high:
                    x = np.geomspace(low, high, 20)
                    y = [unit * law.at(each) for each in x]
                    panel.plot(x, y, style, color=look.colour, linewidth=1.3)
        panel.set(xscale="log", yscale="log")
        panel.set_ylabel(f"{name} / {'MB' if measure == 'memory' else 's'}")
        panel.axvline(MILLION, color=MUTED, linewidth=0.7)
        panel.legend(title="power of the parameters", fontsize=8, title_fontsize=8, frameon=False)
    panels[-1].set_xlabel("parameters (dotted: extrapolated)")
    return drawing


PAGE = """# What second order costs

```sh
python -m bench.second_order
```

A step on the Rosenbrock function of so many variables, whose value is as cheap as can be: what is
seen is the method, and a network's derivatives come on top. One thread, float32, the matrices in
float64. Time is that of the processor, the least of {steps} steps; memory is what a process needs
more than for {warm} parameters. Powers are fitted by least squares in logarithms, ± their standard
error.

![Time and memory of a step](second_order.svg)

{sentences}

{table}

By arithmetic alone: a matrix of a million rows has 10¹² numbers, 8 TB in float64, and solving with
it takes ⅔ · 10¹⁸ operations. Both grow with the whole powers 2 and 3; a fit to so few parameters,
where smaller terms count, too, gives less, and so does what is extrapolated from it.
"""


def write(costs: Sequence[Cost], directory: Path) -> list[str]:
    """The page, its figure and a table of every number; returns the sentences."""
    import matplotlib as mpl

    from bench.landscape.costs import STEPS, WARM
    from bench.report.style import RC, save

    fitted = laws(costs)
    said = sentences(costs, fitted)
    directory.mkdir(parents=True, exist_ok=True)
    rows = [asdict(row) for row in costs]
    with (directory / "second_order.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with mpl.rc_context(RC):
        save(draw(costs, fitted), directory / "second_order.svg", title="Cost of a step")
    lines = ["| | parameters | time of a step | memory |", "|---|---:|---:|---:|"]
    lines += [
        f"| {row.optimizer} | {row.parameters:,} | {duration(row.seconds)} | {size(row.memory)} |"
        for row in costs
    ]
    bullets = "\n".join(f"- {sentence}" for sentence in said)
    page = PAGE.format(steps=STEPS, warm=WARM, sentences=bullets, table="\n".join(lines))
    (directory / "README.md").write_text(page, encoding="utf-8")
    return said


def main(arguments: list[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m bench.second_order",
        description="Measures time and memory of a step of Newton and of Adam against "
        "the number of parameters, and extrapolates to a million. About a minute.",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default: {OUTPUT}")
    options = parser.parse_args(arguments)

    from rich.console import Console
    from rich.progress import track

    from bench import letters
    from bench.landscape.costs import cost

    letters.never_fail()
    cases = [(optimizer, count) for optimizer, counts in SIZES.items() for count in counts]
    progress = Console(stderr=True)
    shown = track(cases, "measuring", console=progress, disable=not progress.is_terminal)
    try:
        costs = [cost(*case) for case in shown]
        for sentence in write(costs, options.output):
            print(sentence)
    except (BenchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"page     {options.output / 'README.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
