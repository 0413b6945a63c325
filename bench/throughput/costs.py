"""What is paid before, and beside, training."""

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from bench.board import events
from bench.records import Record
from bench.sweeps.executors.local import cores
from bench.throughput.commands import python, sweep
from bench.throughput.measure import LONG, SIZES, Ratio, Row, grid_of, there_and_back


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
        "first_step": Ratio.of(
            [first_step(workload, device) for _ in range(rounds)], [1.0] * rounds
        ),
        "share": Ratio.of(
            [training_share(workload, device) for _ in range(rounds)], [1.0] * rounds
        ),
    }


def first_step(workload: str, device: str) -> float:
    """Seconds from the start of ``python -m bench`` until its first optimizer step is logged."""
    with tempfile.TemporaryDirectory() as directory:
        started = time.time()
        python(
            *("-m", "bench", f"workload={workload}", "trainer.max_steps=1"),
            *(f"trainer.accelerator={device}", f"runs_dir={directory}"),
        )
        (path,) = Path(directory).glob(f"**/{events.PATTERN}")
        return logged(path, "train/loss") - started


def logged(path: Path, tag: str) -> float:
    """When an event file first says something of a tag, in seconds since 1970."""
    loaded = LegacyEventFileLoader(str(path)).Load()
    return next(e.wall_time for e in loaded if any(v.tag == tag for v in e.summary.value))


def training_share(workload: str, device: str) -> float:
    """Of the seconds of the command, times its workers, what a sweep of 64 runs of the usual length
    spends in training."""
    grid = [f"workload={workload}", *grid_of(SIZES[workload].seeds)]
    made = sweep("auto", device, *grid, f"hydra.launcher.n_jobs={cores()}")
    return sum(training_seconds(made.records)) / (cores() * made.seconds)


def training_seconds(made: Iterable[Record]) -> Iterable[float]:
    """Of each run alone, and once of each stack, whose runs all have the seconds of all."""
    tasks = {record.stack or record.id: record.timing["train_seconds"] or 0.0 for record in made}
    return tasks.values()


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
