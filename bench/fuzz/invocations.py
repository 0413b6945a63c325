"""Odd invocations of ``python -m bench``, up to where training would start.

Each is typed in a process of its own, forked from one that has imported everything, in an empty
directory and with made-up data. It is a fault if it ends in a traceback or not at all, if it
refuses in many lines or without a word, or if a refusal leaves anything behind.
"""

import faulthandler
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

SECONDS = 60.0  # until it hangs
LINES = 5  # of a refusal, and of what was to be made before it
MEMORY = 4 * 2**30  # bytes that one may have beyond what was imported

KEYS = [
    *("seed", "study", "runs_dir", "data_dir", "diagnostics", "experiment", "nothing"),
    *("workload", "optimizer", "schedule", "trainer", "logger", "model", "hydra"),
    *("workload.name", "workload.dataset", "workload.model", "workload.batch_size"),
    *("workload.sampling", "workload.drop_last", "workload.feature_scaling", "workload.val_size"),
    *("workload.split_seed", "workload.l2", "workload.target", "workload.batchsize"),
    *("workload.model.family", "workload.model.init", "workload.model.init_std"),
    *("workload.model.hidden_sizes", "workload.model.channels", "workload.model.dropout"),
    *("optimizer.lr", "optimizer.momentum", "optimizer.beta1", "optimizer.eps", "optimizer.name"),
    *("optimizer._target_", "optimizer.weight_decay", "optimizer.form", "optimizer.betas"),
    *("optimizer.clip_norm", "optimizer.gradient", "optimizer.weight_decay_on"),
    *("schedule.name", "schedule.warmup_steps", "schedule.total_steps", "schedule.every"),
    *("trainer.max_epochs", "trainer.max_steps", "trainer.accelerator", "trainer.devices"),
    *("trainer.strategy", "trainer.precision", "trainer.log_every_n_steps", "trainer.threads"),
    *("trainer.val_check_interval", "trainer.check_val_every_n_epoch", "trainer.deterministic"),
    *("trainer.steps_per_execution", "trainer.patience", "trainer.enable_checkpointing"),
    *("trainer.evaluations",),
    *("trainer.gradient_clip_val", "trainer.enable_progress_bar", "trainer.cuda_graph"),
    *("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.mode"),
    *("hydra.launcher.n_jobs", "hydra.launcher.threads", "hydra.launcher.max_stack"),
    *("hydra.launcher.strategy", "hydra.sweeper.n_trials", "hydra.sweeper.seed"),
    *("hydra.sweeper.params", "hydra.sweeper.when", "hydra.sweeper.n_parallel"),
    *("hydra.run.dir", "hydra.sweep.dir", "hydra.output_subdir", "hydra.job.chdir", "hydra.job"),
    *("hydra.job.name", "hydra.verbose", "hydra.searchpath", "hydra.job_logging"),
]

# What fits some key, so that a draw gets past the first check; and what fits none.
CHOICES = {
    "workload": ["mnist_mlp", "mnist_logistic", "cifar10_cnn", "mnist_mpl", "[mnist_mlp]"],
    "optimizer": ["adam", "sgd", "momentum", "custom", "sdg", "[adam,sgd]", "{lr: 3}"],
    "schedule": ["constant", "cosine", "step", "one_cycle", "cosin"],
    "trainer": ["default", "other"],
    "experiment": ["quickstart", "adam_betas", "random_search", "nothing", "[quickstart]"],
    "hydra/launcher": ["parallel", "stacked", "auto", "basic", "joblib"],
    "hydra/sweeper": ["grid", "random", "optuna", "halving", "basic", "nothing"],
    "optimizer._target_": ["torch.optim.NAdam", "torch.optim.SGD", "no.such", "os:path", "a b"],
    "hydra.mode": ["RUN", "MULTIRUN", "WALK"],
    "runs_dir": ["/proc/x", "/dev/null", "''", "a/b", "~"],
    "data_dir": ["/proc/x", "/dev/null", "."],
    "workload.model.hidden_sizes": ["[]", "[8]", "[1000000000]", "[8,x]", "[[8]]", "[-1]"],
    "workload.model.channels": ["[]", "[8]", "[8,8,8,8,8,8,8]", "[1e3]"],
    "hydra.sweeper.params": ["{seed: '0,1'}", "{seed: [0,1]}", "{optimizer: null}", "{'': 1}"],
    "hydra.sweeper.when": ["{optimizer=adam: {seed: 1}}", "{a: b}", "{seed=0: null}", "{'': {}}"],
}
VALUES = [
    *("0", "1", "-1", "2", "3.5", "1e-3", "1e400", "-1e400", "nan", "inf", "9999999999"),
    *("100000000000000000000", "null", "true", "false", "''", '""', "x", "a/b", "..", "/", "~"),
    *("[]", "[1,2]", "{}", "{a: 1}", "{a: {b: [1]}}", "[[1]]", "[null]", "???", "${seed}"),
    *("${nope}", "${oc.env:HOME}", "${oc.env:NO_SUCH}", "${nope:1}", "${", "${optimizer.lr}"),
    *("${..}", "'a b'", "'[red]x'", "$", "%", "\\", "é", "日本", "\U0001f525", "a=b", "@", "auto"),
    *("full", "gpu", "cpu", "0x10", "1_000", "01", "+1", "1e5", "1.0", " ", "*", "(", "int(3)"),
    *("str(3)", "json_str({a: 1})", "extend_list(3)", "x" * 300),
]
SWEEPS = [
    *("0,1", "0,0", "1,x", "null,1", "range(0,3)", "range(3,0)", "range(0,1e9)", "range(0,1,0)"),
    *("range(0,1,0.5)", "range(0,inf)", "range(nan,1)", "shuffle(range(0,1000000000))"),
    *("glob(*)", "glob(zz*)", "glob([*,a])", "glob(*,exclude=adam)", "choice(0,1)", "choice()"),
    *("interval(0,1)", "interval(1,0)", "tag(log,interval(0,1))", "tag(log,interval(1e-5,1))"),
    *("tag(x,interval(0,1))", "tag(a,b,choice(0,1))", "sort(3,1)", "shuffle(a,b)", "[1],[2]"),
    *("adam,sgd", "adam,custom", "{a: 1},{b: 2}", "${seed},1", "0,1,", ",", "'0,1'"),
]
WHOLE = ["adam", "=", "=1", "seed", "seed=", "+", "~", "++", "seed==1", "-x", "--cfg", "--nothing"]
FLAGS = ["-m", "-m", "-m", "-m", "--multirun", "--cfg=job", "--info=all", "--help", "--resolve"]
PREFIXES = ["", "", "", "", "", "", "", "+", "++", "~"]


