"""ReLU and 2x2 max-pooling as one operator on a CPU: the numbers of PyTorch's two, bit for bit.

PyTorch's pair reads or writes whole images eight times in a training step, and keeps the images and
8 bytes for each output until the backward pass. This does so twice, and keeps 1 byte.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional as F

from optimizers import toolchain

SOURCE = Path(__file__).with_name("pooling.cpp")


@cache
def library() -> ctypes.CDLL | None:
    """Both kernels; None, with one line in the log, where they cannot be built."""
    source = SOURCE.read_text("utf-8")
    kernels = toolchain.load_library(source, "Max-pooling", "forward", "backward")
    if kernels is not None:
        for kernel in (kernels.forward, kernels.backward):
            kernel.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_void_p] * 3 + [ctypes.c_int]
            kernel.restype = None
    return kernels


def suits(x: Tensor) -> bool:
    """Whether `relu_max_pool` takes ``x``."""
    return (
        not is_functorch_wrapped_tensor(x)  # one of vmap's cannot tell its memory format
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.ndim == 4
        and min(x.shape[2:]) >= 2
        and x.is_contiguous(memory_format=torch.channels_last)
        and library() is not None
    )


@torch.library.custom_op("bench::relu_max_pool", mutates_args=(), device_types="cpu")
def relu_max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """``F.max_pool2d(F.relu(x), 2)`` of ``x`` [B, C, H, W], which lies as channels_last.

    Returns:
        The maxima [B, C, H/2, W/2], and for each where in its window, in reading order, it stands:
        4 where no gradient flows, because it is not positive.
    """
    y, winner = _outputs(x)
    _call("forward", x, x, y, winner)
    return y, winner


@relu_max_pool.register_fake
def _outputs(x: Tensor) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = x.shape
    shape = (batch, channels, height // 2, width // 2)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return y, torch.empty_like(y, dtype=torch.uint8)


@torch.library.custom_op("bench::relu_max_pool_backward", mutates_args=(), device_types="cpu")
def relu_max_pool_backward(grad: Tensor, winner: Tensor, height: int, width: int) -> Tensor:
    """The gradient [B, C, H, W] with respect to ``x``, of that with respect to the maxima."""
    grad_x = _input_gradient(grad, winner, height, width)
    grad = grad.contiguous(memory_format=torch.channels_last)
    _call("backward", grad_x, grad, winner, grad_x)
    return grad_x


@relu_max_pool_backward.register_fake
def _input_gradient(grad: Tensor, winner: Tensor, height: int, width: int) -> Tensor:
    shape = (*grad.shape[:2], height, width)
    return torch.empty(
        shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last
    )


def _call(kernel: str, images: Tensor, *tensors: Tensor) -> None:
    batch, channels, height, width = images.shape
    getattr(library(), kernel)(
        *(batch, height, width, channels),
        *(tensor.data_ptr() for tensor in tensors),
        toolchain.threads_for(images.numel()),
    )


def _setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.size = inputs[0].shape[2:]
    ctx.save_for_backward(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad: Tensor | None, _: None) -> Tensor | None:
    (winner,) = ctx.saved_tensors
    if grad is None:
        return None
    if torch.is_grad_enabled() or is_functorch_wrapped_tensor(grad):
        return _differentiable_backward(grad, winner, *ctx.size)
    return relu_max_pool_backward(grad, winner, *ctx.size)


def _differentiable_backward(grad: Tensor, winner: Tensor, height: int, width: int) -> Tensor:
    """`relu_max_pool_backward` for second derivatives and under vmap."""
    places = torch.arange(4)[:, None, None]
    windows = torch.where(
        winner.unsqueeze(2) == places, grad.unsqueeze(2), 0
    )  # [B, C, 4, H/2, W/2]
    pooled = F.pixel_shuffle(windows.flatten(1, 2), 2)
    return F.pad(pooled, (0, width % 2, 0, height % 2))


relu_max_pool.register_autograd(_differentiate, setup_context=_setup_context)
