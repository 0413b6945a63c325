"""What a loss looks like: ways through it, its curvature, slices of it."""
