"""Odd inputs, drawn from a seed: what a person may type, and what a record may hold."""
