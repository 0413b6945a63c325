# mypy: disable-error-code="import-untyped"
"""``python -m bench.soak --kills 200``: kills sweeps at random moments and compares what they
leave.

Linux only: processes are found by a variable in their environment.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from uuid import uuid4

from rich.console import Console

from bench import holding, interruption, records
from bench.errors import BenchError
from bench.records import Record

MARK = "BENCH_SOAK"  # a variable that all processes of a command have
PATIENCE = 10.0  # seconds, in which all of them have ended
LONGEST = 600.0  # seconds, that a command takes undisturbed
PER_COMMAND = 12  # kills at most, before it is left to finish
LONGEST_WAIT = 8.0  # seconds, for the next kill

Victim = Literal["parent", "child", "group"]

# One run of 160 steps, or 24 to 32, that are saved twice a second.
COMMON = ["study=s", "workload=mnist_logistic", "trainer.max_steps=160", "workload.val_size=1000",
          "trainer.checkpoint_seconds=0.5"]  # fmt: skip
GRID = ["optimizer=momentum,adam", "optimizer.lr=1e-3,1e-2", "trainer.deterministic=false"]
COMMANDS = {
    "solo": ["workload=mnist_mlp", "trainer.max_steps=800", "optimizer=adam"],
    "parallel": ["-m", "hydra/launcher=parallel", *GRID, "seed=range(6)"],
    "stacked": ["-m", "hydra/launcher=stacked", "hydra.launcher.max_stack=4", *GRID,
                "optimizer.weight_decay=0,1e-4", "seed=range(4)"],
    "auto": ["-m", *GRID, "optimizer.weight_decay=0,1e-4,1e-3", "seed=0,1"],
}  # fmt: skip


@dataclass
class Command:
    """One that is started again until it has finished.

    Attributes:
        finished: the records that lay there before the last kill, and when they were written.
    """

    kind: str
    place: Path
    said: str = ""
    kills: int = 0
    finished: dict[Path, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)

    def start(self) -> "subprocess.Popen[bytes]":
        self.mark = uuid4().hex
        command = [sys.executable, "-m", "bench", *COMMON, *COMMANDS[self.kind]]
        root = str(Path(__file__).parents[1])
        self.output = open(self.place / "output.txt", "ab")  # noqa: SIM115 - while it runs
        with self.output:
            return subprocess.Popen(
                command, cwd=self.place, env=os.environ | {MARK: self.mark, "PYTHONPATH": root},
                stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output,
                start_new_session=True, preexec_fn=_listen,
            )  # fmt: skip

    def processes(self) -> list[int]:
        """Those that run, of the command that was started last."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                alive = b"\nState:\tZ" not in (path / "status").read_bytes()
                if alive and wanted in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return sorted(found)

    @property
    def records(self) -> dict[Path, int]:
        """By where they lie, and when they were written."""
        found = {}
        for path in self.place.glob("runs/s/*/*/*/record.json"):
            with suppress(FileNotFoundError):
                found[path] = path.stat().st_mtime_ns
        return found


def _listen() -> None:
    """To signals that were ignored here, as in the background of a script, or under ``nohup``."""
    for number in interruption.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def soak(
    kills: int, *, seed: int, place: Path, console: Console, kinds: Sequence[str] = tuple(COMMANDS)
) -> list[str]:
    """
    Args:
        kinds: of commands, which are disturbed in a random order.

    Returns:
        The faults.
    """
    draw = random.Random(seed)
    whole = {kind: Command(kind, place / f"whole-{kind}") for kind in kinds}
    seconds = {}
    for kind, command in whole.items():
        began = time.monotonic()
        process = command.start()
        if process.wait(LONGEST) != 0:
            return [f"{kind}: undisturbed, it ends with {process.returncode}; see {command.place}"]
        seconds[kind] = time.monotonic() - began
        console.print(f"{kind}: {len(command.records)} runs, {seconds[kind]:.0f} s undisturbed")
    faults: list[str] = []
    counts: Counter[str] = Counter()
    number = 0
    while counts.total() < kills:
        kind = draw.choice(kinds)
        command = Command(kind, place / f"{number}-{kind}")
        number += 1
        disturbed = disturb(command, seconds[kind], draw, counts, most=kills)
        for fault in chain(disturbed, compare(whole[kind], command)):
            faults.append(f"{command.place.name}: {fault}")
            console.print(faults[-1], markup=False)
        console.print(
            f"{command.place.name}: {command.kills} kills; in all {counts.total()} of {kills}, "
            f"{len(faults)} faults"
        )
    said = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
    console.print(f"{counts.total()} kills of {number} commands: {said}")
    return faults


