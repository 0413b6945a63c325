"""What a process that never rests, on one of the cores, costs a run and a sweep."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

from bench.throughput.commands import sweep
from bench.throughput.contenders import JAX, LOOP, OURS, Contender, kinds
from bench.throughput.measure import SIZES, Ratio, Row, configuration, grid_of, there_and_back

IDLE, BUSY = "idle", "busy"
SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"  # ends with it


def busy(workload: str, *, device: str, rounds: int) -> Row:
    """The step of one run, and a sweep of 64 by `auto`, beside such a process, over the same
    without it, in turns."""
    size, settings = SIZES[workload], configuration(workload, device)
    names = [name for name in kinds(device) if name in (OURS, LOOP, JAX)]
    grid = [f"workload={workload}", f"trainer.max_steps={size.sweep}", *grid_of(size.seeds)]
    steps: dict[tuple[str, str], list[float]] = {}
    sweeps: dict[str, list[float]] = {IDLE: [], BUSY: []}
    with ExitStack() as stack:
        contenders = [stack.enter_context(Contender(name, settings, device)) for name in names]
        for order in there_and_back([IDLE, BUSY], rounds):
            for state in order:
                with spinning() if state == BUSY else nullcontext():
                    for each in contenders:
                        step = each.run(steps=size.run).step
                        assert step is not None
                        steps.setdefault((each.name, state), []).append(step)
                    sweeps[state].append(sweep("auto", device, *grid).seconds)
    return {
        "workload": workload,
        "rounds": rounds,
        "runs": {name: Ratio.of(steps[name, BUSY], steps[name, IDLE]) for name in names},
        "sweep": Ratio.of(sweeps[BUSY], sweeps[IDLE]),
    }


@contextmanager
def spinning() -> Iterator[None]:
    """Another process keeps a core busy, whichever the system gives it."""
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        yield
    finally:
        process.kill()
        process.wait()
