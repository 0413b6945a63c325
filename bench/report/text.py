"""Numbers as people read them, the same in the terminal, on the page and in TensorBoard."""

import math
from typing import Any

from bench.metrics import Metric

NOTHING = "\N{EN DASH}"
CROSS = "\N{MULTIPLICATION SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


def missing(value: Any) -> bool:
    """What is no number is never shown as one: a caller that knows why says it in words."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def percent(fraction: float, *, digits: int = 2) -> str:
    return NOTHING if missing(fraction) else f"{100 * fraction:.{digits}f}"


def scale(metric: Metric) -> int:
    """What a value is multiplied by to be shown: a fraction is shown in percent."""
    return 100 if metric.unit == "fraction" else 1


def unit(metric: Metric) -> str:
    return "%" if metric.unit == "fraction" else metric.unit


def value(metric: Metric, what: float, *, digits: int = 2) -> str:
    """A value without its unit: a fraction in percent with so many decimals, others with two
    significant digits more."""
    if metric.unit == "fraction":
        return percent(what, digits=digits)
    places = _places(what, digits + 2)
    return number(what, digits=digits + 2) if places is None else f"{what:.{places}f}"


def _places(what: float, digits: int) -> int | None:
    """The decimals that show so many significant digits; None where a power of ten is shorter."""
    if missing(what) or not 1e-3 <= abs(what) < 1e5:
        return None
    return max(0, digits - 1 - math.floor(math.log10(abs(what))))


def quantity(metric: Metric, said: str) -> str:
    """A value that is said already, with its unit."""
    return f"{said} {unit(metric)}".rstrip()


def heading(what: str, metric: Metric) -> str:
    """A column's: ``validation %``, ``validation (bits)``."""
    if metric.unit == "fraction":
        return f"{what} %"
    return f"{what} ({metric.unit})" if metric.unit else what


def difference(metric: Metric, what: float) -> str:
    """Without its unit, which is ``difference_unit``."""
    return f"{100 * what:.2f}" if metric.unit == "fraction" else number(what)


def difference_unit(metric: Metric) -> str:
    return "points" if metric.unit == "fraction" else metric.unit


def name(metric: Metric) -> str:
    return metric.name.replace("_", " ")


def spread(metric: Metric, mean: float, deviation: float) -> str:
    """Mean ± standard deviation; without the latter for one seed."""
    if missing(mean) or missing(deviation):
        return value(metric, mean)
    places = None if metric.unit == "fraction" else _places(mean, 4)
    of_deviation = value(metric, deviation) if places is None else f"{deviation:.{places}f}"
    return f"{value(metric, mean)} ± {of_deviation}"


def interval(low: float, high: float, *, unit: str = "") -> str:
    return NOTHING if missing(low) or missing(high) else f"{number(low)} to {number(high)}{unit}"


def number(value: Any, *, digits: int = 3) -> str:
    """Significant digits; whole numbers up to a million in full; what is just below 1, such as a
    decay, as many as tell it from 1."""
    if missing(value):
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if (float(value).is_integer() and abs(value) < 1e6) or 10**digits <= abs(value) < 1e6:
        return f"{value:,.0f}"
    if 1 - 10.0**-digits < value < 1:
        digits = -math.floor(math.log10(1 - value))
    return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")


def p(value: float) -> str:
    """How unlikely, as tests have it."""
    if missing(value):
        return NOTHING
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def seconds(value: float) -> str:
    if missing(value):
        return NOTHING
    if value < 100:
        return f"{value:.2g}{SPACE}s" if value < 10 else f"{value:.0f}{SPACE}s"
    return f"{value / 60:.1f}{SPACE}min" if value < 5400 else f"{value / 3600:.1f}{SPACE}h"


def count(how_many: int, noun: str, plural: str = "") -> str:
    return f"{how_many:,} {noun if how_many == 1 else plural or f'{noun}s'}"


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))
