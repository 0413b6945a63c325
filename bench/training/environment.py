"""What a result was made with: the code, the device and the threads."""

import platform
from typing import Any

import torch

from bench import provenance
from optimizers.toolchain import processor


def environment(device: torch.device) -> dict[str, Any]:
    """Everything outside the configuration and the data that can change a result or its timing."""
    return {
        **provenance.code(),
        "platform": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


def device_name(device: torch.device) -> str:
    """The name people know the device by, such as ``NVIDIA H100`` or a processor's model; ``cuda``
    where the GPU is another machine's."""
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    return processor().get("model name") or platform.processor() or platform.machine()
