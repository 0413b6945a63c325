"""Functions with known minima: what an optimizer does, without data in between.

The least value of each is 0, but of `QuadraticDeep`, which is a mean over examples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Union

from bench.errors import BenchError
from bench.metrics import Metric, Sums
from bench.settings.fields import accepts, whole_or
from bench.workloads.workload import Arrays, Batch, Index, Place, Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn


def mean_loss(sums: Sums) -> float:
    return sums["loss"] / sums["count"]


@functools.cache
def point() -> type[nn.Module]:
    """The class of models whose only parameter, and whose output, is where they are, ``[d]``."""
    import torch
    from torch import nn

    class Point(nn.Module):
        def __init__(self, at: Any) -> None:
            super().__init__()
            self.at = nn.Parameter(torch.as_tensor(at))

        def forward(self) -> Tensor:
            return self.at * 1

    return Point


class Function(Workload):
    """``value`` at a point ``[d]``. Training sees value(x) + sigma z·x, z from N(0, 1): its
    gradient has the noise sigma z. Validation and test see the value itself.

    An epoch has ``steps`` steps. Each draws its z, with replacement and decided by the seed of the
    run, from as many as that, whose mean is 0.

    Attributes:
        start: where it begins: empty for the usual point, one number for all coordinates.
        spread: standard deviation of a normal draw, from the seed, that is added to it.
    """

    start: list[float] = field(default_factory=list, metadata={"problem": True})
    spread: float = accepts(0.0, "[0, inf)", problem=True)
    sigma: float = accepts(0.0, "[0, inf)", problem=True)
    noise_seed: int = accepts(0, "[0, inf)", kind=int, problem=True)
    steps: int = accepts(1000, "[1, inf)", kind=int)

    metrics = (Metric("value", of=mean_loss), Metric("distance"))
    varies = ("start", "spread")
    way = "at"
    batch_size = 1
    sampling = "replacement"

    dimension: ClassVar[int] = 2
    usual: ClassVar[tuple[float, ...]] = (1.0,)

    def value(self, x: Tensor) -> Tensor:
        """At ``[d]``, without dimensions."""
        raise NotImplementedError

    def minima(self) -> list[list[float]]:
        """The points ``[M, d]`` where the value is least."""
        return [[0.0] * self.dimension]

    # -- the workload ------------------------------------------------------------------------

    @property
    def train_size(self) -> int:
        return self.steps

    def starting_point(self) -> list[float]:
        said = list(self.start) or list(self.usual)
        return said * self.dimension if len(said) == 1 else said

    def check(self) -> None:
        if len(self.start) not in (0, 1, self.dimension) or not all(map(math.isfinite, self.start)):
            raise BenchError(
                f"workload.start={list(self.start)}: must be one finite number, or "
                f"{self.dimension}, one for each coordinate"
            )

    def build(self, seed: int) -> nn.Module:
        import torch

        at = torch.tensor(self.starting_point(), dtype=torch.get_default_dtype())
        return point()(at + self.spread * torch.randn(len(at)))

    def load(self, place: Place) -> None:
        import torch

        self._minima = torch.tensor(self.minima(), device=place.device, dtype=place.dtype)
        self._noise = None
        if self.sigma:
            generator = torch.Generator().manual_seed(self.noise_seed)
            drawn = torch.randn(
                self.steps, self.dimension, generator=generator, dtype=torch.float64
            )
            noise = self.sigma * (drawn - drawn.mean(0))
            self._noise = noise.to(place.device, place.dtype)

    def release(self) -> None:
        del self._minima, self._noise

    def batch(self, index: Index, split: str = "train") -> Batch:
        if split != "train" or self._noise is None:
            return {}
        return {"noise": self._noise[index]}

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        value = self.value(output).reshape(1)
        return value + batch["noise"] @ output if batch else value

    def totals(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"distance": (output - self._minima.to(output)).norm(dim=-1).min()}

    def stacks(self) -> str | None:
        return None

    def sharing_that_pays(self, device: str) -> float:
        """A step is all overhead, which a stack has once for all its runs."""
        return 1


class Quadratic(Function):
    """½ xᵀQx, with eigenvalues in geometric progression from 1 / condition to 1.

    ``rotation`` turns the eigenvectors away from the axes, by a rotation drawn from that seed;
    None leaves them there. Gradient descent converges for step sizes below 2 / λmax, fastest at
    2 / (λmin + λmax).
    """

    dimension: int = accepts(10, "[2, inf)", kind=int, problem=True)  # type: ignore[misc]
    condition: float = accepts(100.0, "[1, inf)", problem=True)
    rotation: Union[int, None] = accepts(0, "[0, inf)", kind=int, none=True, problem=True)  # noqa: UP007

    def curvature(self) -> tuple[float, float]:
        """λmin and λmax."""
        return 1 / self.condition, 1.0

    def hessian(self) -> NDArray[np.float64]:
        """Q, ``[d, d]``."""
        import numpy as np

        values = np.geomspace(*self.curvature(), self.dimension)
        if self.rotation is None:
            return np.diag(values)
        draw = np.random.default_rng(self.rotation).normal(size=(self.dimension, self.dimension))
        basis, triangle = np.linalg.qr(draw)
        basis = basis * np.sign(np.diag(triangle))  # uniform over all rotations and reflections
        return (basis * values) @ basis.T

    def load(self, place: Place) -> None:
        import torch

        super().load(place)
        self._hessian = torch.as_tensor(self.hessian()).to(place.device, place.dtype)

    def release(self) -> None:
        super().release()
        del self._hessian

    def value(self, x: Tensor) -> Tensor:
        return x @ (self._hessian.to(x) @ x) / 2


class Ravine(Function):
    """x² / 20 + y²: a valley twenty times as steep across as along."""

    usual = (-7.0, 2.0)

    def value(self, x: Tensor) -> Tensor:
        return x[0].square() / 20 + x[1].square()


class Rosenbrock(Function):
    """Σ 100 (x[i+1] - x[i]²)² + (1 - x[i])²: a bent valley with a flat floor."""

    dimension: int = accepts(2, "[2, inf)", kind=int, problem=True)  # type: ignore[misc]

    def starting_point(self) -> list[float]:
        """The usual one is -1.2, 1, -1.2, 1, ..."""
        if self.start:
            return super().starting_point()
        return [(-1.2, 1.0)[i % 2] for i in range(self.dimension)]

    def value(self, x: Tensor) -> Tensor:
        here, after = x[:-1], x[1:]
        return (100 * (after - here.square()).square() + (1 - here).square()).sum()

    def minima(self) -> list[list[float]]:
        return [[1.0] * self.dimension]


class Beale(Function):
    """Σ (c[i] - x + x yⁱ)² for c = 1.5, 2.25, 2.625: flat, with steep walls."""

    def value(self, x: Tensor) -> Tensor:
        a, b = x[0], x[1]
        return (
            (1.5 - a + a * b).square()
            + (2.25 - a + a * b**2).square()
            + (2.625 - a + a * b**3).square()
        )

    def minima(self) -> list[list[float]]:
        return [[3.0, 0.5]]


class Himmelblau(Function):
    """(x² + y - 11)² + (x + y² - 7)²: four minima, all as low."""

    usual = (0.0, 0.0)

    def value(self, x: Tensor) -> Tensor:
        a, b = x[0], x[1]
        return (a.square() + b - 11).square() + (a + b.square() - 7).square()

    def minima(self) -> list[list[float]]:
        return [
            [3.0, 2.0],
            [-2.805118086952745, 3.131312518250573],
            [-3.779310253377747, -3.283185991286170],
            [3.584428340330492, -1.848126526964404],
        ]


class Rastrigin(Function):
    """Σ x² + 10 (1 - cos 2πx): a local minimum near each point of whole numbers."""

    dimension: int = accepts(2, "[1, inf)", kind=int, problem=True)  # type: ignore[misc]
    usual = (2.2,)

    def value(self, x: Tensor) -> Tensor:
        return (x.square() + 10 * (1 - (2 * math.pi * x).cos())).sum()


class Saddle(Function):
    """x² - y² + (y⁴ + 1) / 2: a saddle at 0, between the minima (0, ±1)."""

    usual = (1.0, 0.001)

    def value(self, x: Tensor) -> Tensor:
        a, b = x[0], x[1]
        return a.square() - b.square() + (b**4 + 1) / 2

    def minima(self) -> list[list[float]]:
        return [[0.0, 1.0], [0.0, -1.0]]


class Plateau(Function):
    """r² / (1 + r²) for r = ‖x‖: a bowl in a plain, where the gradient falls with r³."""

    dimension: int = accepts(2, "[1, inf)", kind=int, problem=True)  # type: ignore[misc]
    usual = (5.0,)

    def value(self, x: Tensor) -> Tensor:
        square = x.square().sum()
        return square / (1 + square)


class AbsSum(Function):
    """Σ |x|: a kink in each coordinate. The gradient is as long everywhere."""

    dimension: int = accepts(2, "[1, inf)", kind=int, problem=True)  # type: ignore[misc]

    def value(self, x: Tensor) -> Tensor:
        return x.abs().sum()


class QuadraticDeep(Arrays):
    """½ (θ - x)ᵀQ(θ - x), the mean over examples x: DeepOBS's problem of that name,
    with its data (Schneider, Balles & Hennig 2019).

    Q has 90 eigenvalues in (0, 1) and 10 in (30, 60). In DeepOBS the last batch of a split is
    dropped, of the test split, too, and each epoch has the same batches: the defaults. Validation
    has as many examples as training, from the generator after the test split's.
    """

    batch_size: Union[int, str] = whole_or(128, "full")  # type: ignore[misc] # noqa: UP007
    sampling: str = accepts(  # type: ignore[misc]
        "sequential", None, "shuffle", "replacement", "sequential"
    )
    drop_last: bool = True  # type: ignore[misc]

    metrics = (Metric("value", of=mean_loss), Metric("distance"))
    inputs = ()
    way = "at"

    @property
    def _sizes(self) -> Mapping[str, int]:
        return {"train": 1000, "val": 1000, "test": 896}

    def arrays(self) -> Mapping[str, Mapping[str, Any]]:
        import numpy as np

        def drawn(seed: int, size: int) -> dict[str, Any]:
            x = np.random.RandomState(seed).normal(0, 0.6, (1000, 100))
            return {"x": x[:size].astype(np.float32)}

        seeds = {"train": 42, "test": 43, "val": 44}
        return {split: drawn(seed, self._sizes[split]) for split, seed in seeds.items()}

    @functools.cached_property
    def hessian(self) -> NDArray[np.float64]:
        """Q, ``[100, 100]``; the rotation by Diaconis and Shahshahani's subgroup algorithm."""
        import numpy as np

        rng = np.random.RandomState(42)
        values = np.concatenate([rng.uniform(0, 1, 90), rng.uniform(30, 60, 10)])
        angle = 2 * np.pi * rng.uniform()
        turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        for d in range(3, 101):
            v = rng.normal(size=d)
            away = np.eye(d)[0] - v / np.linalg.norm(v)
            away /= np.linalg.norm(away)
            larger = np.eye(d)
            larger[1:, 1:] = turned
            turned = larger - 2 * np.outer(away, away @ larger)
        return (turned.T * values) @ turned

    def load(self, place: Place) -> None:
        import torch

        super().load(place)
        self._hessian = torch.as_tensor(self.hessian).to(place.device, place.dtype)
        mean = self._splits["train"]["x"].double().mean(0)
        self._minimum = mean.to(place.device, place.dtype)

    def build(self, seed: int) -> nn.Module:
        return point()([1.0] * 100)

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        away = output - batch["x"]  # [B, 100]
        return ((away @ self._hessian.to(away)) * away).sum(-1) / 2

    def totals(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The distance from the mean of the training examples, where the loss on them is least."""
        distance = (output - self._minimum.to(output)).norm()
        return {"distance": distance * len(batch["x"])}

    def stacks(self) -> str | None:
        return None
