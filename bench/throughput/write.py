"""What was measured, as a page of Markdown, two figures, and JSON with every number."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench.errors import BenchError
from bench.report.style import INK, LOOKS, MUTED, RC, figure, save
from bench.throughput.contenders import LOOP, OURS
from bench.throughput.measure import Ratio, Row

COUNTED = """\
Everything here is a ratio of what took turns on one machine: median, and in brackets the range.

- An **epoch** is all its optimizer steps, with what happens between them (batches, logging,
  progress bar, checkpoints), and one pass over the validation split. A step's time is the mean over
  a run without its first 50 steps; the number of steps is in the JSON.
- A **run** is everything from building the model to the last file, with the test at the end; the
  data are in memory before.
- **Start-up** is what comes before the first run: Python, imports, data.
- **Ours** is the run that `python -m bench` makes: Lightning, Adam, all records and checkpoints.
  The **bare loop** is plain PyTorch: the same model, tensors in memory, `X[indices]`, fused Adam,
  default memory format and allocator; it logs as often, and validates and tests the same way. The
  **conventional project** is Lightning with torchvision's data set and transforms, a DataLoader
  (the better of several numbers of workers), `self.log` in every step, a progress bar, TensorBoard.
- The **compiled loop** is the bare loop with `torch.compile` of model and loss. **JAX** is the same
  training written for it: scaled splits on the device, one jitted `lax.scan` over the steps of an
  epoch (a jitted step where the model convolves, which in a loop is slow on a CPU), donated state,
  NHWC. Compilation, without caches of earlier processes, is counted where it says so.
- **JAX's sweep** is a program of its own, without PyTorch: `jax.vmap` over as many of the runs as a
  short probe finds best (1, 8, 16 or 64); those of one seed share their batches. What would take
  more than five minutes is extrapolated from one stack of each learning rate.
- A **sweep** is made from the shell, 8 learning rates times so many seeds. Rates are optimizer
  steps a second over all runs. The loop makes the same runs one after another in one process; its
  rate is extrapolated from four runs beside each sweep, the conventional project's from one.
"""


RESULTS = "throughput.json"


def write(results: Mapping[str, Any], directory: Path) -> None:
    """Writes ``README.md``, ``throughput.json`` and the figures into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, default=asdict)
    (directory / RESULTS).write_text(text + "\n", encoding="utf-8")
    (directory / "README.md").write_text("\n".join(page(results)), encoding="utf-8")
    with mpl.rc_context(RC):
        if results["runs"]:
            title = "Time of an epoch, over the bare loop's"
            save(epochs(results["runs"]), directory / "runs.svg", title=title)
        if results["sweeps"]:
            title = "Throughput of a sweep, over the bare loop's"
            save(launchers(results["sweeps"]), directory / "sweeps.svg", title=title)


def read(directory: Path) -> dict[str, Any]:
    """What `write` has written.

    Raises:
        BenchError: there is nothing.
    """
    path = directory / RESULTS
    if not path.exists():
        raise BenchError(f"{path}: not found, so there is nothing to append to")

    def ratios(found: dict[str, Any]) -> Any:
        return Ratio(**found) if found.keys() == {"median", "low", "high"} else found

    return json.loads(path.read_text("utf-8"), object_hook=ratios)


def page(results: Mapping[str, Any]) -> Iterable[str]:
    yield "# Throughput\n"
    yield ", ".join(f"{key} {value}" for key, value in results["machine"].items()) + ".\n"
    yield COUNTED
    if results["runs"]:
        yield "## One run\n"
        yield "Time, ours over theirs: below 1 is faster.\n"
        yield from table(RUN_HEAD, map(run_cells, results["runs"]))
        yield "![Time of an epoch](runs.svg)\n"
        if rows := list(chain.from_iterable(map(peer_cells, results["runs"]))):
            yield "The same over loops that are compiled first:\n"
            yield from table(PEER_HEAD, rows)
    if results["sweeps"]:
        yield "## A sweep\n"
        yield "Throughput, ours over theirs: above 1 is faster.\n"
        cells = chain.from_iterable(map(sweep_cells, results["sweeps"]))
        yield from table(SWEEP_HEAD, cells)
        yield "![Throughput of a sweep](sweeps.svg)\n"
        if rows := list(chain.from_iterable(map(jax_cells, results["sweeps"]))):
            yield "Over JAX's, everything from the shell on both sides, compilation included:\n"
            yield from table(JAX_HEAD, rows)
    if results["stacks"]:
        yield "## A stack of K runs\n"
        cells = chain.from_iterable(map(stack_cells, results["stacks"]))
        yield from table(STACK_HEAD, cells)
    if results["costs"]:
        yield "## Beside training\n"
        commands = results["costs"][0]["commands"].items()
        yield from table(("command", "seconds"), ((f"`{n}`", ratio(at)) for n, at in commands))
        yield "One more job of one step in a sweep, in ms; what remains is Hydra's part, too:\n"
        yield from table(JOB_HEAD, map(job_cells, results["costs"]))
        rows = [
            (row["workload"], ratio(row["saved"])) for row in results["costs"] if "saved" in row
        ]
        if rows:
            yield "A run that is saved as it goes on, over one that is not:\n"
            yield from table(("workload", "seconds"), rows)
        rows = [
            (row["workload"], ratio(row["first_step"]), ratio(row["share"]))
            for row in results["costs"]
            if "share" in row
        ]
        if rows:
            yield "From the shell: seconds from the start of `python -m bench` to its first step;"
            yield "of all its workers' time, what a sweep of 64 by `auto` spends in training:\n"
            yield from table(("workload", "first step, s", "share of training"), rows)
    if results.get("busy"):
        yield "## Beside a process that never rests\n"
        yield "Time beside it, over the time without: of a step, and of a sweep by `auto`.\n"
        names = list(dict.fromkeys(chain.from_iterable(r["runs"] for r in results["busy"])))
        beside = (
            (
                row["workload"],
                *(ratio(row["runs"][name]) if name in row["runs"] else "" for name in names),
                ratio(row["sweep"]),
            )
            for row in results["busy"]
        )
        yield from table(("workload", *(f"{name}, a step" for name in names), "sweep"), beside)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


