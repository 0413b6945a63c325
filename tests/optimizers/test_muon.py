"""Rules on matrices: Muon against its definition, against PyTorch's, and what is no matrix."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from optimizers import AdamW, Muon, Stack, rules
from optimizers.lr_scheduler import ScheduledLR
from optimizers.optimizer import Optimizer
from optimizers.paths import choose
from optimizers.paths.eager import Matrices
from optimizers.rule import Matrixwise
from optimizers.rules import RULES
from optimizers.schedules import Cosine
from tests.cases import MATRIX_CASES, Case
from tests.optimizers.helpers import (
    descend,
    equal,
    make_parameters,
    relative_error,
    set_gradients,
)

# A kernel, a bias, two matrices of one shape, a scalar, a tall one, a wide one, none at all.
SHAPES = [(4, 3, 3, 2), (7,), (6, 5), (6, 5), (), (17, 3), (2, 40), (5, 0), (3, 4, 2)]
MATRICES = [(6, 5), (5, 6), (8, 8), (40, 3), (6, 5)]


class Literal:
    """Muon as it is defined, in float64: one matrix, one run, one step after another."""

    def __init__(self, parameters: Sequence[Tensor], rest: Sequence[int], **h: Any) -> None:
        self.p = [p.detach().double().numpy().copy() for p in parameters]
        self.state = [np.zeros((2, *p.shape)) for p in self.p]
        self.rest, self.h, self.t = rest, h, 0

    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        self.t += 1
        for i, gradient in enumerate(gradients):
            g = gradient.double().numpy()
            p, state = self.p[i], self.state[i]
            if i in self.rest:
                self.p[i] = self.adamw(p, g, state, lr * self.h.get("adamw_lr_ratio", 1.0))
            else:
                self.p[i] = self.muon(p, g, state, lr)

    def muon(self, p: np.ndarray, g: np.ndarray, state: np.ndarray, lr: float) -> np.ndarray:
        momentum, decay = self.h.get("momentum", 0.95), self.h.get("weight_decay", 0.1)
        state[0] = momentum * state[0] + (1 - momentum) * g
        m = state[0]
        if self.h.get("nesterov", True):
            m = momentum * m + (1 - momentum) * g
        x = m.reshape(len(m), -1)
        rows, columns = x.shape
        x = x / max(np.sqrt((x * x).sum()), self.h.get("eps", 1e-7))
        a, b, c = 3.4445, -4.7750, 2.0315
        for _ in range(self.h.get("ns_steps", 5)):
            gram = x @ x.T
            x = a * x + b * gram @ x + c * gram @ gram @ x
        if self.h.get("adjust_lr_fn", "original") == "original":
            scale = math.sqrt(max(1.0, rows / columns))
        else:
            scale = 0.2 * math.sqrt(max(rows, columns))
        return (1 - lr * decay) * p - lr * scale * x.reshape(p.shape)

    def adamw(self, p: np.ndarray, g: np.ndarray, state: np.ndarray, lr: float) -> np.ndarray:
        beta1, beta2 = self.h.get("adamw_beta1", 0.9), self.h.get("adamw_beta2", 0.999)
        state[0] = beta1 * state[0] + (1 - beta1) * g
        state[1] = beta2 * state[1] + (1 - beta2) * g * g
        m, v = state[0] / (1 - beta1**self.t), state[1] / (1 - beta2**self.t)
        p = (1 - lr * self.h.get("weight_decay", 0.1)) * p
        return p - lr * m / (np.sqrt(v) + self.h.get("adamw_eps", 1e-8))


def distance(ours: Sequence[Tensor], literal: Literal) -> float:
    return relative_error(ours, [torch.from_numpy(np.asarray(p)).to(ours[0]) for p in literal.p])


SETTINGS: list[dict[str, Any]] = [
    {},
    {"nesterov": False, "weight_decay": 0.0},
    {"momentum": 0.5, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw"},
    {"ns_steps": 0, "eps": 3.0},
    {"adamw_lr_ratio": 0.1, "adamw_beta1": 0.5, "adamw_beta2": 0.9, "adamw_eps": 1e-3},
]
# In float32, five iterations carry each rounding on: up to 3.4445⁵ of the smallest singular values.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_it_is_its_definition(settings: dict[str, Any], dtype: torch.dtype) -> None:
    """Under a schedule; a kernel is a matrix, too, in whatever memory format."""
    ours = make_parameters(SHAPES, dtype)
    ours[0].data = ours[0].data.to(memory_format=torch.channels_last)
    literal = Literal(ours, [i for i, s in enumerate(SHAPES) if len(s) < 2 or 0 in s], **settings)
    optimizer, schedule = Muon(ours, lr=0.1, **settings), Cosine(total_steps=20)
    scheduler = ScheduledLR(optimizer, schedule)
    for t in range(12):
        set_gradients(ours, seed=t)
        literal.step([p.grad for p in ours if p.grad is not None], 0.1 * float(schedule(t)))
        optimizer.step()
        scheduler.step()
    assert distance(ours, literal) <= TOLERANCE[dtype]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_row_of_a_stack_is_its_definition(settings: dict[str, Any]) -> None:
    """A stacked bias `[K, n]` is no matrix, and a stacked matrix is K of them."""
    rates = [0.01, 0.1, 1.0]
    generator = torch.Generator().manual_seed(1)
    stacked = [torch.randn(3, *s, dtype=torch.float64, generator=generator) for s in SHAPES]
    rest = [i for i, s in enumerate(SHAPES) if len(s) < 2 or 0 in s]
    rows = [Literal([p[k].clone() for p in stacked], rest, **settings) for k in range(3)]
    stack = Stack("muon", stacked, {"lr": rates, **settings})
    for _ in range(6):
        gradients = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in stacked]
        stack.step(gradients)
        for k, row in enumerate(rows):
            row.step([g[k] for g in gradients], rates[k])
    for k, row in enumerate(rows):
        assert distance([p[k] for p in stacked], row) <= 1e-12


@pytest.mark.parametrize("case", MATRIX_CASES, ids=str)
def test_it_is_pytorchs_but_for_its_bfloat16(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its rounding taken out they are the same; with it, they differ by at most 2 % of the way
    that the parameters went (0.5 % was measured; bfloat16 has 8 bits)."""
    start = make_parameters(MATRICES, torch.float64)
    ours, exact, rounded = (make_parameters(MATRICES, torch.float64) for _ in range(3))
    optimizer = case.optimizer(ours)
    descend([optimizer, case.oracle(rounded)], ours, rounded, steps=20)
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)
    descend([case.oracle(exact)], exact, steps=20)
    assert relative_error(ours, exact) <= 1e-12
    way = [p.detach() - q.detach() for p, q in zip(exact, start, strict=True)]
    off = [p.detach() - q.detach() + w for p, q, w in zip(rounded, ours, way, strict=True)]
    assert 1e-5 < relative_error(off, way) <= 0.02


