"""What a result was made with: versions, device, threads and the state of the source tree."""

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy")
ROOT = Path(__file__).resolve().parents[2]


def environment(device: torch.device) -> dict[str, Any]:
    """Everything outside the configuration that can change a result or its timing."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: _version(package) for package in PACKAGES},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        **_git(),
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


@functools.cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@functools.cache
def _git() -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        try:
            return subprocess.run(
                ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
    }
