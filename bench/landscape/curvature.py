"""The curvature of a finished run's training loss where the run ended."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.landscape import stability
from bench.landscape.objective import Objective, drawn_examples
from bench.landscape.spectrum import (
    Ends,
    Product,
    Vector,
    cosine,
    diagonal,
    ends_of,
    lanczos,
    largest,
    spearman,
    trace,
)
from bench.records import Record
from bench.settings.schema import rule_of
from bench.trained import checkpoint, finished
from bench.training.run import optimizer_factory
from bench.workloads.models import loaded, seeded
from bench.workloads.workload import Place

EXACT = 500  # weights up to which the Hessian is written out
BATCHES = 100  # of which gradients are squared
SCHEMA = 1


@dataclass(kw_only=True)
class Curvature:
    """What ``curvature.json`` holds. Numbers are None, or NaN before it is written, where `notes`
    say why.

    Attributes:
        id: of the run.
        examples, train_size: how many training examples the loss is the mean over, of how many.
        parameters: P.
        probes: with which the trace is estimated; 0 where it is exact.
        coordinates: how many weights, drawn by the seed, correlations with the Hessian's diagonal
            are taken over. Each entry of it is exact.
        loss: with its l2 term; `gradient_norm`: of its gradient.
        top, bottom: eigenvalues of its Hessian, from the largest down, from the smallest up.
        condition: the first of `top` over the first of `bottom`, where that is positive.
        trace, trace_error: of the Hessian, and its standard error over probes.
        noise_scale: tr(S) / |g|², in examples (McCandlish et al. 2018, eq. 2.9), S the covariance
            of single examples' gradients: tr(S) is estimated with n - 1, and |g|² is that of the
            mean less tr(S) / n. Both are unbiased, their ratio is not.
        gradient_alignment, update_alignment: the size of the cosine with the eigenvector of the
            largest eigenvalue, of the gradient and of the optimizer's next step along it.
        edge: what the stability of the optimizer's steps goes by: the largest eigenvalue of the
            Hessian, or of the preconditioned one; `bound`: its bound at the last learning rate.
        state_correlation: Spearman's, of the root of the optimizer's squared gradients with the
            Hessian's diagonal: of AdaGrad's sum, of Adam's and RMSProp's moving average.
        sampled_correlation: the same of squared gradients of `BATCHES` batches, drawn and taken
            here. Ranks are the same for their sum and their mean.
        products: of the Hessian with a vector; `seconds`: that all took.
    """

    schema: int = SCHEMA
    id: str
    examples: int
    train_size: int
    seed: int
    parameters: int
    probes: int
    coordinates: int
    loss: float
    gradient_norm: float
    top: list[float]
    bottom: list[float]
    condition: float
    trace: float
    trace_error: float
    noise_scale: float
    gradient_alignment: float
    update_alignment: float
    edge: float
    bound: float
    state_correlation: float
    sampled_correlation: float
    products: int
    seconds: float
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Options:
    """
    Attributes:
        examples: of the training split, drawn by the seed unless there are no more.
        eigenvalues: of each end.
        probes, coordinates: as `Curvature` has them.
        seed: of whatever is drawn.
    """

    examples: int = 1000
    eigenvalues: int = 1
    probes: int = 100
    coordinates: int = 500
    seed: int = 0


def measure(directory: Path, options: Options) -> tuple[Record, Curvature]:
    """In float64, on the CPU, at the weights that were trained (not at their average).

    Raises:
        BenchError: that is no finished run whose weights are there, and finite.
    """
    start = time.perf_counter()
    record, workload, model = finished(directory, scored=False)
    workload.fetch()
    loaded(workload, Place(torch.device("cpu"), torch.float64))
    content = checkpoint(directory, record)
    with seeded(options.seed):
        examples = drawn_examples(workload, options.examples, options.seed)
        objective = Objective(workload, model.double(), examples)
        if not bool(objective.at.isfinite().all()):
            raise BenchError(f"{directory}: its weights are not finite ({record.status})")
        result = _measured(objective, record, content, options)
    result.seconds = time.perf_counter() - start
    return record, result


def _measured(
    objective: Objective, record: Record, content: Mapping[str, Any], options: Options
) -> Curvature:
    notes: list[str] = []
    products, size, seed = Counted(objective), objective.size, options.seed
    rng = np.random.default_rng(seed)
    if size <= max(EXACT, 2 * options.eigenvalues):
        matrix = dense(products, size)
        ends = ends_of(matrix, options.eigenvalues)
        traced, probes = (float(np.trace(matrix)), 0.0), 0
        places, entries = np.arange(size), matrix.diagonal()
    else:
        ends = lanczos(products, size, options.eigenvalues, seed=seed)
        traced, probes = trace(products, size, options.probes, seed=seed), options.probes
        places = rng.choice(size, min(size, options.coordinates), replace=False)
        entries = diagonal(products, size, places)
    for name, found in (("largest", ends.top), ("smallest", ends.bottom)):
        if len(found) < min(options.eigenvalues, size):
            notes.append(f"{len(found)} of {options.eigenvalues} {name} eigenvalues converged")
    gradient = objective.gradient(objective.at)
    state = state_of(content)
    update = next_update(objective, record, state, notes)
    edge, bound = edge_of(products, objective, record, ends, state, notes, seed=seed)
    own = own_squares(record, state)
    squares = squared_gradients(objective, record, seed=seed)
    return Curvature(
        id=record.id,
        examples=objective.count,
        train_size=objective.workload.train_size,
        seed=seed,
        parameters=size,
        probes=probes,
        coordinates=len(places),
        loss=objective.loss(objective.at),
        gradient_norm=float(gradient.norm()),
        top=ends.top.tolist(),
        bottom=ends.bottom.tolist(),
        condition=condition(ends, notes),
        trace=traced[0],
        trace_error=traced[1],
        noise_scale=noise_scale(objective, notes),
        gradient_alignment=alignment(gradient, ends, notes, "gradient"),
        update_alignment=math.nan if update is None else alignment(update, ends, notes, "update"),
        edge=edge,
        bound=bound,
        state_correlation=math.nan if own is None else spearman(np.sqrt(own[places]), entries),
        sampled_correlation=spearman(np.sqrt(squares[places]), entries),
        products=products.count,
        seconds=math.nan,
        notes=notes,
    )


class Counted:
    """Products with the Hessian, from NumPy to NumPy, and how many there were."""

    def __init__(self, objective: Objective) -> None:
        self.product, self.like, self.count = objective.hessian(), objective.at, 0

    def __call__(self, v: Vector) -> Vector:
        self.count += 1
        given = torch.as_tensor(np.ascontiguousarray(v)).to(self.like)
        return self.product(given).double().cpu().numpy()


def dense(product: Product, size: int) -> Vector:
    """The matrix ``[P, P]``; symmetric to the last bit."""
    matrix = np.stack([product(row) for row in np.eye(size)])
    return (matrix + matrix.T) / 2


def condition(ends: Ends, notes: list[str]) -> float:
    if not (len(ends.top) and len(ends.bottom)):
        return math.nan
    top, bottom = float(ends.top[0]), float(ends.bottom[0])
    if bottom > 1e-12 * abs(top):  # else it is rounding
        return top / bottom
    notes.append(f"no condition number: the smallest eigenvalue, {bottom:.3g}, is not positive")
    return math.nan


def alignment(vector: Tensor, ends: Ends, notes: list[str], what: str) -> float:
    if ends.vector is None:
        return math.nan
    found = abs(cosine(vector.numpy(), ends.vector))
    if math.isnan(found):
        notes.append(f"no alignment: the {what} is 0")
    return found


def noise_scale(objective: Objective, notes: list[str]) -> float:
    """As `Curvature.noise_scale`."""
    n = objective.count
    if not objective.batches[0][1]:  # a function without noise: each step has the same gradient
        return 0.0
    if n < 2:
        notes.append("no noise scale: there is one example")
        return math.nan
    total, squares = torch.zeros_like(objective.at), 0.0
    for gradient in objective.gradients(objective.examples.split(1)):
        total += gradient
        squares += float(gradient.square().sum())
    mean = float((total / n).square().sum())
    spread = n / (n - 1) * max(squares / n - mean, 0.0)
    length = mean - spread / n
    if length <= 0:
        notes.append("no noise scale: the gradient is lost in its noise on these examples")
        return math.nan
    return spread / length


def state_of(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The optimizer's, if the checkpoint holds one."""
    states = content.get("optimizer_states")
    return states[0] if states else None


