"""The report of a study: ``python -m bench.report runs/<study>``.

``contents`` decides what a report shows, from the statistics of ``bench.analysis``; ``figures`` and
``style`` draw it; ``terminal`` puts it out. No torch here.
"""

from bench.report.contents import Contents, write

__all__ = ["Contents", "write"]
