"""Checks values that come from JSON against declared types: a file that someone else wrote holds
what it should, at every depth, or is refused before anything is computed from it."""

import functools
import types
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

LARGEST = 1e100  # its square, and the sum of many, are still numbers
LONGEST = 100_000  # characters of a text
MOST = 10_000  # values in one container
DEEPEST = 32  # containers within one another

Check = Callable[[Any], None]


@dataclass(frozen=True)
class Between:
    """Bounds, beside a type in ``Annotated``: of a number, or of the length of a text."""

    low: float
    high: float


class Refused(ValueError):
    """What is wrong, and in ``key`` where."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.key: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = super().__str__()
        where = ".".join(key[:40] for key in self.key)
        return f"{where}: {what}" if where else what


@functools.cache
def check_of(kind: Any) -> Check:
    """The check for a declared type: None, bool, int, float (which an int is, too), str,
    ``X | Y``, ``Literal``, ``Annotated`` with `Between`, ``list[X]``, ``dict[str, X]``, a
    ``TypedDict`` of which any key may be absent, and ``Any`` for whatever JSON can hold.

    The check raises `Refused`. Numbers are finite, and at most `LARGEST`; text is Unicode.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return _anything
    if origin is Annotated:
        return functools.partial(_bounded, check_of(arguments[0]), arguments[1])
    if origin in (Union, types.UnionType):
        return functools.partial(_any_of, [check_of(one) for one in arguments])
    if origin is Literal:
        return functools.partial(_one_of, arguments)
    if origin is list:
        return functools.partial(_list, check_of(arguments[0]))
    if origin is dict:
        return functools.partial(_dict, check_of(arguments[1]))
    if is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        return functools.partial(_known, {key: check_of(hint) for key, hint in hints.items()})
    return {type(None): _null, bool: _bool, int: _int, float: _number, str: _text}[kind]


def _null(value: Any) -> None:
    if value is not None:
        raise _wrong(value, "null")


def _bool(value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(value, "true or false")


def _int(value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(value, "a whole number")
    _number(value)


def _number(value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(value, "a number")
    if not abs(value) <= LARGEST:  # nor is NaN
        raise Refused(f"a number beyond {LARGEST:g}")


def _text(value: Any) -> None:
    if not isinstance(value, str):
        raise _wrong(value, "text")
    if len(value) > LONGEST:
        raise Refused(f"a text of {len(value):,} characters, at most {LONGEST:,}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused("a text with half a character (a lone surrogate)") from error


def _bounded(check: Check, bounds: Between, value: Any) -> None:
    check(value)
    size = len(value) if isinstance(value, str) else value
    if not bounds.low <= size <= bounds.high:
        given = f"a text of {size:,} characters" if isinstance(value, str) else f"{value!r}"
        raise Refused(f"{given}, not within {bounds.low:g} and {bounds.high:g}")


def _any_of(checks: Iterable[Check], value: Any) -> None:
    refusals = []
    for check in checks:
        try:
            return check(value)
        except Refused as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _one_of(accepted: tuple[Any, ...], value: Any) -> None:
    if not isinstance(value, str) or value not in accepted:
        raise Refused(f"{_shown(value)} is none of {', '.join(accepted)}")


def _list(check: Check, value: Any) -> None:
    if not isinstance(value, list):
        raise _wrong(value, "a list")
    _few(value)
    for position, item in enumerate(value):
        _within(str(position), check, item)


def _dict(check: Check, value: Any) -> None:
    if not isinstance(value, dict):
        raise _wrong(value, "an object")
    _few(value)
    anything = isinstance(check, functools.partial) and check.func is _anything
    for key, item in value.items():
        if not (key.isascii() and len(key) <= LONGEST):
            _text(key)
        if not (anything and _is_plain(item)):
            _within(key, check, item)


def _known(checks: Mapping[str, Check], value: Any) -> None:
    if not isinstance(value, dict):
        raise _wrong(value, "an object")
    for key, item in value.items():
        if key not in checks:
            raise Refused(f"no field {_shown(key)}; there are {', '.join(checks)}")
        _within(key, checks[key], item)


def _anything(value: Any, *, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise Refused(f"more than {DEEPEST} objects within one another")
    if _is_plain(value):
        return
    inner = functools.partial(_anything, depth=depth + 1)
    if isinstance(value, dict):
        _dict(inner, value)
    elif isinstance(value, list):
        _list(inner, value)
    elif isinstance(value, str):
        _text(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(value)


def _is_plain(value: Any) -> bool:
    """Whether it is surely something that `_anything` accepts; most of a record is."""
    kind = type(value)
    if kind is str:
        return len(value) <= LONGEST and value.isascii()
    if kind is float or kind is int:
        return abs(value) <= LARGEST
    return kind is bool or value is None


def _within(key: str, check: Check, value: Any) -> None:
    try:
        check(value)
    except Refused as refusal:
        refusal.key = (key, *refusal.key)
        raise


def _few(value: Sized) -> None:
    if len(value) > MOST:
        raise Refused(f"{len(value):,} values, at most {MOST:,}")


def _wrong(value: Any, wanted: str) -> Refused:
    return Refused(f"{_shown(value)}, not {wanted}")


def _shown(value: Any) -> str:
    """What was given, short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}...")
    return f"{value:g}" if abs(value) <= LARGEST else f"a number beyond {LARGEST:g}"
