"""Every rule, in order of increasing complexity.

`p` parameter, `g` gradient, `h` hyperparameters, `t` the step from 1, `c` coefficients. The shape
contract is in `rule.py`. Weight decay is L2 unless a rule is `Decoupled`; defaults are PyTorch's
where it has the method.
"""
# ruff: noqa: RUF002, RUF012 -- formulas have their own signs; no slots or hyperparameters are ever changed

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from math import exp
from types import SimpleNamespace

from .rule import (
    Decoupled,
    Hyperparameter,
    Matrixwise,
    Rule,
    choice,
    flag,
    fraction,
    nonnegative,
    real,
)

# The smallest number of full precision in C's float.
TINY = 2.0**-126


def positive(eps):
    """Where eps is 0 the smallest number stands for it, so that 0/0 is 0: a gradient of zero moves
    nothing."""
    return eps + TINY * (eps == 0)


class SGD(Rule):
    """Gradient descent: `p ← p − lr·g`."""

    hyperparameters = {"lr": nonnegative(1e-3), "weight_decay": nonnegative(0.0)}

    @staticmethod
    def coefficients(h, t):
        return {"lr": h.lr}

    @staticmethod
    def update(p, g, state, c):
        return p - c.lr * g, ()


class Normalised(Rule):
    """Each gradient over its own magnitude: Adam with beta1 = beta2 = 0; signSGD where eps = 0."""

    hyperparameters = {
        "lr": nonnegative(1e-3),
        "weight_decay": nonnegative(0.0),
        "eps": nonnegative(1e-8),
    }

    @staticmethod
    def coefficients(h, t):
        return {"lr": h.lr, "eps": positive(h.eps)}

    @staticmethod
    def update(p, g, state, c):
        return p - c.lr * g / (g.abs() + c.eps), ()


class Momentum(Rule):
    """A ball with friction (Polyak, 1964). The forms differ in what the velocity holds:

    - `velocity`: `v ← ρv − lr·g`, `p ← p + v`. A past learning rate is remembered in v.
    - `heavy_ball`, PyTorch's: `v ← ρv + g`, `p ← p − lr·v`.
    - `average`: `v ← ρv + (1 − ρ)g`, `p ← p − lr·v`.

    At a constant learning rate the first two give the same p, and the third does at lr/(1 − ρ).
    With momentum 0 each is SGD. All forms are one update, its coefficients chosen by form.
    """

    slots = ["v"]
    hyperparameters = {
        "lr": nonnegative(1e-3),
        "weight_decay": nonnegative(0.0),
        "momentum": fraction(0.9),
        "form": choice("velocity", "heavy_ball", "average"),
    }

    @staticmethod
    def coefficients(h, t):
        force, move = {
            "velocity": (-h.lr, 1.0),
            "heavy_ball": (1.0, -h.lr),
            "average": (1 - h.momentum, -h.lr),
            "average_ahead": (1 - h.momentum, -h.lr),  # Nesterov's alone
        }[h.form]
        return {"momentum": h.momentum, "force": force, "move": move}

    @staticmethod
    def update(p, g, state, c):
        (v,) = state
        v = c.momentum * v + c.force * g
        return p + c.move * v, (v,)


class Nesterov(Momentum):
    """Momentum with the gradient at the look-ahead point (Nesterov, 1983; forms as in `Momentum`).

    The parameters held are that point, `p = x + ρv`, so the gradient is taken where they are:
    `x ← x + v'` becomes `p ← p + v' + ρ(v' − v)`. `iterate` gives x. PyTorch's `nesterov=True` is
    `heavy_ball`. That form and `average` take a step with the present learning rate only, so there
    p is the look-ahead point exactly while the learning rate is constant; in `velocity`, always.
    `average_ahead` is `average` that looks ahead by all of the last step, `p = x − lr·v`.
    """

    hyperparameters = {
        **Momentum.hyperparameters,
        "form": choice("velocity", "heavy_ball", "average", "average_ahead"),
    }

    @staticmethod
    def coefficients(h, t):
        ahead = 1.0 if h.form == "average_ahead" else h.momentum
        return {**Momentum.coefficients(h, t), "ahead": ahead}

    @staticmethod
    def update(p, g, state, c):
        (v,) = state
        v_next = c.momentum * v + c.force * g
        return p + c.move * (v_next + c.ahead * (v_next - v)), (v_next,)

    @staticmethod
    def iterate(p, state, c):
        (v,) = state
        return p - c.move * c.ahead * v


