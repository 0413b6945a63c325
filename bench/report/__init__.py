"""The report of a study: ``python -m bench.report runs/<study>``.

``contents`` gathers the statistics of ``bench.analysis``; ``sections`` and ``summary`` put them
into words, tables and figures; ``figures`` and ``style`` draw; ``page``, ``terminal`` and
``tensorboard`` put it out. No torch here.
"""

from bench.report.writer import Report, write

__all__ = ["Report", "write"]
