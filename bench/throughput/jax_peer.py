"""Runs as a JAX person makes them: one, or a sweep as a program of its own.

The splits are scaled and on the device; a jitted scan goes through an epoch; a sweep is stacks of
runs under vmap. PyTorch is not imported.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from bench.data.cache import obtain
from bench.data.specs import IMAGES
from bench.sweeps.executors.local import cores
from bench.throughput import jax_model
from bench.throughput.clock import Timing
from bench.throughput.jax_model import Params, Split, State
from bench.throughput.problem import Problem

LOG_EVERY = 50  # steps


def splits(problem: Problem) -> dict[str, Split]:
    """Standardised by the mean and deviation of each channel over the training split."""
    arrays = obtain(IMAGES[problem.dataset], None)
    order = np.random.default_rng(problem.split_seed).permutation(len(arrays["train-labels"]))
    val, train = order[: problem.val_size], order[problem.val_size :]
    images, labels = arrays["train-images"], arrays["train-labels"]
    pixels = images[train]
    mean, deviation = (f(pixels, (0, 2, 3), keepdims=True) for f in (np.mean, np.std))

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        scaled = (images.astype(np.float32) - np.float32(mean)) / np.float32(deviation)
        return Split(jnp.asarray(scaled.transpose(0, 2, 3, 1)), jnp.asarray(labels, jnp.int32))

    return {
        "train": split(pixels, labels[train]),
        "val": split(images[val], labels[val]),
        "test": split(arrays["test-images"], arrays["test-labels"]),
    }


def start(problem: Problem, seed: int) -> State:
    known = IMAGES[problem.dataset]
    depth, *size = known.image_shape
    params = jax_model.init(
        seed,
        image_shape=(*size, depth),
        classes=known.classes,
        channels=problem.channels,
        hidden_sizes=problem.hidden_sizes,
        kernel_size=problem.kernel_size,
    )
    return jax_model.start(params)


class Compiled:
    """A function that is compiled once for each shape of its arguments, ahead of its first call."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function = jax.jit(function, **options)
        self.made: dict[Any, tuple[Any, float]] = {}  # with the seconds that it took
        self.used: set[Any] = set()

    def __call__(self, *arguments: Any) -> Any:
        key = tuple((x.shape, x.dtype) for x in jax.tree.leaves(arguments))
        self.used.add(key)
        if key not in self.made:
            started = time.perf_counter()
            compiled = self.function.lower(*arguments).compile()
            self.made[key] = compiled, time.perf_counter() - started
        return self.made[key][0](*arguments)

    @property
    def seconds(self) -> float:
        """Of compiling, so far."""
        return sum(seconds for _, seconds in self.made.values())

    def seconds_of_used(self) -> float:
        """Of compiling what was called since this was last asked."""
        keys, self.used = self.used, set()
        return sum(self.made[key][1] for key in keys)


class Programs:
    """What is compiled for a run, or for a stack of them."""

    def __init__(self, problem: Problem, *, stacked: bool) -> None:
        # In a loop XLA's convolutions are tens of times slower on a CPU.
        self.scans = not problem.channels
        train, evaluate = jax_model.train if self.scans else jax_model.step, jax_model.evaluate
        if stacked:
            train, evaluate = jax_model.stacked(train), jax_model.evaluate_stack
        self.some_steps = Compiled(train, donate_argnums=0)
        self.sums = Compiled(evaluate)
        self.all = (self.some_steps, self.sums)

    def train(
        self, state: State, lr: Array, order: np.ndarray, split: Split
    ) -> tuple[State, np.ndarray]:
        """Through the batches ``order [..., steps, B]``; also the losses, ``[..., steps]``."""
        if self.scans:
            state, losses = self.some_steps(state, lr, order, split)
            return state, np.asarray(losses)
        found = []
        for index in np.moveaxis(order, -2, 0):
            state, loss = self.some_steps(state, lr, index, split)
            found.append(loss)
        return state, np.stack(jax.device_get(found), -1)

    def evaluate(self, params: Params, split: Split) -> dict[str, np.ndarray]:
        """Mean loss and accuracy on a split of some thousands; of each run of a stack."""
        size = len(split.labels)
        starts = np.arange(0, size, jax_model.EVALUATION_BATCH, dtype=np.int32)
        parts = jax.device_get([self.sums(params, split, first) for first in starts])
        return {
            name: np.sum(sums, 0) / size
            for name, sums in zip(("loss", "accuracy"), zip(*parts, strict=True), strict=True)
        }

    def now(self) -> float:
        """Seconds, as if nothing had been compiled."""
        return time.perf_counter() - sum(each.seconds for each in self.all)

    def compiled(self) -> float:
        """Seconds it took to compile what was used since this was last asked."""
        return sum(each.seconds_of_used() for each in self.all)


