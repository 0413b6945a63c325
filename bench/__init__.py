"""Benchmarks of first-order optimizers: workloads, training, studies and their analysis."""

__version__ = "0.1.0"