class AdaGrad(Rule):
    """A step for each coordinate, shrinking as its gradients add up (Duchi et al., 2011, JMLR 12).

    The same as a learning rate of `η/√(t + 1)` over the root mean square of all gradients so far.
    The state leaves `initial_accumulator` out, so that it too starts at zero.
    """

    slots = ["s"]
    hyperparameters = {
        "lr": nonnegative(1e-2),
        "weight_decay": nonnegative(0.0),
        "eps": nonnegative(1e-10),
        "initial_accumulator": nonnegative(0.0),
    }

    @staticmethod
    def coefficients(h, t):
        return {"lr": h.lr, "eps": positive(h.eps), "initial": h.initial_accumulator}

    @staticmethod
    def update(p, g, state, c):
        (s,) = state
        s = s + g * g
        return p - c.lr * g / ((s + c.initial).sqrt() + c.eps), (s,)


class RMSProp(Rule):
    """AdaGrad that forgets (Tieleman & Hinton, 2012, Coursera lecture 6e).

    `decay` is PyTorch's alpha. `centred` divides by a standard deviation in place of the root mean
    square (Graves, 2013, arXiv:1308.0850, eq. 38–45); `momentum` collects the steps.
    """

    slots = ["s"]
    hyperparameters = {
        "lr": nonnegative(1e-2),
        "weight_decay": nonnegative(0.0),
        "decay": fraction(0.99),
        "eps": nonnegative(1e-8),
        "centred": flag(False),
        "momentum": fraction(0.0),
    }

    @staticmethod
    def coefficients(h, t):
        return {
            "lr": h.lr,
            "decay": h.decay,
            "fresh": 1 - h.decay,
            "eps": positive(h.eps),
            "centred": 1.0 * h.centred,
            "momentum": h.momentum,
        }

    @staticmethod
    def update(p, g, state, c):
        (s,) = state
        s = c.decay * s + c.fresh * g * g
        return p - c.lr * (g / (s.sqrt() + c.eps)), (s,)

    @classmethod
    def variant(cls, h):
        return RMSPropFull if h.centred or h.momentum else cls


class RMSPropFull(RMSProp):
    """RMSProp with the two slots that centring and momentum need.

    The variance is at least 0, which rounding makes of a constant gradient's in PyTorch: NaN.
    """

    slots = ["s", "mean", "v"]

    @staticmethod
    def update(p, g, state, c):
        s, mean, v = state
        s = c.decay * s + c.fresh * g * g
        mean = c.decay * mean + c.fresh * g
        variance = s - c.centred * mean * mean
        variance = 0.5 * (variance + variance.abs())
        v = c.momentum * v + g / (variance.sqrt() + c.eps)
        return p - c.lr * v, (s, mean, v)


def averages(h):
    """Of moving averages, `a ← β·a + (1 − β)·x`."""
    return {"beta1": h.beta1, "fresh1": 1 - h.beta1, "beta2": h.beta2, "fresh2": 1 - h.beta2}