class Jax:
    """One run after another in one process."""

    def __init__(self, config: Mapping[str, Any], device: str) -> None:
        jax.config.update("jax_platforms", device)
        self.problem = Problem.of(config)
        self.data = splits(self.problem)
        self.programs = Programs(self.problem, stacked=False)

    def run(self, directory: Path, *, steps: int, lr: float, seed: int) -> Timing:
        programs, data, validations = self.programs, self.data, []
        started = programs.now()
        writer = EventFileWriter(str(directory))

        def evaluate(split: str) -> None:
            found = programs.evaluate(state.params, data[split])
            for name, value in found.items():
                writer.add_event(scalar(f"{split}/{name}", float(value), done))

        state, rate, done = start(self.problem, seed), jnp.float32(lr), 0
        training = 0.0
        for epoch in self.problem.epochs(len(data["train"].labels), steps, seed):
            before = programs.now()
            state, losses = programs.train(state, rate, epoch, data["train"])
            for step, value in enumerate(losses.tolist(), done + 1):
                if step % LOG_EVERY == 0:
                    writer.add_event(scalar("train/loss", value, step))
            done += len(epoch)
            between = programs.now()
            evaluate("val")
            training += between - before
            validations.append(programs.now() - between)
        evaluate("test")
        writer.close()
        run = programs.now() - started
        compiled = programs.compiled()
        return Timing(training / steps, mean(validations), run, cores(), compiled)


def scalar(name: str, value: float, step: int) -> Event:
    summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
    return Event(wall_time=time.time(), step=step, summary=summary)


def sweep(
    problem: Problem,
    *,
    steps: int,
    rates: Sequence[float],
    seeds: int,
    together: int,
    train_only: bool = False,
) -> dict[str, Any]:
    """Every rate with every seed, so many runs in a stack: of the same seed as far as they go.
    Seconds, and what came of each run."""
    data = splits(problem)
    size = len(data["train"].labels)
    wide = min(together, len(rates))
    deep = together // wide
    alone = together == 1  # which needs no vmap
    programs = Programs(problem, stacked=not alone)
    runs, training, began = [], 0.0, programs.now()
    for first, left in product(range(0, seeds, deep), range(0, len(rates), wide)):
        some, those = range(first, first + deep), rates[left : left + wide]
        states = [start(problem, seed) for seed in some for _ in those]
        shape = () if alone else (deep, wide)
        state = jax.tree.map(lambda *x: jnp.stack(x).reshape(*shape, *x[0].shape), *states)  # noqa: B023
        lrs = jnp.broadcast_to(jnp.asarray(those, jnp.float32), (deep, wide)).reshape(shape)

        def evaluate(split: str) -> dict[str, np.ndarray]:
            if train_only:
                return {}
            found = programs.evaluate(state.params, data[split])  # noqa: B023
            return {name: x.reshape(deep, wide) for name, x in found.items()}

        curves, validations = [], []
        for epochs in zip(*(problem.epochs(size, steps, seed) for seed in some), strict=True):
            before = programs.now()
            order = epochs[0] if alone else np.stack(epochs)  # [S, steps, B]
            state, losses = programs.train(state, lrs, order, data["train"])
            curves.append(losses.reshape(deep, wide, -1))
            training += programs.now() - before
            validations.append(evaluate("val"))
        test = evaluate("test")
        logged = np.concatenate(curves, -1)[..., LOG_EVERY - 1 :: LOG_EVERY]
        for (s, seed), (k, lr) in product(enumerate(some), enumerate(those)):
            runs.append(
                {
                    "seed": seed,
                    "lr": lr,
                    "train/loss": logged[s, k].tolist(),
                    "val": [of_run(found, s, k) for found in validations],
                    "test": of_run(test, s, k),
                }
            )
    return {
        "compile_seconds": programs.compiled(),
        "train_seconds": training,
        "stack_seconds": programs.now() - began,
        "steps": steps * len(runs),
        "runs": runs,
    }


def of_run(found: Mapping[str, np.ndarray], *place: int) -> dict[str, float]:
    return {name: values[place].item() for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput.jax_peer")
    parser.add_argument("problem", type=json.loads, help="the fields of Problem, as JSON")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--together", type=int, required=True, help="runs in a stack")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--train-only", action="store_true", help="evaluate nothing")
    parser.add_argument("--out", type=Path, required=True)
    options = vars(parser.parse_args())
    jax.config.update("jax_platforms", options.pop("device"))
    problem, out = Problem(**options.pop("problem")), options.pop("out")
    out.write_text(json.dumps(sweep(problem, **options)), "utf-8")


if __name__ == "__main__":
    main()
