"""The report of a study: ``python -m bench.report runs/<study>``.

``contents`` gathers the statistics of ``bench.analysis``; ``sections`` and ``summary`` put them
into words, tables and figures; ``figures`` and ``style`` draw; ``page``, ``terminal`` and
``tensorboard`` put it out. No torch here, and nothing heavy until a report is written: a sweep
shows its numbers by ``text``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.report.writer import Report, write

__all__ = ["Report", "write"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bench.report import writer

    return getattr(writer, name)