@pytest.mark.parametrize("case", MATRIX_CASES, ids=str)
def test_pytorch_goes_on_from_our_state_dict_and_we_from_its(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)
    ours, whole = (make_parameters(MATRICES, torch.float64) for _ in range(2))
    first, alone = case.optimizer(ours), case.oracle(whole)
    descend([first, alone], ours, whole, steps=5)
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    second = case.oracle(theirs)
    second.load_state_dict(first.torch_state_dict())
    assert second.state_dict()["param_groups"] == alone.state_dict()["param_groups"] or (
        alone.param_groups[0]["adjust_lr_fn"] is None
    )
    third = Muon(ours)
    third.load_state_dict(second.state_dict())
    for name, value in case.settings.items():
        assert third.param_groups[0][name] == value
    descend([second, third, alone], ours, theirs, whole, steps=5, start=5)
    assert relative_error(theirs, whole) <= 1e-12
    assert relative_error(ours, whole) <= 1e-12


@pytest.mark.parametrize(
    ("shapes", "settings", "message"),
    [
        ([(3,)], {}, r"torch.optim.Muon has no parameters of shape \[3\]"),
        ([(3, 2, 2)], {}, r"torch.optim.Muon has no parameters of shape \[3, 2, 2\]"),
        ([(3, 2)], {"maximize": True}, "maximize=True has no counterpart in torch.optim.Muon"),
        ([(3, 2)], {"clip_norm": 1.0}, "clip_norm=1.0 has no counterpart in torch.optim.Muon"),
        ([(3, 2)], {"exclude": "*"}, r"exclude='\*' has no counterpart in torch.optim.Muon"),
    ],
)
def test_what_pytorchs_cannot_do(
    shapes: list[tuple[int, ...]], settings: dict[str, Any], message: str
) -> None:
    parameters = make_parameters(shapes)
    optimizer = Muon(parameters, **settings)
    descend([optimizer], parameters, steps=1)
    with pytest.raises(ValueError, match=message):
        optimizer.torch_state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ns_coefficients": (1.0, 2.0)}, r"ns_coefficients=\(1.0, 2.0\) is not accepted: it must"),
        ({"ns_coefficients": 3}, "ns_coefficients=3 is not accepted: it must be three numbers"),
        ({"adjust_lr_fn": "mine"}, "adjust_lr_fn='mine' is not accepted: it must be one of"),
        ({"ns_steps": 100}, "ns_steps=100 is not accepted"),
    ],
)
def test_what_is_not_pytorchs_muons(change: Mapping[str, Any], message: str) -> None:
    saved = torch.optim.Muon(make_parameters([(3, 2)])).state_dict()
    saved["param_groups"][0].update(change)
    with pytest.raises(ValueError, match=message):
        Muon(make_parameters([(3, 2)])).load_state_dict(saved)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "embedding": nn.Embedding(9, 4),
            "hidden": nn.Linear(4, 4),
            "norm": nn.LayerNorm(4),
            "head": nn.Linear(4, 9),
        }
    )


