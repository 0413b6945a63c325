"""What claims measure of the loss of a workload as a function of its weights: of minima, of
curvature, of how far derivatives foretell it, and of what second order costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from bench.analysis.intervals import mean_interval
from bench.claims.claim import Part
from bench.claims.direct import SEEDS, Problem
from bench.claims.measured import Line, Measured, Picture
from bench.landscape.costs import cost
from bench.landscape.objective import Objective, Products, drawn_examples, flat
from bench.landscape.spectrum import diagonal, spearman
from bench.landscape.taylor import followed, moved
from bench.workloads.models import drawn
from optimizers import OPTIMIZERS, Stack


def distance_of_ends(
    confidence: float,
    *,
    workload: Sequence[str],
    optimizer: str,
    lr: float,
    steps: int,
    examples: int = 1000,
    away: float = 0.0,
) -> Measured:
    """How far full-batch training from one start ends from where it does from others: the distance
    to the mean of all ends, over its length.

    Args:
        workload: its name, and other keys of it.
        away: the deviation of a normal draw that is added to each weight of a start.
    """
    problem = Problem.of(*workload)
    objective = _objective(problem, 0, examples)
    starts = torch.stack([flat(list(problem.model(seed).parameters())) for seed in range(SEEDS)])
    generator = torch.Generator().manual_seed(0)
    drawn_away = torch.randn(starts.shape, generator=generator, dtype=starts.dtype)
    stack = Stack(optimizer, [starts.detach() + away * drawn_away], {"lr": lr}, names=["weights"])
    (batch,) = [batch for _, batch in objective.batches]
    gradient = vmap(grad(objective.of_batch), (0, None))
    losses = vmap(objective.of_batch, (0, None))
    told, curve = sorted({round(step) for step in np.geomspace(1, steps, 40)}), []
    for step in range(1, 1 + steps):
        stack.step([gradient(stack.parameters[0], batch)])
        if step in told:
            curve.append(losses(stack.parameters[0], batch).detach().numpy())
    ends = stack.parameters[0].detach()
    middle = ends.mean(0)
    shares = ((ends - middle).norm(dim=1) / middle.norm()).numpy()
    rows = np.array(curve)  # [T, S]
    lines = [Line(f"start {k + 1}", told, list(rows[:, k])) for k in range(3)]
    last = rows[-1]
    note = f"The losses where they end lie between {last.min():.4g} and {last.max():.4g}."
    picture = Picture("step", "training loss", lines, True, True)
    return Measured([Part(workload[0], *mean_interval(shares, confidence))], [picture], note)


def squares_follow_curvature(
    confidence: float,
    *,
    workloads: str,
    steps: int = 100,
    coordinates: int = 300,
    examples: int = 500,
) -> Measured:
    """Spearman's correlation, over weights, of the root of AdaGrad's sum of squared gradients after
    some steps with the diagonal of the Hessian there, whose entries are exact."""
    parts = []
    for name in workloads.split(","):
        problem, found = Problem.of(name), []
        for seed in range(SEEDS):
            model = problem.model(seed)
            own = OPTIMIZERS["adagrad"](model.parameters(), lr=0.01)
            total = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
            for step in range(steps):
                problem.step(model, own, seed, step)
                total += flat([p.grad for p in model.parameters() if p.grad is not None]).square()
            objective = Objective(
                problem.workload, model, drawn_examples(problem.workload, examples, seed)
            )
            rng = np.random.default_rng(seed)
            places = rng.choice(objective.size, min(coordinates, objective.size), replace=False)
            entries = diagonal(Products(objective), objective.size, places)
            found.append(spearman(total.sqrt().numpy()[places], entries))
        parts.append(Part(name, *mean_interval(np.array(found), confidence)))
    return Measured(parts)


def taylor_circle(confidence: float, *, workloads: str, examples: int = 100) -> Measured:
    """The length of the weights over how far along the gradient the loss falls as the first order
    foretells, to a tenth; at the beginning."""
    parts, pictures = [], []
    for name in workloads.split(","):
        problem, ratios = Problem.of(name), []
        lines: list[Line] = []
        for seed in range(SEEDS):
            objective = _objective(problem, seed, examples)
            gradient = objective.gradient(objective.at)
            way = followed(
                objective,
                "gradient",
                moved(objective.at, "sgd", [gradient]),
                gradient,
                objective.hessian(),
            )
            ratios.append(float(objective.at.norm()) / (way.first_radius or np.nan))
            if not lines:
                share = way.lengths / float(objective.at.norm())
                lines = [
                    Line("the loss falls by", list(share), list(way.real)),
                    Line("first order", list(share), list(way.first)),
                ]
        found = mean_interval(np.log(ratios), confidence)
        parts.append(Part(name, *map(float, np.exp(found))))
        pictures.append(
            Picture("distance over the length of the weights", "fall", lines, True, True, name)
        )
    return Measured(parts, pictures)


def second_order_cost(
    confidence: float, *, sizes: str = "500,1000,2000", repeats: int = 5
) -> Measured:
    """How many times as long a step of Newton's method takes as one of Adam's, at the largest of
    these numbers of parameters."""
    numbers = [int(size) for size in sizes.split(",")]
    seconds = {
        name: np.array([[cost(name, size).seconds for _ in range(repeats)] for size in numbers])
        for name in ("newton", "adam")
    }  # [sizes, repeats]
    ratio = np.log(seconds["newton"] / seconds["adam"])
    found = np.exp(mean_interval(ratio[-1], confidence))
    lines = [Line(name, numbers, list(np.median(x, axis=1))) for name, x in seconds.items()]
    memory = cost("newton", numbers[-1]).memory / 2**20
    note = f"At {numbers[-1]:,} parameters Newton's step takes {memory:.0f} MiB more memory."
    picture = Picture("parameters", "seconds a step", lines, True, True)
    return Measured([Part(f"{numbers[-1]:,} parameters", *map(float, found))], [picture], note)


LOSSES: Mapping[str, Callable[..., Measured]] = {
    function.__name__: function
    for function in (distance_of_ends, squares_follow_curvature, taylor_circle, second_order_cost)
}


def _objective(problem: Problem, seed: int, examples: int) -> Objective:
    model = drawn(problem.workload, seed).double()
    return Objective(problem.workload, model, _drawn(problem, examples))


def _drawn(problem: Problem, examples: int) -> Tensor | None:
    return drawn_examples(problem.workload, examples, 0)
