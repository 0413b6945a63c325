"""The one exception for a person's mistake or a fault that a person can mend."""


class BenchError(Exception):
    """Its message is complete: one line that says what is wrong, where, and what to do.

    The command line prints it and exits with a non-zero status; there is no traceback.
    """