def by_slots(optimizer: Muon, module: nn.Module) -> set[str]:
    """The names of what went by Muon."""
    named = module.named_parameters()
    return {name for name, p in named if optimizer.state[p].keys() == {"step", "m"}}


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("", {"embedding.weight", "hidden.weight", "head.weight"}),
        ("embedding.* head.*", {"hidden.weight"}),
        ("  embedding.weight", {"hidden.weight", "head.weight"}),
        ("*", set()),
    ],
)
def test_what_is_excluded_by_name(exclude: str, left: set[str]) -> None:
    """Goes by AdamW, to the last bit, as biases and norms do; in a stack, too."""
    ours, theirs = model(), model()
    a = Muon(ours.named_parameters(), lr=0.1, exclude=exclude)
    b = AdamW(theirs.named_parameters(), lr=0.1, weight_decay=0.1)
    names = [name for name, _ in ours.named_parameters()]
    stacked = [torch.stack([p.detach(), p.detach()]) for p in ours.parameters()]
    stack = Stack("muon", stacked, {"lr": 0.1, "exclude": exclude}, names=names)
    for t in range(4):
        set_gradients(list(ours.parameters()), list(theirs.parameters()), seed=t)
        gradients = [p.grad.expand(2, *p.shape) for p in ours.parameters() if p.grad is not None]
        a.step()
        b.step()
        stack.step(gradients)
    assert by_slots(a, ours) == left
    for (name, p), q, rows in zip(
        ours.named_parameters(), theirs.parameters(), stacked, strict=True
    ):
        assert torch.equal(p, q) == (name not in left)
        torch.testing.assert_close(rows, p.detach().expand_as(rows), rtol=1e-5, atol=1e-6)


def test_a_group_may_be_excluded_without_names() -> None:
    ours, theirs = make_parameters([(3, 2), (4, 4)]), make_parameters([(3, 2), (4, 4)])
    a = Muon([{"params": ours[:1]}, {"params": ours[1:], "exclude": "*", "lr": 0.01}], lr=0.1)
    b = Muon(theirs[:1], lr=0.1)
    c = AdamW(theirs[1:], lr=0.01, weight_decay=0.1)
    descend([a, b, c], ours, theirs, steps=4)
    assert equal(ours, theirs)


