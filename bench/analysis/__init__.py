"""Statistics of optimizer studies: numpy, scipy and pandas, no torch.

Two layers, kept apart. Functions of numbers take arrays and know nothing of studies:
``intervals``, ``sensitivity``, ``budget``, ``profiles``, ``aggregates``, ``significance``,
``interaction``, ``importance``. Functions of a study take its table, one row a run, and return
tables: ``selection`` says what a run is worth and which trial to pick, ``tables`` applies every
statistic of the first layer.

A NaN is a missing number and is left out. What a diverged run counts for is decided once, by
``selection.score``; the exceptions are said where they are made. Randomness comes from a
``numpy.random.Generator`` that is passed in.
"""
