"""Operators in C++, each with the results of its reference bit for bit."""
