"""Weight initialisation as a hyperparameter: every parameter drawn from a generator passed in."""

import math
from collections.abc import Callable

from torch import Generator, Tensor, nn

Draw = Callable[[Tensor, Generator], object]


def initialise(
    model: nn.Module, *, init: str, init_std: float, init_bias: float, generator: Generator
) -> nn.Module:
    """Draws all weights of the linear and convolutional layers of ``model``, in module order; after
    every other layer's own reset, which draws from the global generator.

    Args:
        init: ``default`` is PyTorch's own: weights and biases uniform in ±1/sqrt(fan_in).
            The others draw weights only: ``kaiming`` N(0, 2/fan_in) (He et al. 2015, eq. 10),
            ``xavier`` uniform with variance 2/(fan_in + fan_out) (Glorot & Bengio 2010, eq. 16),
            ``normal`` N(0, init_std²), ``truncated_normal`` the same cut at two deviations,
            ``zeros``.
        init_std: standard deviation of ``normal`` and ``truncated_normal``.
        init_bias: value of every bias, except under ``default``.
    """
    draws: dict[str, Draw] = {
        "default": lambda w, g: nn.init.kaiming_uniform_(w, a=math.sqrt(5), generator=g),
        "kaiming": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
        "xavier": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
        "normal": lambda w, g: nn.init.normal_(w, std=init_std, generator=g),
        "truncated_normal": lambda w, g: nn.init.trunc_normal_(
            w, std=init_std, a=-2 * init_std, b=2 * init_std, generator=g
        ),
        "zeros": lambda w, g: nn.init.zeros_(w),
    }
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None) or getattr(
            module,
            "_reset_parameters",
            None,  # MultiheadAttention's
        )
        if module not in layers and reset is not None:
            reset()
    for module in layers:
        draws[init](module.weight, generator)
        if module.bias is None:
            continue
        if init == "default":
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        else:
            nn.init.constant_(module.bias, init_bias)
    return model