class Adam(Rule):
    """Adaptive moments (Kingma & Ba, 2015, arXiv:1412.6980, algorithm 1).

    `bias_correction` false leaves out the division by `1 − βᵗ`. With beta1 = 0 it is RMSProp,
    bias-corrected; with beta1 = beta2 = 0, `Normalised`.
    """

    slots = ["m", "v"]
    hyperparameters = {
        "lr": nonnegative(1e-3),
        "weight_decay": nonnegative(0.0),
        "beta1": fraction(0.9),
        "beta2": fraction(0.999),
        "eps": nonnegative(1e-8),
        "bias_correction": flag(True),
    }

    @staticmethod
    def coefficients(h, t):
        return {
            **averages(h),
            "lr": h.lr / (1 - h.bias_correction * h.beta1**t),
            "root": (1 - h.bias_correction * h.beta2**t) ** -0.5,
            "eps": positive(h.eps),
        }

    @staticmethod
    def update(p, g, state, c):
        m, v = state
        m = c.beta1 * m + c.fresh1 * g
        v = c.beta2 * v + c.fresh2 * g * g
        return p - c.lr * m / (c.root * v.sqrt() + c.eps), (m, v)


class AdamW(Decoupled, Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019, arXiv:1711.05101, algorithm 2).

    As in PyTorch, the decay is multiplied by the learning rate; the default is 0.01.
    """

    hyperparameters = {**Adam.hyperparameters, "weight_decay": nonnegative(1e-2)}


class AMSGrad(Adam):
    """Adam whose second moment never shrinks (Reddi et al., 2018, arXiv:1904.09237, algorithm 2).

    With Adam's bias correction, as in PyTorch: the maximum is of the uncorrected moment.
    """

    slots = ["m", "v", "v_max"]

    @staticmethod
    def update(p, g, state, c):
        m, v, v_max = state
        m = c.beta1 * m + c.fresh1 * g
        v = c.beta2 * v + c.fresh2 * g * g
        v_max = v_max.maximum(v)
        return p - c.lr * m / (c.root * v_max.sqrt() + c.eps), (m, v, v_max)


class AdaMax(Rule):
    """Adam in the infinity norm (Kingma & Ba, 2015, arXiv:1412.6980, algorithm 2).

    `eps` is added to `|g|`, as in PyTorch; the paper has none.
    """

    slots = ["m", "u"]
    hyperparameters = {
        "lr": nonnegative(2e-3),
        "weight_decay": nonnegative(0.0),
        "beta1": fraction(0.9),
        "beta2": fraction(0.999),
        "eps": nonnegative(1e-8),
    }

    @staticmethod
    def coefficients(h, t):
        return {
            **averages(h),
            "lr": h.lr / (1 - h.beta1**t),
            "eps": positive(h.eps),
        }

    @staticmethod
    def update(p, g, state, c):
        m, u = state
        m = c.beta1 * m + c.fresh1 * g
        u = (c.beta2 * u).maximum(g.abs() + c.eps)
        return p - c.lr * m / u, (m, u)


class NAdam(Rule):
    """Adam with Nesterov's momentum (Dozat, 2016, ICLR workshop).

    The momentum of step i is `μᵢ = β₁(1 − ½·0.96^(i/250))`: PyTorch's default momentum_decay.
    """

    slots = ["m", "v"]
    hyperparameters = {
        "lr": nonnegative(2e-3),
        "weight_decay": nonnegative(0.0),
        "beta1": fraction(0.9),
        "beta2": fraction(0.999),
        "eps": nonnegative(1e-8),
    }

    @staticmethod
    def coefficients(h, t):
        now, after = nadam_warmth(t), nadam_warmth(t + 1)
        product = nadam_product(t) * h.beta1**t
        next_product = nadam_product(t + 1) * h.beta1 ** (t + 1)
        return {
            **averages(h),
            "lr_g": h.lr * (1 - h.beta1 * now) / (1 - product),
            "lr_m": h.lr * h.beta1 * after / (1 - next_product),
            "root": (1 - h.beta2**t) ** -0.5,
            "eps": positive(h.eps),
        }

    @staticmethod
    def update(p, g, state, c):
        m, v = state
        m = c.beta1 * m + c.fresh1 * g
        v = c.beta2 * v + c.fresh2 * g * g
        return p - (c.lr_g * g + c.lr_m * m) / (c.root * v.sqrt() + c.eps), (m, v)


def nadam_warmth(i: int) -> float:
    """`1 − ½·0.96^(i/250)`: momentum warms up from half of beta1 to all of it."""
    return 1 - 0.5 * 0.96 ** (i / 250)


@lru_cache(maxsize=4)
def nadam_product(t: int) -> float:
    """`∏ᵢ₌₁ᵗ (1 − ½qⁱ)`, q = 0.96^(1/250), by the series of its logarithm: a pure function of t."""
    q = 0.96 ** (1 / 250)
    return exp(-sum((q / 2) ** k / k * (1 - q ** (k * t)) / (1 - q**k) for k in range(1, 54)))


class RAdam(Rule):
    """Adam that is rectified while the second moment is uncertain (Liu et al., 2020,
    arXiv:1908.03265, algorithm 2): momentum alone while `ρ ≤ 5`, as in PyTorch, then Adam times r.
    """

    slots = ["m", "v"]
    hyperparameters = {k: v for k, v in Adam.hyperparameters.items() if k != "bias_correction"}

    @staticmethod
    def coefficients(h, t):
        rho_inf = 2 / (1 - h.beta2) - 1
        rho = rho_inf - 2 * t * h.beta2**t / (1 - h.beta2**t)
        certain = 1.0 * (rho > 5)
        a, b = 5 + certain * (rho - 5), 5 + certain * (rho_inf - 5)  # no root of a negative number
        r = ((a - 4) * (a - 2) * b / ((b - 4) * (b - 2) * a)) ** 0.5
        lr = h.lr / (1 - h.beta1**t)
        return {
            **averages(h),
            "plain": lr * (1 - certain),
            "adaptive": lr * certain * r * (1 - h.beta2**t) ** 0.5,
            "eps": positive(h.eps),
        }

    @staticmethod
    def update(p, g, state, c):
        m, v = state
        m = c.beta1 * m + c.fresh1 * g
        v = c.beta2 * v + c.fresh2 * g * g
        return p - m * (c.plain + c.adaptive / (v.sqrt() + c.eps)), (m, v)


class Lion(Decoupled):
    """The sign of an interpolated momentum (Chen et al., 2023, arXiv:2302.06675, algorithm 2)."""

    slots = ["m"]
    hyperparameters = {
        "lr": nonnegative(1e-4),
        "weight_decay": nonnegative(0.0),
        "beta1": fraction(0.9),
        "beta2": fraction(0.99),
    }

    @staticmethod
    def coefficients(h, t):
        return {"lr": h.lr, **averages(h)}

    @staticmethod
    def update(p, g, state, c):
        (m,) = state
        p = p - c.lr * (c.beta1 * m + c.fresh1 * g).sign()
        return p, (c.beta2 * m + c.fresh2 * g,)


class AdamWBeside(AdamW):
    """AdamW beside another rule, whose weight decay it shares.

    Its learning rate is `adamw_lr_ratio` times lr: a schedule of lr moves both.
    """

    hyperparameters = {
        "adamw_lr_ratio": nonnegative(1.0),
        "adamw_beta1": fraction(0.9),
        "adamw_beta2": fraction(0.999),
        "adamw_eps": nonnegative(1e-8),
    }

    @classmethod
    def all_coefficients(cls, h, t):
        own = {name: getattr(h, f"adamw_{name}") for name in ("beta1", "beta2", "eps")}
        changed = {**own, "lr": h.adamw_lr_ratio * h.lr, "bias_correction": True}
        return super().all_coefficients(SimpleNamespace(**{**vars(h), **changed}), t)


class Muon(Decoupled, Matrixwise):
    """Momentum, orthogonalised (Jordan et al., 2024, kellerjordan.github.io/posts/muon).

    `m ← μm + (1 − μ)g`, `p ← p − lr·s·O`, where O has the singular vectors of m, or with `nesterov`
    of `μm + (1 − μ)g`, and singular values near 1: `ns_steps` times
    `X ← aX + (bXXᵀ + c(XXᵀ)²)X` from `X = m / max(‖m‖, eps)`, in the precision of the parameter,
    where PyTorch's is bfloat16. By `adjust_lr_fn`, s is `max(1, rows/columns)^½` (`original`), or
    `0.2·max(rows, columns)^½`, which gives O the root mean square of a step of AdamW
    (`match_rms_adamw`, arXiv:2502.16982). Weight decay is decoupled, by lr without s. What is no
    matrix goes by AdamW, at `adamw_lr_ratio` times lr.
    """

    slots = ["m"]
    hyperparameters = {
        "lr": nonnegative(1e-3),
        "weight_decay": nonnegative(0.1),
        "momentum": fraction(0.95),
        "nesterov": flag(True),
        "ns_steps": Hyperparameter(5, "[0, 100)", kind=int),
        "ns_a": real(3.4445),
        "ns_b": real(-4.775),
        "ns_c": real(2.0315),
        "eps": nonnegative(1e-7),
        "adjust_lr_fn": choice("original", "match_rms_adamw"),
        **Matrixwise.hyperparameters,
        **AdamWBeside.hyperparameters,
    }
    rest = AdamWBeside
    iterations = 5

    @classmethod
    def coefficients(cls, h, t):
        return {
            "momentum": h.momentum,
            "fresh": 1 - h.momentum,
            "ahead": h.nesterov * (1 - h.momentum),
            "behind": h.nesterov * h.momentum + (1 - h.nesterov),
            "eps": positive(h.eps),
            "lr_by_aspect": h.lr * (h.adjust_lr_fn == "original"),
            "lr_by_size": 0.2 * h.lr * (h.adjust_lr_fn == "match_rms_adamw"),
            **polynomials(h, cls.iterations),
        }

    @classmethod
    def update(cls, p, g, state, c):
        (m,) = state
        m = c.momentum * m + c.fresh * g
        o = orthogonalised(c.ahead * g + c.behind * m, c, cls.iterations)
        rows, columns = p.shape[-2:]
        s = (
            c.lr_by_aspect * max(1, rows / columns) ** 0.5
            + c.lr_by_size * max(rows, columns) ** 0.5
        )
        return p - s * o, (m,)

    @classmethod
    def variant(cls, h):
        return muon_of(int(h.ns_steps))


@cache
def muon_of(iterations: int) -> type[Rule]:
    """Muon of so many iterations; in a stack, some of its runs may have less."""
    return type("Muon", (Muon,), {"iterations": iterations})


def polynomials(h, iterations):
    """Coefficients of each iteration; where a run has had all of its own, they keep X as it is."""
    rest = [1.0 * (i < h.ns_steps) for i in range(iterations)]
    last = {"a": 1.0, "b": 0.0, "c": 0.0}
    return {
        f"{name}{i}": goes_on * getattr(h, f"ns_{name}") + (1 - goes_on) * kept
        for i, goes_on in enumerate(rest)
        for name, kept in last.items()
    }


def orthogonalised(x, c, iterations):
    """Newton–Schulz on `[..., rows, columns]`, where products are smallest: with fewer rows."""
    wide = x if x.shape[-2] <= x.shape[-1] else x.mT
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=c.eps)
    for i in range(iterations):
        a, b, c_ = (getattr(c, f"{name}{i}") for name in "abc")
        gram = wide @ wide.mT  # [..., rows, rows]
        wide = a * wide + (b * gram + c_ * (gram @ gram)) @ wide
    return wide if x.shape[-2] <= x.shape[-1] else wide.mT


RULES: Mapping[str, type[Rule]] = {
    "sgd": SGD,
    "normalised": Normalised,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "amsgrad": AMSGrad,
    "adamax": AdaMax,
    "nadam": NAdam,
    "radam": RAdam,
    "lion": Lion,
    "muon": Muon,
}
