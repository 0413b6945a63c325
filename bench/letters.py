"""What is printed where a terminal, or a file, does not have every letter."""

import codecs
import io
import sys
import unicodedata

PLAINER = {
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{NO-BREAK SPACE}": " ",
    "\N{BOX DRAWINGS HEAVY HORIZONTAL}": "-",
}


def closest(error: UnicodeError) -> tuple[str, int]:
    """A handler of encoding errors: what comes nearest in ASCII, else a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    return "".join(map(_closest, letters)), error.end


def _closest(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return PLAINER.get(letter) or plain or "?"


def never_fail() -> None:
    """From now on this process prints what its terminal lacks by what comes closest to it."""
    codecs.register_error("bench.closest", closest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="bench.closest")