def draw(random_: random.Random) -> list[str]:
    """One invocation: some keys with odd values, perhaps swept, perhaps with a flag."""
    drawn = [override(random_) for _ in range(random_.choice([1, 1, 1, 2, 2, 3]))]
    if random_.random() < 0.45:
        drawn.insert(0, random_.choice(FLAGS))
    if random_.random() < 0.05:
        drawn.append(random_.choice(WHOLE))
    return drawn


def override(random_: random.Random) -> str:
    key, prefix = random_.choice(KEYS), random_.choice(PREFIXES)
    if prefix == "~" and random_.random() < 0.8:
        return f"~{key}"
    if random_.random() < 0.03:
        key = f"{key}{random_.choice(['.x', '@y', '.', ':z', '[0]', ' '])}"
    if random_.random() < 0.3:
        return f"{prefix}{key}={random_.choice(SWEEPS)}"
    values = CHOICES[key] if key in CHOICES and random_.random() < 0.6 else VALUES
    return f"{prefix}{key}={random_.choice(values)}"


def run(count: int, seed: int) -> list[str]:
    """Types so many invocations; a line, or several, for each that is at fault."""
    random_ = random.Random(seed)
    faults = []
    with prepared():
        for _ in range(count):
            arguments = draw(random_)
            if fault := fault_of(arguments):
                faults.append(f"{shlex.join(['bench', *arguments])}\n    {fault}")
    return faults


def prepared() -> ExitStack:
    """Everything is imported, data are made up, and nothing trains."""
    import torch

    import bench.sweeps.sweep
    from bench import data, training
    from bench.command_line import PLUGINS
    from bench.settings import schema
    from bench.sweeps.executors.local import LocalExecutor

    torch.set_num_threads(1)
    sys.path.append(str(PLUGINS))
    schema.register()
    stack = ExitStack()
    environment = {"HYDRA_FULL_ERROR": "1", "COLUMNS": "200"}
    stack.enter_context(patch.dict(os.environ, environment))
    for owner, name, instead in (
        (data, "load", made_up),
        (training.Run, "train", _stop),
        (LocalExecutor, "begin", _do_nothing),
        (LocalExecutor, "ask", _here),
        (LocalExecutor, "run", _stop),
        (bench.sweeps.sweep, "fetch_data", _do_nothing),
    ):
        stack.enter_context(patch.object(owner, name, instead))
    return stack


class Started(BaseException):
    """Training would start now."""


def _stop(*_: Any, **__: Any) -> Any:
    raise Started


def _do_nothing(*_: Any) -> None:
    pass


def _here(_: Any, function: Any, *arguments: Any, **options: Any) -> Any:
    return function(*arguments, **options)


def made_up(name: str, data_dir: Path | None = None) -> Any:
    """Blank images, as many as there are in truth."""
    import torch

    from bench.data import IMAGES, Dataset, Split

    known = IMAGES[name]

    def split(size: int) -> Split:
        labels = torch.zeros(1, dtype=torch.int64).expand(size)
        return Split(
            torch.zeros(1, *known.image_shape, dtype=torch.uint8).expand(size, -1, -1, -1), labels
        )

    return Dataset(name, known.classes, split(known.train_size), split(100))


def fault_of(arguments: Sequence[str]) -> str | None:
    """What is wrong with how an invocation ends, if anything is."""
    place = Path(tempfile.mkdtemp(prefix="bench-fuzz-"))
    try:
        status, said, left = typed(arguments, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if status is None:
        return f"hangs: {SECONDS:g} s\n{said}"
    if "Traceback" in said or status < 0:
        return f"ends with status {status}:\n{said}"
    if status in (0, STARTED):
        return None
    lines = 0 if said.startswith(("usage:", "Hydra")) else len(said.strip().splitlines())
    if not said.strip() or lines > LINES:
        return f"refuses in {lines} lines:\n{said}"
    return f"refuses, and leaves {left}" if left else None


STARTED = 77


def typed(arguments: Sequence[str], place: Path) -> tuple[int | None, str, list[str]]:
    """The exit status (None where it does not end), the output, and the files that are there."""
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            _type(arguments, place, output.fileno())
        status = _ended(pid)
        output.seek(0)
        said = output.read().decode(errors="replace")
    return status, said, sorted(str(path.relative_to(place)) for path in place.rglob("*"))


def _type(arguments: Sequence[str], place: Path, output: int) -> None:
    """In the child, which never returns."""
    import resource
    import traceback

    from bench.__main__ import main

    status = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        faulthandler.enable()
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        os.chdir(place)
        sys.argv = ["bench", *arguments]
        main()
        status = 0
    except Started:
        status = STARTED
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ended(pid: int) -> int | None:
    for _ in waiting(SECONDS):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def waiting(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.01)
