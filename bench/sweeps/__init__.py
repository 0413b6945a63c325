"""Many jobs: composed, put together, carried out."""