def next_update(
    objective: Objective, record: Record, state: Mapping[str, Any] | None, notes: list[str]
) -> Tensor | None:
    """What the optimizer would add to the weights, ``[P]``, from where it was left, at the gradient
    of all examples; at its own learning rate, as only the direction is wanted."""
    options = record.config["optimizer"]
    rule = rule_of(options)
    if state is None and (rule is None or rule.slots):
        notes.append(
            f"no update: the checkpoint holds no state of {record.optimizer} (it trained in a "
            "stack)"
        )
        return None
    model = copy.deepcopy(objective.model)
    weights = list(model.parameters())
    optimizer = optimizer_factory(options)(model.named_parameters())
    rates = [group["lr"] for group in optimizer.param_groups]
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(dict(state)))
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr

    def closure() -> Tensor:
        at = torch.cat([p.detach().reshape(-1) for p in weights])
        for p, part in zip(weights, objective.named(objective.gradient(at)).values(), strict=True):
            p.grad = part.clone()
        return torch.tensor(objective.loss(at), dtype=at.dtype)

    optimizer.step(closure)  # type: ignore[arg-type]
    return torch.cat([p.detach().reshape(-1) for p in weights]) - objective.at


def edge_of(
    product: Product,
    objective: Objective,
    record: Record,
    ends: Ends,
    state: Mapping[str, Any] | None,
    notes: list[str],
    *,
    seed: int,
) -> tuple[float, float]:
    """The curvature that the stability of steps goes by, and its bound."""
    known = stability.bound(record.config, record.steps)
    if known.value is None:
        notes.append(f"no bound: {known.reason}")
        return math.nan, math.nan
    if known.slot is None:
        top = float(ends.top[0]) + known.weight_decay if len(ends.top) else math.nan
        return top, known.value
    if state is None:
        notes.append(
            f"no bound: the checkpoint holds no state of {record.optimizer}, by which it is "
            "preconditioned"
        )
        return math.nan, math.nan
    squares = slot_of(state, known.slot)
    scale = 1 / np.sqrt(known.root * np.sqrt(squares + known.initial) + known.eps)

    def preconditioned(v: Vector) -> Vector:
        scaled = scale * v
        return scale * (product(scaled) + known.weight_decay * scaled)

    if objective.size <= EXACT:
        return float(ends_of(dense(preconditioned, objective.size), 1).top[0]), known.value
    found, _ = largest(preconditioned, objective.size, 1, seed=seed)
    if not len(found):
        notes.append("the largest preconditioned eigenvalue did not converge")
    return float(found[0]) if len(found) else math.nan, known.value


