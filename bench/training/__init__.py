"""Runs on Lightning: one is built from its configuration, trained, evaluated and recorded."""

from bench.torchvision_ops import declare_ops

declare_ops()  # before Lightning, which imports torchvision

from bench.training.run import Run, is_first_process  # noqa: E402

__all__ = ["Run", "is_first_process"]