def test_names_may_be_in_one_of_several_groups() -> None:
    module = model()
    named = list(module.named_parameters())
    groups = [{"params": named[:2]}, {"params": named[2:]}]
    optimizer = Muon(groups, exclude="head.*")
    set_gradients(list(module.parameters()), seed=0)
    optimizer.step()
    assert by_slots(optimizer, module) == {"embedding.weight", "hidden.weight"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exclude": "hed.*"}, r"exclude='hed\.\*' is no parameter's name: they are embedding\.we"),
        ({"exclude": "head.* emb"}, "exclude='emb' is no parameter's name"),
        ({"exclude": 3}, "exclude=3 is not accepted: it must be text"),
        ({"path": "compiled"}, "path='compiled' cannot carry Muon, a rule on whole matrices: it m"),
        ({"path": "quick"}, "path='quick' is not accepted"),
        ({"ns_steps": 2.5}, r"ns_steps=2.5 is not accepted: it must be in \[0, 100\)"),
    ],
)
def test_mistakes(settings: dict[str, Any], message: str) -> None:
    """In a stack as alone."""
    named = list(model().named_parameters())
    stacked = [p.detach().expand(2, *p.shape).clone() for _, p in named]
    path = {"path": settings.pop("path")} if "path" in settings else {}
    with pytest.raises(ValueError, match=message):
        Muon(named, **settings, **path)
    with pytest.raises(ValueError, match=message):
        Stack("muon", stacked, settings, names=[name for name, _ in named], **path)


class Polar(Matrixwise):
    """A person's own: the polar factor of the gradient, by its singular vectors."""

    rest = rules.SGD
    hyperparameters: ClassVar = {**rules.SGD.hyperparameters, **Matrixwise.hyperparameters}

    @staticmethod
    def coefficients(h: Any, t: int) -> dict[str, Any]:
        return {"lr": h.lr}

    @staticmethod
    def update(p: Any, g: Any, state: Any, c: Any) -> Any:
        u, _, v = torch.linalg.svd(g, full_matrices=False)
        return p - c.lr * (u @ v), ()


class PolarOptimizer(Optimizer):
    rule = Polar


def test_another_rule_on_matrices() -> None:
    """Alone and in a stack, with a kernel and a bias among its parameters."""
    shapes = [(4, 3, 2), (5,), (6, 6)]
    ours = make_parameters(shapes, torch.float64)
    start = [p.detach().clone() for p in ours]
    stacked = [torch.stack([p.detach()] * 2) for p in ours]
    set_gradients(ours, seed=0)
    PolarOptimizer(ours, lr=0.5).step()
    Stack(Polar, stacked, {"lr": [0.5, 0.1]}).step([torch.stack([p.grad] * 2) for p in ours])
    for p, q, rows in zip(ours, start, stacked, strict=True):
        torch.testing.assert_close(rows[0], p.detach())
        torch.testing.assert_close(5 * (rows[1] - q), rows[0] - q)
    step = (ours[2].detach() - start[2]) / 0.5
    torch.testing.assert_close(step @ step.T, torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Wrong names no elementwise rule as `rest`, for biases"),
        ({"rest": Polar}, "Wrong names no elementwise rule as `rest`"),
        (
            {"rest": rules.SGD},
            "Wrong has no lr, weight_decay: what is no matrix goes by SGD, on the",
        ),
        (
            {"rest": rules.SGD, "hyperparameters": rules.SGD.hyperparameters},
            "Wrong has no exclude: what is no matrix goes by SGD",
        ),
    ],
)
def test_a_rule_that_breaks_the_contract_is_refused_at_once(
    body: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        type("Wrong", (Matrixwise,), body)


def test_names_that_are_not_known() -> None:
    message = r"^exclude='head\.\*' goes by names, and the parameters have none: give model\.named_"
    with pytest.raises(ValueError, match=message):
        Muon(model().parameters(), exclude="head.*")
    with pytest.raises(ValueError, match=message):
        Stack("muon", [torch.ones(2, 3, 4)], {"exclude": "head.*"})


def test_a_path_that_cannot_carry_it_says_so_between_steps() -> None:
    ours = make_parameters([(3, 2), (4,)])
    optimizer = Muon(ours)
    descend([optimizer], ours, steps=1)
    before = [p.detach().clone() for p in ours]
    optimizer.param_groups[0]["path"] = "compiled"
    with pytest.raises(ValueError, match="path='compiled' cannot carry Muon"):
        optimizer.step()
    assert equal(ours, before)
    with pytest.raises(ValueError, match="path='compiled' cannot carry Muon"):
        choose("compiled", RULES["muon"], ours, [])


def test_auto_takes_what_can() -> None:
    ours = make_parameters([(3, 2), (4,)])
    auto, eager = Muon(ours), Muon(ours, path="eager")
    set_gradients(ours, seed=0)
    paths = [[ready.batch.path for ready in o._ready()] for o in (auto, eager)]
    assert [isinstance(path[0], Matrices) for path in paths] == [True, True]
    assert [type(path[1]).__name__ for path in paths] == ["Native", "Eager"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_a_gradient_of_zero_moves_nothing(dtype: torch.dtype, eps: float) -> None:
    ours = [torch.ones(s, dtype=dtype) for s in SHAPES]
    stacked = [torch.ones(2, *s, dtype=dtype) for s in SHAPES]
    optimizer = Muon(ours, lr=0.1, eps=eps, weight_decay=0.0)
    stack = Stack("muon", stacked, {"lr": 0.1, "eps": [0.0, eps], "weight_decay": 0.0})
    for _ in range(3):
        for p in ours:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        stack.step([torch.zeros_like(p) for p in stacked])
    assert all(bool((p == 1).all()) for p in [*ours, *stacked])


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e6, 1e18])
def test_the_scale_of_the_loss_does_not_matter(scale: float) -> None:
    ours, theirs = make_parameters(MATRICES), make_parameters(MATRICES)
    a, b = Muon(ours, 0.1, eps=0.0), Muon(theirs, 0.1, eps=0.0)
    for t in range(5):
        set_gradients(ours, theirs, seed=t)
        for p in ours:
            assert p.grad is not None
            p.grad *= scale
        a.step()
        b.step()
    assert relative_error(ours, theirs) <= 1e-5


