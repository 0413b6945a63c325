"""What the fork server imports first, for its own sake: it ends with the sweep even while it
imports, and a process that it forks for a sweep that has just ended does so without a traceback."""

import sys
from types import TracebackType

from bench.sweeps.orphans import die_with_parent


def _say_unless_parent_ended(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not isinstance(error, EOFError | BrokenPipeError | ConnectionResetError):
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _say_unless_parent_ended
die_with_parent()
