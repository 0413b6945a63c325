"""Numbers as people read them, the same in the terminal, on the page and in TensorBoard."""

import math
from typing import Any

NOTHING = "\N{EN DASH}"
CROSS = "\N{MULTIPLICATION SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


def missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def percent(fraction: float, *, digits: int = 2) -> str:
    return NOTHING if missing(fraction) else f"{100 * fraction:.{digits}f}"


def spread(mean: float, deviation: float) -> str:
    """Fractions of 1 in percent, mean ± standard deviation; without the latter for one seed."""
    if missing(mean) or missing(deviation):
        return percent(mean)
    return f"{percent(mean)} ± {percent(deviation)}"


def interval(low: float, high: float, *, unit: str = "") -> str:
    return NOTHING if missing(low) or missing(high) else f"{number(low)} to {number(high)}{unit}"


def number(value: Any) -> str:
    """Three significant digits; whole numbers up to a million in full."""
    if missing(value):
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")


def seconds(value: float) -> str:
    if missing(value):
        return NOTHING
    if value < 100:
        return f"{value:.2g}{SPACE}s" if value < 10 else f"{value:.0f}{SPACE}s"
    return f"{value / 60:.1f}{SPACE}min" if value < 5400 else f"{value / 3600:.1f}{SPACE}h"


def count(how_many: int, noun: str) -> str:
    return f"{how_many:,} {noun}" + ("" if how_many == 1 else "s")


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))