def test_a_step_is_orthogonal_whatever_the_shape_and_has_the_size_that_is_said() -> None:
    """Singular values between 0.6 and 1.3 times the learning rate, and AdamW's root mean square."""
    for shape in [(64, 64), (100, 30), (30, 100), (16, 4, 3, 3)]:
        for adjust, size in (
            ("original", lambda r, c: max(1, r / c) ** 0.5),
            ("match_rms_adamw", lambda r, c: 0.2 * max(r, c) ** 0.5),
        ):
            (p,) = make_parameters([shape], torch.float64)
            before = p.detach().clone()
            optimizer = Muon([p], 0.1, weight_decay=0.0, adjust_lr_fn=adjust)
            descend([optimizer], [p], steps=1)
            step = ((before - p.detach()) / 0.1).flatten(1)
            values = torch.linalg.svdvals(step) / size(*step.shape)
            assert 0.6 < values.quantile(0.1) < values.max() < 1.3
            if adjust == "match_rms_adamw":
                assert 0.15 < step.square().mean().sqrt() < 0.25


def test_matrices_of_one_shape_step_as_each_alone() -> None:
    shapes = [(8, 6)] * 5 + [(300, 300)] * 2
    ours, theirs = make_parameters(shapes), make_parameters(shapes)
    descend([Muon(ours, 0.1), *(Muon([p], 0.1) for p in theirs)], ours, theirs, steps=5)
    assert relative_error(ours, theirs) <= 1e-5


def test_half_precision_computes_in_float32() -> None:
    ours, theirs = make_parameters(SHAPES), make_parameters(SHAPES)
    halves = [p.detach().bfloat16().requires_grad_() for p in ours]
    for p, half in zip(ours, halves, strict=True):
        p.data = half.detach().float()
    descend([Muon(ours, 0.1), Muon(halves, 0.1)], ours, theirs, steps=1)
    for half, p in zip(halves, ours, strict=True):
        half.grad = None if p.grad is None else p.grad.bfloat16()
    Muon(halves, 0.1).step()
    assert relative_error([h.float() for h in halves], ours) <= 2**-8


def test_autocast_does_not_reach_it() -> None:
    ours, theirs = make_parameters(MATRICES), make_parameters(MATRICES)
    a, b = Muon(ours, 0.1), Muon(theirs, 0.1)
    for t in range(3):
        set_gradients(ours, theirs, seed=t)
        with torch.autocast("cpu", torch.bfloat16):
            a.step()
        b.step()
    assert equal(ours, theirs)


