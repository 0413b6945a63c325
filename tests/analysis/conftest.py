"""Property tests: the same cases every time, and no limit on time, since machines are shared."""

from hypothesis import settings

settings.register_profile("analysis", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("analysis")
