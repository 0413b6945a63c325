"""Seeded attempts to break the product by what people could do to it: one module an interface."""