def slot_of(state: Mapping[str, Any], name: str) -> Vector:
    """Of all parameters, ``[P]``."""
    own = [state["state"][i][name] for group in state["param_groups"] for i in group["params"]]
    return torch.cat([x.reshape(-1) for x in own]).double().numpy()


def own_squares(record: Record, state: Mapping[str, Any] | None) -> Vector | None:
    """The squared gradients that the optimizer has added up or averaged, if it does."""
    name = stability.squares_of(record.config["optimizer"])
    return None if name is None or state is None else slot_of(state, name)


def squared_gradients(objective: Objective, record: Record, *, seed: int) -> Vector:
    """The mean over batches of the size that the run has had, drawn by the seed; of a full batch
    the gradient itself, squared."""
    workload = objective.workload
    size = workload.batch_size
    if size == "full" or not objective.batches[0][1]:
        return objective.gradient(objective.at).square().numpy()
    generator = torch.Generator().manual_seed(seed)
    most = min(
        int(size) * record.config["trainer"].get("accumulate_grad_batches", 1), workload.train_size
    )
    parts = [
        torch.randint(workload.train_size, (most,), generator=generator) for _ in range(BATCHES)
    ]
    total = torch.zeros_like(objective.at)
    for gradient in objective.gradients(parts):
        total += gradient.square()
    return (total / BATCHES).numpy()