def disturb(
    command: Command, seconds: float, draw: random.Random, counts: Counter[str], *, most: int
) -> Iterator[str]:
    """Starts a command again and again, and kills what it is, until it finishes; yields faults."""
    least = draw.randint(1, PER_COMMAND)
    while True:
        process = command.start()
        until = time.monotonic() + LONGEST
        while process.poll() is None and command.kills < least and counts.total() < most:
            _wait(process, draw.uniform(0, min(seconds, LONGEST_WAIT)))
            if process.poll() is not None:
                break
            before = command.records
            victim, number = _draw(draw, command.kind)
            _kill(command, process, victim, number, draw)
            counts[f"{signal.Signals(number).name} {victim}"] += 1
            command.kills += 1
            if victim != "child":
                yield from _ended(command, process, number)
            yield from _unchanged(command, before)
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        if process.poll() is None:
            process.kill()
            yield f"it has not ended after {LONGEST:.0f} s"
            return
        if command.kills >= least or counts.total() >= most:
            if process.returncode == 0:
                return
            if process.returncode > 0 and process.returncode < 128:
                yield f"it ends with {process.returncode}"
                return


def _draw(draw: random.Random, kind: str) -> tuple[Victim, int]:
    """What is killed by what. A signal that asks goes to the parent or to all; what is killed for
    good may be any of them."""
    number = draw.choice([signal.SIGKILL] * 5 + [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    if kind == "solo":
        return "parent", number
    if number != signal.SIGKILL:
        return draw.choice(["parent", "group"]), number
    return draw.choice(["parent", "child", "child", "group"]), number


def _kill(
    command: Command,
    process: "subprocess.Popen[bytes]",
    victim: Victim,
    number: int,
    draw: random.Random,
) -> None:
    with suppress(ProcessLookupError):
        if victim == "group":
            os.killpg(process.pid, number)
            return
        others = [pid for pid in command.processes() if pid != process.pid and not _tracks(pid)]
        if victim == "child" and others:
            os.kill(draw.choice(others), number)
        else:
            os.kill(process.pid, number)


def _tracks(pid: int) -> bool:
    """Whether it is the resource tracker of `multiprocessing`: where that is killed alone, Python
    says tracebacks."""
    with suppress(OSError):
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _ended(command: Command, process: "subprocess.Popen[bytes]", number: int) -> Iterator[str]:
    """Whether all of its processes have ended in time, and it with the status that is meant."""
    until = time.monotonic() + PATIENCE
    while (left := command.processes()) and time.monotonic() < until:
        process.poll()
        time.sleep(0.1)
    if left:
        yield f"{len(left)} processes are left {PATIENCE:.0f} s after signal {number}"
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()
    # 0 where it had just finished
    if process.returncode not in (-number, 128 + number, 0):
        yield f"after signal {number} it ends with {process.returncode}"


def _unchanged(command: Command, before: dict[Path, int]) -> Iterator[str]:
    """Whether what had finished still lies there, and every record can be read."""
    now = command.records
    for path, written in before.items():
        if now.get(path) != written:
            yield f"{path}: finished, then {'made again' if path in now else 'lost'}"
    for path in now:
        try:
            if records.read(path).status == "failed":
                yield f"{path}: failed ({records.read(path).reason})"
        except BenchError as error:
            yield str(error)


def compare(whole: Command, command: Command) -> Iterator[str]:
    """What a disturbed command has left that an undisturbed one has not, and the reverse."""
    output = (command.place / "output.txt").read_text(errors="replace")
    if "Traceback" in output:
        yield "a traceback on the terminal"
    for path in command.place.rglob("*"):
        unfinished = path.parent.name == ".stacks" and path.suffix == ".ckpt"
        if unfinished or path.name.endswith(".partial") or path.name == holding.FILE_NAME:
            yield f"{path}: left over"
    expected = {path.relative_to(whole.place) for path in whole.records}
    if expected != {path.relative_to(command.place) for path in command.records}:
        yield f"{len(command.records)} records, not {len(expected)}"
        return
    for path in sorted(expected):
        one, other = (own.place / path.parent for own in (whole, command))
        if _numbers(records.read(one / "record.json")) != _numbers(
            records.read(other / "record.json")
        ):
            yield f"{other / 'record.json'}: other numbers"
        if _rows(one) != _rows(other):
            yield f"{other / 'metrics.csv'}: other numbers"
        if _points(one) != _points(other):
            yield f"{other}: other points in TensorBoard"


def _numbers(record: Record) -> dict[str, Any]:
    """All but times, and the words of the command, which name no place."""
    content = asdict(record)
    del content["timing"], content["target"]["seconds"]
    return content


def _rows(directory: Path) -> list[dict[str, str]]:
    with open(directory / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def _points(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = list(directory.glob("events.out.tfevents.*"))
    if len(files) != 1:
        return {"files": [(len(files), 0.0)]}
    found = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
        if "second" not in tag
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="a directory for what the runs leave")
    asked = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    with TemporaryDirectory() as directory:
        place = (asked.keep or Path(directory)).resolve()
        faults = soak(asked.kills, seed=asked.seed, place=place, console=console)
    console.print(f"{asked.kills} kills, seed {asked.seed}: {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
