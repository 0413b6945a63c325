"""Takes the measurements. Whatever is compared takes turns, so that a machine's moods hit all."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from statistics import mean, median
from typing import Any

from hydra import compose, initialize_config_dir

from bench.command_line import CONF
from bench.settings import schema
from bench.settings.workloads import workload_of
from bench.throughput import jax_sweep
from bench.throughput.commands import Command, sweep
from bench.throughput.contenders import (
    COMPILED,
    CONVENTIONAL,
    JAX,
    LOOP,
    OURS,
    Contender,
    has_jax,
    kinds,
)
from bench.throughput.jax_sweep import RATES

LAUNCHERS = ("basic", "parallel", "stacked", "auto")
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
    names = kinds(device)
    steps = {name: size.conventional if name in CONVENTIONAL else size.run for name in names}
    with ExitStack() as stack:
        contenders = [stack.enter_context(Contender(name, settings, device)) for name in names]
        timings = [
            {each.name: each.run(steps=steps[each.name], seed=turn) for each in order}
            for turn, order in enumerate(there_and_back(contenders, rounds))
        ]
    epoch = schema.steps_per_epoch(settings)
    epochs = {name: [turn[name].epoch(epoch) for turn in timings] for name in names}
    whole = {name: [turn[name].run + turn[name].compiled for turn in timings] for name in names}
    conventional = min(CONVENTIONAL, key=lambda name: median(epochs[name]))
    return {
        "workload": workload,
        "rounds": rounds,
        "steps_per_epoch": epoch,
        "epoch_over_loop": Ratio.of(epochs[OURS], epochs[LOOP]),
        "epoch_over_conventional": Ratio.of(epochs[OURS], epochs[conventional]),
        "run_over_loop": Ratio.of(whole[OURS], whole[LOOP]),
        "peers": {
            name: {
                "epoch": Ratio.of(epochs[OURS], epochs[name]),
                "run_with_compilation": Ratio.of(whole[OURS], whole[name]),
            }
            for name in (COMPILED, JAX)
            if name in names
        },
        "conventional": conventional,
        "contenders": {
            each.name: {
                "steps": steps[each.name],
                "threads": timings[0][each.name].threads,
                "start_up_seconds": each.start_up,
                "step_seconds": median(turn[each.name].step for turn in timings),
                "validation_seconds": median(turn[each.name].validation for turn in timings),
                "epoch_seconds": median(epochs[each.name]),
                "compile_seconds": timings[0][each.name].compiled,
                "run_seconds": median(turn[each.name].run for turn in timings),
            }
            for each in contenders
        },
    }


def sweeps(workload: str, *, device: str, rounds: int, launchers: Sequence[str] = LAUNCHERS) -> Row:
    """A sweep by every launcher, with runs of the bare loop and the conventional project between,
    and JAX's sweep, if it is installed; not by stacks that would take hours.

    Rates are optimizer steps a second, over all runs. Those "with start-up" count whole commands.
    """
    size, settings = SIZES[workload], configuration(workload, device)
    never = workload_of(settings).sharing_that_pays(device) == inf
    launchers = [name for name in launchers if not (name == "stacked" and never)]
    dataset = settings["workload"]["dataset"]
    grid = [f"workload={workload}", f"trainer.max_steps={size.sweep}", *grid_of(size.seeds)]
    results: dict[str, list[Row]] = {name: [] for name in launchers}
    conventional = []
    jax = jax_sweep.Peer(settings, device, size.sweep, size.seeds) if has_jax(device) else None
    theirs: list[Row] = []
    with ExitStack() as stack:
        loop, *projects = (
            stack.enter_context(Contender(name, settings, device)) for name in (LOOP, *CONVENTIONAL)
        )
        for order in there_and_back(launchers, rounds):
            conventional.append(min(project.run(steps=size.sweep).run for project in projects))
            if jax is not None:
                theirs.append(jax.sweep())
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
        "jax": jax and {**jax.chosen, **{key: median(t[key] for t in theirs) for key in theirs[0]}},
        "launchers": {
            launcher: {
                **{key: median(turn[key] for turn in turns) for key in turns[0]},
                "over_loop": over(launcher, "rate", [turn["loop"] for turn in turns]),
                "over_loop_with_start_up": over(
                    launcher, "rate_with_start_up", [turn["loop_with_start_up"] for turn in turns]
                ),
                "over_conventional": over(launcher, "rate", slow),
                "over_jax_with_start_up": jax
                and over(launcher, "rate_with_start_up", [turn["rate"] for turn in theirs]),
            }
            for launcher, turns in results.items()
        },
    }


def rates(made: Command, start_up: float, loop_run: float, loop_start_up: float) -> Row:
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
