"""Statements about optimizers, put to the test: what is said, what is measured, and the verdict."""