RUN_HEAD = (
    *("workload", "epoch, over the loop", "epoch, over the conventional", "run, over the loop"),
    *("ours, µs a step", "loop, µs a step", "conventional, µs a step"),
)
SWEEP_HEAD = (
    *("workload", "runs", "steps each", "launcher", "steps a second", "over the loop"),
    *("both with start-up", "over the conventional", "start-up, s", "peak memory"),
)
PEER_HEAD = (
    *("workload", "loop", "epoch, ours over it", "run, over it with compilation"),
    *("it, µs a step", "its compilation, s"),
)
JAX_HEAD = (
    *("workload", "launcher", "steps a second, over JAX", "JAX, steps a second"),
    *("runs in a stack", "its compilation, s", "its peak memory"),
)
STACK_HEAD = ("workload", "K", "µs a step and run", "over K = 1", "peak memory")
JOB_HEAD = ("workload", "job", "training and evaluation", "overhead")


def run_cells(row: Row) -> Sequence[str]:
    steps = [
        micro(row["contenders"][name]["step_seconds"]) for name in (OURS, LOOP, row["conventional"])
    ]
    keys = ("epoch_over_loop", "epoch_over_conventional", "run_over_loop")
    return (row["workload"], *(ratio(row[key]) for key in keys), *steps)


def sweep_cells(row: Row) -> Iterable[Sequence[str]]:
    for launcher, at in row["launchers"].items():
        yield (
            row["workload"],
            str(row["runs"]),
            str(row["steps"]),
            launcher,
            f"{at['rate']:,.0f}",
            ratio(at["over_loop"]),
            ratio(at["over_loop_with_start_up"]),
            ratio(at["over_conventional"]),
            f"{at['start_up_seconds']:.1f}",
            memory(at["peak_bytes"]),
        )


def peer_cells(row: Row) -> Iterable[Sequence[str]]:
    for name, over in row.get("peers", {}).items():
        at = row["contenders"][name]
        yield (
            *(row["workload"], name, ratio(over["epoch"]), ratio(over["run_with_compilation"])),
            *(micro(at["step_seconds"]), f"{at['compile_seconds']:.1f}"),
        )


def jax_cells(row: Row) -> Iterable[Sequence[str]]:
    if (jax := row.get("jax")) is None:
        return
    for launcher, at in row["launchers"].items():
        yield (
            *(row["workload"], launcher, ratio(at["over_jax_with_start_up"])),
            *(f"{jax['rate']:,.0f}", str(jax["together"]), f"{jax['compile_seconds']:.1f}"),
            memory(jax["peak_bytes"]),
        )


def stack_cells(row: Row) -> Iterable[Sequence[str]]:
    for at in row["counts"]:
        step, peak = micro(at["step_seconds"]), memory(at["peak_bytes"])
        yield row["workload"], str(at["k"]), step, ratio(at["over_one"]), peak


def job_cells(row: Row) -> Sequence[str]:
    return row["workload"], *(f"{1000 * seconds:.0f}" for seconds in row["job"].values())


def ratio(value: Ratio) -> str:
    return f"{value.median:.3g} ({value.low:.3g}–{value.high:.3g})"  # noqa: RUF001 - a range


def micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


def memory(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def epochs(rows: Sequence[Row]) -> mpl.figure.Figure:
    """Ours and the conventional project's epoch, with the bare loop's at 1."""
    series = {
        "ours": [row["epoch_over_loop"] for row in rows],
        "conventional": [
            Ratio(*[row["epoch_over_loop"].median / row["epoch_over_conventional"].median] * 3)
            for row in rows
        ],
    }
    return dots(series, [row["workload"] for row in rows], "time of an epoch, bare loop = 1")


def launchers(rows: Sequence[Row]) -> mpl.figure.Figure:
    """Each launcher's throughput, with the bare loop's at 1."""
    names = dict.fromkeys(chain.from_iterable(row["launchers"] for row in rows))
    series = {
        name: [
            row["launchers"][name]["over_loop"] if name in row["launchers"] else None
            for row in rows
        ]
        for name in names
    }
    return dots(series, [row["workload"] for row in rows], "steps a second, bare loop = 1")


def dots(
    series: Mapping[str, Sequence[Ratio | None]], labels: Sequence[str], title: str
) -> mpl.figure.Figure:
    """A row for each label; in it a dot and its range for each series that has one; a log axis."""
    drawing = figure()
    axes = drawing.add_subplot()
    axes.axvline(1, color=MUTED, linewidth=0.9)
    for place, ((name, ratios), look) in enumerate(
        zip(series.items(), LOOKS.values(), strict=False)
    ):
        there = [(at, r) for at, r in enumerate(ratios) if r is not None]
        heights = [at + 0.15 * (place - (len(series) - 1) / 2) for at, _ in there]
        lows, highs = [r.low for _, r in there], [r.high for _, r in there]
        axes.hlines(heights, lows, highs, color=look.colour, alpha=0.5)
        medians = [r.median for _, r in there]
        axes.plot(medians, heights, look.marker, color=look.colour, label=name)
    axes.set_xscale("log")
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params("y", length=0, labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(title)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else "")
    drawing.legend(loc="outside upper center", ncols=len(series), frameon=False)
    return drawing
