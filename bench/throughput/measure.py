"""Takes the measurements. Whatever is compared takes turns, so that a machine's moods hit all."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import mean, median
from typing import Any

from hydra import compose, initialize_config_dir

from bench import records
from bench.command_line import CONF
from bench.errors import BenchError
from bench.records import Record
from bench.settings import schema
from bench.settings.workloads import workload_of
from bench.throughput.contenders import CONVENTIONAL, KINDS, LOOP, OURS, Contender

LAUNCHERS = ("basic", "parallel", "stacked", "auto")
RATES = [1e-4 * 2**i for i in range(8)]
LONG = 8  # times as long as a run that is compared with others
LOOP_RUNS = 4  # of the bare loop, beside each sweep
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of a workload is trained, in optimizer steps of 128 samples.

    Attributes:
        run: steps of one run, ours and the bare loop's.
        conventional: steps of one run of the conventional project; at most an epoch.
        sweep: steps of each run of a sweep.
        seeds: of a sweep, each with the eight learning rates.
        stacks: numbers of runs in a stack.
    """

    run: int
    conventional: int
    sweep: int
    seeds: int = 8
    stacks: tuple[int, ...] = ()


# Two epochs, and sweeps of 64 epochs, where that takes seconds; parts of an epoch for the CNNs.
SIZES = {
    "mnist_mlp": Size(run=860, conventional=250, sweep=430, stacks=(1, 4, 16, 64)),
    "mnist_logistic": Size(run=860, conventional=250, sweep=430),
    "cifar10_linear": Size(run=704, conventional=250, sweep=352, stacks=(1, 4, 16, 64)),
    "cifar10_cnn": Size(run=150, conventional=100, sweep=176),
    "fashion_mnist_cnn": Size(run=150, conventional=100, sweep=215),
}


