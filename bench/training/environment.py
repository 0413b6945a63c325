"""What a result was made with: the code, the device and the threads."""

import functools
import platform
from pathlib import Path
from typing import Any

import torch

from bench import provenance


def environment(device: torch.device) -> dict[str, Any]:
    """Everything outside the configuration and the data that can change a result or its timing."""
    return {
        **provenance.code(),
        "platform": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


def device_name(device: torch.device) -> str:
    """The name people know the device by, such as ``NVIDIA H100`` or a processor's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() if device.type == "cpu" else str(device)


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
