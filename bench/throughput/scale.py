"""What a study of many runs costs: to plan it, to find it finished, and to report it. The runs are
copies of one real run, with the numbers of their own settings; each cost is measured in a process
of its own."""

import argparse
import dataclasses
import json
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from math import log10
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import records
from bench.board import events
from bench.command_line import CONF, PLUGINS
from bench.records import Record
from bench.settings import schema
from bench.settings.identity import record_fields
from bench.settings.jobs import Job

OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
RATES = [f"{10 ** (-5 + i / 4):.3g}" for i in range(25)]
SHARE_OF_RATES = len(OPTIMIZERS) * len(RATES)
COPIED = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "metrics.csv")


def sweep(runs: int) -> list[str]:
    """What is typed for so many runs, to the next hundred."""
    return [
        *("hydra/launcher=auto", "study=scale", "workload=mnist_logistic", "trainer.max_epochs=2"),
        f"optimizer={','.join(OPTIMIZERS)}",
        f"optimizer.lr={','.join(RATES)}",
        f"seed=range(0,{max(1, runs // SHARE_OF_RATES)})",
    ]


def planned(runs: int) -> tuple[list[Job], float, float]:
    """Its jobs; the processor's seconds for the first, and for all others with their stacks."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from bench.sweeps.composition import Composer
    from bench.sweeps.stacking import tasks

    sys.path.append(str(PLUGINS))
    schema.register()
    said = [override for override in sweep(runs) if not override.startswith("hydra")]
    *fixed, optimizers, rates, seeds = said
    lines = [
        [*fixed, f"optimizer={optimizer}", f"optimizer.lr={rate}", f"seed={seed}"]
        for optimizer in optimizers.partition("=")[2].split(",")
        for rate in rates.partition("=")[2].split(",")
        for seed in range(int(seeds.rpartition(",")[2].rstrip(")")))
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        composer = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))
        start = time.process_time()
        jobs = [composer.plan(lines[0])]
        first = time.process_time() - start
        jobs += [composer.plan(line) for line in lines[1:]]
        missing = [job for job in jobs if job.finished() is None]
        tasks(
            missing,
            strategy="auto",
            device="cpu",
            workers=2,
            max_stack=None,
            capacity=lambda *_, **__: 1000,
            refusal_of_workload=lambda _: None,
        )
    return jobs, first, time.process_time() - start - first


def write(jobs: Sequence[Job], original: Path) -> None:
    """The directories of so many runs, as the one in ``original`` would have left them."""
    real = records.read(original / records.FILE_NAME)
    content = {name: (original / name).read_bytes() for name in COPIED}
    (event_file,) = original.glob(events.PATTERN)
    content[event_file.name] = event_file.read_bytes()
    for job in jobs:
        job.directory.mkdir(parents=True)
        (job.directory / ".hydra").mkdir()
        for name, part in content.items():
            (job.directory / name).write_bytes(part)
        records.write(_alike(real, job), job.directory)


def _alike(real: Record, job: Job) -> Record:
    """A record with results that depend on the setting, some on the seed; high rates diverge."""
    rng = random.Random(str(job.directory))
    rate = log10(job.config["optimizer"]["lr"])
    score = 0.92 - 0.02 * abs(rate + 2) ** 1.5 + rng.gauss(0, 0.002)
    fields = {field.name: getattr(real, field.name) for field in dataclasses.fields(real)}
    fields |= record_fields(job.config, job.overrides, job.search)
    if rate >= 0.75:
        fields |= {"status": "diverged", "reason": "train/loss is not finite at step 9"}
    else:
        fields["metrics"] = real.metrics | {"val/accuracy": score, "test/accuracy": score - 0.004}
        fields["best"] = real.best | {"val/accuracy": score + 0.001}
    return Record(**fields)


def in_a_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What it returns there, and the process's largest memory, in MB."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_tell, args=(theirs, function, *arguments))
    process.start()
    theirs.close()
    found, memory = ours.recv()
    process.join()
    return found, memory


def _tell(connection: Any, function: Callable[..., Any], *arguments: Any) -> None:
    found = function(*arguments)
    connection.send((found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def _times(runs: int) -> tuple[int, float, float]:
    jobs, first, others = planned(runs)
    return len(jobs), first, others


def command(*words: str) -> tuple[float, float]:
    """The processor's seconds and the largest memory, in MB, of ``python -m`` with these words.

    Raises:
        SystemExit: it failed.
    """
    process = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)}: ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark_scale", description=__doc__)
    parser.add_argument("runs", type=int, nargs="?", default=10_000)
    parser.add_argument("--keep", type=Path, help="write the study there, and leave it")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        place = (options.keep or Path(temporary)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        os.chdir(place)
        print(json.dumps(measured(options.runs), indent=1))


def measured(runs: int) -> dict[str, Any]:
    """Seconds of the processor, and MB of the largest process, of each part."""
    (number, first, others), memory = in_a_process(_times, runs)
    found: dict[str, Any] = {
        "runs": number,
        "plan": {"first": first, "each other": others / (number - 1), "memory": memory},
    }
    jobs, _, _ = planned(runs)
    command("bench", "study=real", "workload=mnist_logistic", "trainer.max_epochs=2")
    write(jobs, next(Path("runs/real").glob(f"*/*/*/{records.FILE_NAME}")).parent)
    words = {
        "plan again, all made": ("bench", "-m", *sweep(runs)),
        "report": ("bench.report", "runs/scale"),
    }
    for name, said in words.items():
        seconds, memory = command(*said)
        found[name] = {"seconds": seconds, "memory": memory}
    report = Path("runs/scale/report")
    found["page"] = (report / "index.html").stat().st_size / 1e6
    found["report files"] = sum(path.stat().st_size for path in report.rglob("*")) / 1e6
    return found


if __name__ == "__main__":
    main()
