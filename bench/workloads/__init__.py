"""What is trained: models, their initialisation and their loss."""

from bench.workloads.workload import FAMILIES, build_model, extent, objective

__all__ = ["FAMILIES", "build_model", "extent", "objective"]
