"""What is trained: models, their initialisation and their loss."""

from bench.workloads.workload import FAMILIES, build_model, objective, shape_of

__all__ = ["FAMILIES", "build_model", "objective", "shape_of"]
