"""Benchmarks of first-order optimizers: workloads, training, studies and their analysis."""