@dataclass(frozen=True)
class Ratio:
    """Median and range of ratios of what was measured side by side."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float]) -> "Ratio":
        values = [a / b for a, b in zip(above, below, strict=True)]
        return cls(median(values), min(values), max(values))


def runs(workload: str, *, device: str, rounds: int) -> Row:
    """One run, by every contender in turns."""
    size, settings = SIZES[workload], configuration(workload, device)
    steps = {name: size.conventional if name in CONVENTIONAL else size.run for name in KINDS}
    with ExitStack() as stack:
        contenders = [stack.enter_context(Contender(name, settings, device)) for name in KINDS]
        timings = [
            {each.name: each.run(steps=steps[each.name], seed=turn) for each in order}
            for turn, order in enumerate(there_and_back(contenders, rounds))
        ]
    epoch = schema.steps_per_epoch(settings)
    epochs = {name: [turn[name].epoch(epoch) for turn in timings] for name in KINDS}
    whole = {name: [turn[name].run for turn in timings] for name in KINDS}
    conventional = min(CONVENTIONAL, key=lambda name: median(epochs[name]))
    return {
        "workload": workload,
        "rounds": rounds,
        "steps_per_epoch": epoch,
        "epoch_over_loop": Ratio.of(epochs[OURS], epochs[LOOP]),
        "epoch_over_conventional": Ratio.of(epochs[OURS], epochs[conventional]),
        "run_over_loop": Ratio.of(whole[OURS], whole[LOOP]),
        "conventional": conventional,
        "contenders": {
            each.name: {
                "steps": steps[each.name],
                "threads": timings[0][each.name].threads,
                "start_up_seconds": each.start_up,
                "step_seconds": median(turn[each.name].step for turn in timings),
                "validation_seconds": median(turn[each.name].validation for turn in timings),
                "epoch_seconds": median(epochs[each.name]),
                "run_seconds": median(whole[each.name]),
            }
            for each in contenders
        },
    }


def sweeps(workload: str, *, device: str, rounds: int, launchers: Sequence[str] = LAUNCHERS) -> Row:
    """A sweep by every launcher, with runs of the bare loop and the conventional project between;
    not by stacks that would take hours.

    Rates are optimizer steps a second, over all runs. Those "with start-up" count whole commands.
    """
    size, settings = SIZES[workload], configuration(workload, device)
    never = workload_of(settings).sharing_that_pays(device) == inf
    launchers = [name for name in launchers if not (name == "stacked" and never)]
    dataset = settings["workload"]["dataset"]
    grid = [f"workload={workload}", f"trainer.max_steps={size.sweep}", *grid_of(size.seeds)]
    results: dict[str, list[Row]] = {name: [] for name in launchers}
    conventional = []
    with ExitStack() as stack:
        loop, *projects = (
            stack.enter_context(Contender(name, settings, device)) for name in (LOOP, *CONVENTIONAL)
        )
        for order in there_and_back(launchers, rounds):
            conventional.append(min(project.run(steps=size.sweep).run for project in projects))
            for launcher in order:
                solo = mean(loop.run(steps=size.sweep, seed=n).run for n in range(LOOP_RUNS))
                start_up = sweep(launcher, device, *nearly_nothing(dataset)).seconds
                results[launcher].append(
                    rates(sweep(launcher, device, *grid), start_up, solo, loop.start_up)
                )
    slow = [size.sweep / seconds for seconds in conventional]

    def over(launcher: str, above: str, below: Sequence[float]) -> Ratio:
        return Ratio.of([turn[above] for turn in results[launcher]], below)

    return {
        "workload": workload,
        "rounds": rounds,
        "runs": len(RATES) * size.seeds,
        "steps": size.sweep,
        "conventional_rate": median(slow),
        "launchers": {
            launcher: {
                **{key: median(turn[key] for turn in turns) for key in turns[0]},
                "over_loop": over(launcher, "rate", [turn["loop"] for turn in turns]),
                "over_loop_with_start_up": over(
                    launcher, "rate_with_start_up", [turn["loop_with_start_up"] for turn in turns]
                ),
                "over_conventional": over(launcher, "rate", slow),
            }
            for launcher, turns in results.items()
        },
    }


def rates(made: "Command", start_up: float, loop_run: float, loop_start_up: float) -> Row:
    """Steps a second of a sweep, and of the loop making the same runs one after another."""
    steps = sum(record.steps for record in made.records)
    loop_seconds = loop_run * len(made.records)
    return {
        "seconds": made.seconds,
        "start_up_seconds": start_up,
        "peak_bytes": made.peak_bytes,
        "rate": steps / (made.seconds - start_up),
        "rate_with_start_up": steps / made.seconds,
        "loop": steps / loop_seconds,
        "loop_with_start_up": steps / (loop_seconds + loop_start_up),
    }


def stacks(workload: str, *, device: str, rounds: int) -> Row | None:
    """Time and peak memory of one stack against the number of its runs, which share their seed."""
    counts = SIZES[workload].stacks
    if not counts:
        return None
    steps: dict[int, list[float]] = {k: [] for k in counts}
    peaks: dict[int, list[int]] = {k: [] for k in counts}
    for order in there_and_back(counts, rounds):
        for k in order:
            rates = f"optimizer.lr={','.join(f'{1e-4 * 1.05**i:g}' for i in range(k))}"
            size = [f"workload={workload}", f"trainer.max_steps={SIZES[workload].sweep}"]
            made = sweep("stacked", device, *size, rates, "hydra.launcher.n_jobs=1")
            (seconds,) = {record.timing["train_seconds"] for record in made.records}  # all at once
            steps[k].append((seconds or 0.0) / SIZES[workload].sweep / k)
            peaks[k].append(made.peak_bytes)
    return {
        "workload": workload,
        "rounds": rounds,
        "counts": [
            {
                "k": k,
                "step_seconds": median(steps[k]),
                "over_one": Ratio.of(steps[k], steps[counts[0]]),
                "peak_bytes": max(peaks[k]),
            }
            for k in counts
        ],
    }


def costs(workload: str, *, device: str, rounds: int) -> Row:
    """What is paid before, and beside, training: imports, help, and what each job adds."""
    commands = {
        "python -c ''": ["-c", ""],
        "import bench": ["-c", "import bench"],
        "import bench.training": ["-c", "import bench.training"],
        "python -m bench --help": ["-m", "bench", "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    overheads = []
    for order in there_and_back(list(commands), rounds):
        for name in order:
            seconds[name].append(python(*commands[name])[0])
        overheads.append(job_overhead(workload, device))
    return {
        "workload": workload,
        "rounds": rounds,
        "commands": {name: Ratio.of(values, [1.0] * rounds) for name, values in seconds.items()},
        "job": {key: median(turn[key] for turn in overheads) for key in overheads[0]},
        "saved": saved(workload, device, rounds),
    }


def saved(workload: str, device: str, rounds: int) -> Ratio:
    """How much longer a run of some ten seconds takes for being saved as it goes on, as usual."""
    steps = f"trainer.max_steps={LONG * SIZES[workload].run}"
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for order in there_and_back([True, False], rounds):
        for keeps in order:
            kept = f"trainer.enable_checkpointing={str(keeps).lower()}"
            made = sweep("parallel", device, f"workload={workload}", steps, kept)
            seconds[keeps].append(made.records[0].timing["total_seconds"] or 0.0)
    return Ratio.of(seconds[True], seconds[False])


def job_overhead(workload: str, device: str, *, few: int = 2, many: int = 18) -> dict[str, float]:
    """Seconds that one more job of one step adds to a sweep in one process, and their parts."""
    made = []
    for count in (few, many):
        seeds = f"seed={','.join(map(str, range(count)))}"
        options = [f"workload={workload}", "trainer.max_steps=1", seeds]
        made.append(sweep("parallel", device, *options, "hydra.launcher.n_jobs=1"))
    job = (made[1].seconds - made[0].seconds) / (many - few)
    timings = [record.timing for record in made[1].records]
    training = median((t["train_seconds"] or 0) + (t["eval_seconds"] or 0) for t in timings)
    return {
        "job_seconds": job,
        "training_and_evaluation_seconds": training,
        "overhead_seconds": job - training,
    }


# What the measurements are made with.


def configuration(workload: str, device: str) -> dict[str, Any]:
    overrides = [f"workload={workload}", f"trainer.accelerator={device}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return schema.validate(compose("config", overrides))


def there_and_back(items: Sequence[Any], rounds: int) -> Iterator[Sequence[Any]]:
    """The items in order, then in reverse, and so on: a steady drift favours none of them."""
    for turn in range(rounds):
        yield items if turn % 2 == 0 else items[::-1]


def grid_of(seeds: int) -> list[str]:
    return [
        f"optimizer.lr={','.join(f'{rate:g}' for rate in RATES)}",
        f"seed={','.join(map(str, range(seeds)))}",
    ]


def nearly_nothing(dataset: str) -> list[str]:
    """A sweep that only starts up: two runs of one step of a small model on the same data."""
    data = ["workload=mnist_logistic", f"workload.dataset={dataset}"]
    return [*data, "trainer.max_steps=1", "seed=0,1"]


@dataclass(frozen=True)
class Command:
    """A sweep from the shell: how long it took, the memory of its largest process, its records."""

    seconds: float
    peak_bytes: int
    records: list[Record]


def sweep(launcher: str, device: str, *overrides: str) -> Command:
    """Makes a sweep in a directory of its own.

    Raises:
        BenchError: it failed, or not all of its runs took all their steps.
    """
    with tempfile.TemporaryDirectory() as directory:
        seconds, peak_bytes = python(
            *("-m", "bench", "-m", f"hydra/launcher={launcher}", f"runs_dir={directory}"),
            *(f"trainer.accelerator={device}", *overrides),
        )
        made = [records.read(path) for path in Path(directory).glob(f"**/{records.FILE_NAME}")]
    if not made or any(record.status != "completed" for record in made):
        raise BenchError(f"{launcher} {' '.join(overrides)}: not every run was completed")
    return Command(seconds, peak_bytes, made)


def python(*arguments: str) -> tuple[float, int]:
    """Seconds a Python process takes, and the peak memory of the largest process it was or had.

    Raises:
        BenchError: it failed.
    """
    adopt_orphans()
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            peaks = [usage.ru_maxrss, *(usage.ru_maxrss for usage in left_behind(process.pid))]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise BenchError(f"python {' '.join(arguments)} failed:\n{output.read()[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, max(peaks) * unit


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave behind, on Linux: workers belong to
    a fork server, which ends after the command that has started it."""
    if sys.platform == "linux":
        PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def left_behind(group: int) -> Iterator["resource.struct_rusage"]:
    """What the orphans of a process group, and all that those had, have used; waits for them."""
    with suppress(ChildProcessError):
        while True:
            yield os.wait4(-group, 0)[2]