def test_a_state_dict_in_the_middle_changes_nothing() -> None:
    whole, parts = model(), model()
    settings: dict[str, Any] = {"lr": 0.1, "exclude": "head.*", "ns_steps": 4}
    first, alone = (Muon(m.named_parameters(), **settings) for m in (parts, whole))
    descend([first, alone], list(parts.parameters()), list(whole.parameters()), steps=3)
    second = Muon(parts.named_parameters())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.param_groups[0]["exclude"] == "head.*"
    descend([second, alone], list(parts.parameters()), list(whole.parameters()), steps=3, start=3)
    assert equal(list(parts.parameters()), list(whole.parameters()))


@pytest.mark.parametrize(
    ("index", "slot", "accepted"),
    [(0, "m", False), (1, "v", False), (1, "m", False), (0, "v", True)],
)
def test_state_that_is_not_whole_is_refused(index: int, slot: str, accepted: bool) -> None:
    """By what each parameter goes: a matrix has no v to miss."""
    parameters = make_parameters([(3, 2), (4,)])
    optimizer = Muon(parameters)
    descend([optimizer], parameters, steps=1)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][index].pop(slot, None)
    if accepted:
        Muon(parameters).load_state_dict(saved)
    else:
        with pytest.raises(ValueError, match=f"the state of parameter {index} lacks {slot}"):
            Muon(parameters).load_state_dict(saved)


@pytest.mark.parametrize("path", ["auto", "eager"])
def test_clipping_is_by_the_norm_of_all(path: str) -> None:
    """Of what Muon moves and what AdamW moves together; without it, a scale moves Muon nowhere."""
    ours, theirs = make_parameters(SHAPES), make_parameters(SHAPES)
    a, b = Muon(ours, 0.1, clip_norm=0.3, path=path), Muon(theirs, 0.1, path=path)
    for t in range(4):
        set_gradients(ours, theirs, seed=t)
        torch.nn.utils.clip_grad_norm_(theirs, 0.3)
        a.step()
        b.step()
    assert relative_error(ours, theirs) <= 1e-5


@pytest.mark.parametrize("decayed", ["all", "weights"])
def test_decay_of_both_parts(decayed: str) -> None:
    """Weight decay is that of both parts, and by what is said only of weights."""
    ours, plain = make_parameters([(3, 2), (4,)]), make_parameters([(3, 2), (4,)])
    starts = [p.detach().clone() for p in ours]
    a = Muon(ours, 0.1, weight_decay=0.5, weight_decay_on=decayed, adamw_lr_ratio=0.5)
    b = Muon(plain, 0.1, weight_decay=0.0, adamw_lr_ratio=0.5)
    descend([a, b], ours, plain, steps=1)
    shares = [0.1 * 0.5, 0.05 * 0.5 if decayed == "all" else 0.0]
    for p, q, start, share in zip(ours, plain, starts, shares, strict=True):
        torch.testing.assert_close(q.detach() - p.detach(), share * start, rtol=1e-4, atol=1e-6)


def test_iterations_may_change_between_steps_and_in_a_stack() -> None:
    """A run that has had its iterations waits for the others."""
    ours = make_parameters([(5, 4)], torch.float64)
    literal = Literal(ours, [], ns_steps=5)
    optimizer = Muon(ours, 0.1)
    rows = torch.stack([ours[0].detach()] * 3)
    stack = Stack("muon", [rows], {"lr": 0.1, "ns_steps": [2, 9, 5]})
    for t, iterations in enumerate([5, 2, 9]):
        literal.h["ns_steps"] = optimizer.param_groups[0]["ns_steps"] = iterations
        set_gradients(ours, seed=t)
        assert ours[0].grad is not None
        stack.step([ours[0].grad.expand(3, 5, 4)], ns_steps=[2, 9, iterations])
        literal.step([ours[0].grad], 0.1)
        optimizer.step()
    assert distance(ours, literal) <= 1e-12
    torch.testing.assert_close(rows[2], ours[0].detach(), rtol=1e-12, atol=1e-14)
    assert not torch.allclose(rows[0], rows[2])
