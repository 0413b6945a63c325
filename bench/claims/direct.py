"""What claims measure by gradients and steps themselves, without a sweep; each for several seeds.

Weights are those of the seed, in float64, and gradients those of a workload's own loss.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from bench import gradcheck
from bench.analysis.intervals import mean_interval
from bench.claims.claim import Part
from bench.claims.measured import Line, Measured, Picture
from bench.command_line import CONF, PLUGINS
from bench.settings import schema
from bench.settings.workloads import workload_of
from bench.workloads.models import drawn, loaded
from bench.workloads.workload import Place, Workload
from optimizers import OPTIMIZERS

SEEDS = 10


def numeric_gradient(confidence: float, *, workloads: str, repeats: int = 5) -> Measured:
    """How many times as long a gradient by central differences takes as an analytic one; errors in
    the note."""
    parts, lines, errors = [], [], []
    for name in workloads.split(","):
        checks = [gradcheck.check(name) for _ in range(repeats)]
        ratios = [c.parameters * c.numeric_seconds / c.analytic_seconds for c in checks]
        parts.append(Part(name, *map(float, np.exp(mean_interval(np.log(ratios), confidence)))))
        lines.append(Line(name, [checks[0].parameters], [float(np.median(ratios))]))
        errors.append(max(c.error for c in checks))
    note = (
        f"The two differ by up to {max(errors):.1e} of the largest derivative, in float64, on a "
        "sample of coordinates."
    )
    picture = Picture("parameters", "numeric over analytic seconds", lines, True, True)
    return Measured(parts, [picture], note)


def minibatch_error(
    confidence: float, *, workload: str, sizes: str = "16,32,64,128,256,512,1024", draws: int = 30
) -> Measured:
    """The exponent a of the error of a minibatch gradient ~ B^a: the root of the mean square of its
    distance from the gradient on all examples, at the weights of each seed."""
    problem = Problem.of(workload)
    batches = [int(size) for size in sizes.split(",")]
    curves = [problem.gradient_errors(seed, batches, draws) for seed in range(SEEDS)]
    slopes = [np.polyfit(np.log(batches), np.log(curve), 1)[0] for curve in curves]
    mean = np.exp(np.log(curves).mean(0))
    lines = [Line("measured", batches, list(mean))]
    lines.append(Line("1/√B", batches, list(mean[0] * np.sqrt(batches[0] / np.array(batches)))))
    picture = Picture("batch size B", "error over the length of the gradient", lines, True, True)
    return Measured([_over_seeds("exponent", slopes, confidence)], [picture])


def first_step_without_correction(
    confidence: float, *, workload: str, betas: str = "0.9,0.99,0.999,0.9999"
) -> Measured:
    """The exponent a of the first step without bias correction over that with it ~ (1 - beta2)^-a;
    lengths over all parameters."""
    problem = Problem.of(workload)
    values = [float(beta) for beta in betas.split(",")]
    curves = [
        [
            problem.first_step(seed, beta2=beta, bias_correction=False)
            / problem.first_step(seed, beta2=beta)
            for beta in values
        ]
        for seed in range(SEEDS)
    ]
    far = 1 / (1 - np.array(values))
    slopes = [np.polyfit(np.log(far), np.log(curve), 1)[0] for curve in curves]
    lines = [Line("first step", list(far), list(np.mean(curves, axis=0)))]
    picture = Picture("1 / (1 - beta2)", "without over with correction", lines, True, True)
    return Measured([_over_seeds("exponent", slopes, confidence)], [picture])


def normalised_step(confidence: float, *, workloads: str, lr: float = 0.01) -> Measured:
    """The largest change of any weight in a first step of Adam without its averages, over the
    learning rate."""
    parts = []
    for name in workloads.split(","):
        problem = Problem.of(name)
        ratios = [
            float(torch.cat(problem.steps(seed, "normalised", lr=lr)).abs().max()) / lr
            for seed in range(SEEDS)
        ]
        parts.append(_over_seeds(name, ratios, confidence))
    return Measured(parts)


def layer_balance(
    confidence: float, *, workloads: str, other: str = "sgd", lr: float = 1e-3, steps: int = 50
) -> Measured:
    """How far apart layers are in what a step changes of them, ``‖Δw‖ / ‖w‖`` of each matrix, the
    largest over the smallest, as a geometric mean over the first steps: of ``other``, over that of
    Adam, both at ``lr``: what all layers have in common goes out."""
    parts, pictures = [], []
    for name in workloads.split(","):
        problem = Problem.of(name)
        spreads = {
            own: np.array([problem.relative_steps(seed, own, steps, lr) for seed in range(SEEDS)])
            for own in ("adam", other)
        }  # [S, layers], logarithms
        ratio = [
            np.exp(np.ptp(theirs) - np.ptp(ours))
            for theirs, ours in zip(spreads[other], spreads["adam"], strict=True)
        ]
        found = mean_interval(np.log(ratio), confidence)
        parts.append(Part(name, *map(float, np.exp(found))))
        layers = list(range(1, spreads["adam"].shape[1] + 1))
        lines = [Line(own, layers, list(np.exp(x.mean(0)))) for own, x in spreads.items()]
        pictures.append(Picture("layer", "‖Δw‖ / ‖w‖ of a step", lines, False, True, name))
    return Measured(parts, pictures)


def rates_over_time(
    confidence: float, *, workload: str, optimizer: str, steps: int = 1000, lr: float = 1e-3
) -> Measured:
    """The exponent a of how far a weight moves for its gradient ~ t^a, for step t: the median over
    weights, over two decades of steps."""
    problem = Problem.of(workload)
    told = sorted({round(step) for step in np.geomspace(max(1, steps // 100), steps, 25)})
    curves = [problem.rates(seed, optimizer, lr, told) for seed in range(SEEDS)]
    slopes = [np.polyfit(np.log(told), np.log(curve), 1)[0] for curve in curves]
    line = Line(optimizer, list(told), list(np.exp(np.log(curves).mean(0))))
    picture = Picture("step", "change of a weight over its gradient", [line], True, True)
    return Measured([_over_seeds("exponent", slopes, confidence)], [picture])


DIRECT: Mapping[str, Callable[..., Measured]] = {
    function.__name__: function
    for function in (
        numeric_gradient,
        minibatch_error,
        first_step_without_correction,
        normalised_step,
        layer_balance,
        rates_over_time,
    )
}


class Problem:
    """A workload with its data in memory."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    @classmethod
    def of(cls, name: str, *overrides: str) -> Problem:
        given = compose("config", [f"workload={name}", *overrides])
        workload = workload_of(schema.validate(given))
        return cls(loaded(workload, Place(torch.device("cpu"), torch.float64)))

    def model(self, seed: int) -> nn.Module:
        return drawn(self.workload, seed).double().eval()

    def gradients(self, model: nn.Module, index: Any) -> list[Tensor]:
        batch = self.workload.batch(index)
        loss = self.workload.objective(self.workload.call(model, batch), batch)
        return list(torch.autograd.grad(loss, list(model.parameters())))

    def gradient(self, model: nn.Module, index: Any) -> Tensor:
        """On one vector."""
        return torch.cat([g.flatten() for g in self.gradients(model, index)])

    def gradient_errors(self, seed: int, sizes: Sequence[int], draws: int) -> list[float]:
        """Of gradients on so many random examples, over the length of that on all."""
        model, generator = self.model(seed), torch.Generator().manual_seed(seed)
        whole = self.gradient(model, slice(None))
        errors = []
        for size in sizes:
            squares = []
            for _ in range(draws):
                index = torch.randint(self.workload.train_size, (size,), generator=generator)
                squares.append(float((self.gradient(model, index) - whole).square().sum()))
            errors.append(float(np.sqrt(np.mean(squares)) / whole.norm()))
        return errors

    def first_step(self, seed: int, **options: Any) -> float:
        """The length of Adam's first step."""
        return float(torch.cat(self.steps(seed, "adam", lr=1e-3, eps=1e-12, **options)).norm())

    def steps(self, seed: int, optimizer: str, **options: Any) -> list[Tensor]:
        """What a first step changes of each parameter, flat."""
        model = self.model(seed)
        before = [p.detach().clone() for p in model.parameters()]
        self.step(model, OPTIMIZERS[optimizer](model.parameters(), **options), seed, 0)
        return [
            (p.detach() - old).flatten() for p, old in zip(model.parameters(), before, strict=True)
        ]

    def relative_steps(self, seed: int, optimizer: str, steps: int, lr: float) -> list[float]:
        """The logarithm of ``‖Δw‖ / ‖w‖`` of each matrix, its mean over the first steps."""
        model = self.model(seed)
        own = OPTIMIZERS[optimizer](model.parameters(), lr=lr)
        matrices = [p for p in model.parameters() if p.ndim > 1]
        logs = []
        for step in range(steps):
            before = [p.detach().clone() for p in matrices]
            self.step(model, own, seed, step)
            moved = [
                float(torch.log((p.detach() - old).norm() / old.norm()))
                for p, old in zip(matrices, before, strict=True)
            ]
            logs.append(moved)
        return list(np.mean(logs, axis=0))

    def rates(self, seed: int, optimizer: str, lr: float, told: Sequence[int]) -> list[float]:
        """The median of ``|Δw / g|`` over weights with a gradient, at these steps."""
        model, found = self.model(seed), []
        own = OPTIMIZERS[optimizer](model.parameters(), lr=lr)
        for step in range(1, 1 + max(told)):
            before = [p.detach().clone() for p in model.parameters()]
            self.step(model, own, seed, step)
            if step in told:
                ratios = [
                    ((p.detach() - old) / p.grad)[p.grad != 0].abs()
                    for p, old in zip(model.parameters(), before, strict=True)
                    if p.grad is not None
                ]
                found.append(float(torch.cat(ratios).median()))
        return found

    def step(self, model: nn.Module, optimizer: Any, seed: int, step: int) -> None:
        generator = torch.Generator().manual_seed(1000 * seed + step)
        index = torch.randint(self.workload.train_size, (128,), generator=generator)
        for p, gradient in zip(model.parameters(), self.gradients(model, index), strict=True):
            p.grad = gradient
        optimizer.step()


def _over_seeds(name: str, values: Sequence[float], confidence: float) -> Part:
    return Part(name, *map(float, mean_interval(np.array(values), confidence)))


@contextmanager
def prepared() -> Iterator[None]:
    """Where workloads are composed from, and one thread: what is measured is small, and two of them
    wait for each other where something else runs."""
    if str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))
    schema.register()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        torch.set_num_threads(threads)
