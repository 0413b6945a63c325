"""Linear least squares: a convex problem whose curvature and whose minimum are known exactly."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union

from bench.data.specs import DIABETES, TableSpecification
from bench.metrics import Metric, Sums
from bench.settings.fields import accepts, whole_or
from bench.workloads.workload import Arrays, Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from bench.workloads.arrays import Splits
    from bench.workloads.workload import Batch

FEATURES = len(DIABETES.features)
FIFTH = slice(4, None, 5)  # the rows of the table that are the test split
TESTED = DIABETES.rows // 5
VARIANCE = 5928.315  # of the target, over all rows but those


def mean_square(sums: Sums) -> float:
    return sums["loss"] / sums["count"]


class LinearRegression(Arrays):
    """The diabetes table: features ``[B, 10]`` to the score ``[B]``; squared error.

    Every fifth row is tested on. ``feature`` standardises each feature by its mean and deviation
    (of the population, dividing by n) over the training split.

    The Hessian of the full batch is constant. Gradient descent on it converges for step sizes below
    2 / λmax, fastest at 2 / (λmin + λmax); `curvature` gives both.
    """

    batch_size: Union[int, str] = whole_or(32, "full")  # type: ignore[misc] # noqa: UP007
    val_size: int = accepts(44, "[0, inf)", kind=int)
    feature_scaling: str = accepts("feature", None, "none", "feature")
    init: str = accepts("zeros", None, "zeros", "default")

    metrics = (Metric("mse", chance=VARIANCE, of=mean_square),)
    inputs = ("features",)
    varies = ("l2", "init")

    # -- data --------------------------------------------------------------------------------

    @property
    def source(self) -> TableSpecification:
        return DIABETES

    @property
    def _sizes(self) -> Mapping[str, int]:
        return {"train": DIABETES.rows - TESTED, "test": TESTED}

    def arrays(self) -> Mapping[str, Mapping[str, Any]]:
        import numpy as np

        from bench.data import cache

        table = cache.obtain(DIABETES, self.data_dir)
        tested = np.zeros(DIABETES.rows, dtype=bool)
        tested[FIFTH] = True
        return {
            split: {name: x[rows] for name, x in table.items()}
            for split, rows in (("train", ~tested), ("test", tested))
        }

    def load(self, place: Place) -> None:
        from bench.workloads.arrays import placed

        self._splits = placed(self._scaled, 0, 0, place)

    @functools.cached_property
    def _parts(self) -> Splits:
        """In float64, with the validation split set aside."""
        import torch

        from bench.workloads.arrays import placed

        exact = Place(torch.device("cpu"), torch.float64)
        return placed(self._arrays, self.val_size, self.split_seed, exact)

    @property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """What to subtract from the features, and what then to divide by."""
        import torch

        x = self._parts["train"]["features"]
        if self.feature_scaling == "none":
            return torch.zeros_like(x[0]), torch.ones_like(x[0])
        deviation, mean = torch.std_mean(x, 0, correction=0)
        return mean, deviation.where(deviation > 0, torch.inf)  # what is constant becomes 0

    @functools.cached_property
    def _scaled(self) -> Splits:
        mean, deviation = self._statistics
        return {
            split: named | {"features": (named["features"] - mean) / deviation}
            for split, named in self._parts.items()
        }

    # -- model and loss ----------------------------------------------------------------------

    def build(self, seed: int) -> nn.Module:
        from torch import nn

        layer = nn.Linear(FEATURES, 1)
        if self.init == "zeros":
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        return nn.Sequential(layer, nn.Flatten(0))

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        return (output - batch["target"]).square()

    def deployed(self, model: nn.Module) -> nn.Module:
        """On features as the table has them: the same function, with other weights."""
        import torch

        mean, deviation = self._statistics
        weight, bias = (p.detach().cpu().double() for p in model.parameters())
        dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        plain = self.build(0).to(dtype)
        new_weight = weight / deviation
        with torch.no_grad():
            for p, value in zip(
                plain.parameters(), (new_weight, bias - new_weight @ mean), strict=True
            ):
                p.copy_(value)
        return plain.train(model.training)

    def stacks(self) -> str | None:
        return None

    def sharing_that_pays(self, device: str) -> float:
        """On a CPU a sweep by stacks of four took 0.85 of the time, with everything."""
        return 4 if device == "cpu" else super().sharing_that_pays(device)

    # -- what is known of it -----------------------------------------------------------------

    @property
    def _design(self) -> NDArray[np.float64]:
        """The training features and the ones that the bias goes with, ``[n, 11]``."""
        import numpy as np

        features = self._scaled["train"]["features"].numpy()
        return np.column_stack([features, np.ones(len(features))])

    def curvature(self) -> tuple[float, float]:
        """λmin and λmax: the extreme eigenvalues of the Hessian 2 XᵀX / n of the loss on the
        training split, without the l2 term. Their ratio is the condition number."""
        import numpy as np

        x = self._design
        singular = np.linalg.svd(x, compute_uv=False)
        return float(2 * singular[-1] ** 2 / len(x)), float(2 * singular[0] ** 2 / len(x))

    def remarks(self, model: nn.Module) -> Mapping[str, float]:
        """``train/excess``: by how much the loss on the training split exceeds the least one there
        is, L*, as a share of that: (L - L*) / L*. In float64, without the l2 term."""
        import numpy as np

        train = self._scaled["train"]
        x, target = self._design, train["target"].numpy()
        least = np.square(x @ np.linalg.lstsq(x, target)[0] - target).mean()
        output = self.call(copy.deepcopy(model).cpu().double(), train)
        loss = float(self.losses(output, train).detach().mean())
        return {"train/excess": float((loss - least) / least)}
