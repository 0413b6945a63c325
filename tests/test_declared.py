"""What a declared type accepts, and how it says where something else stands."""

import math
from typing import Annotated, Any, Literal, TypedDict

import pytest

from bench.declared import DEEPEST, LARGEST, LONGEST, MOST, Between, Refused, check_of


class Point(TypedDict, total=False):
    x: float
    label: str | None


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


ACCEPTED = [
    (int, 3),
    (int, -(10**100)),
    (float, 3),
    (float, LARGEST),
    (float, 5e-324),
    (float | None, None),
    (float | None, 0.5),
    (str, ""),
    (str, "優化器 🙂"),
    (str | None, None),
    (bool, False),
    (Literal["a", "b"], "b"),
    (Annotated[int, Between(0, 5)], 5),
    (Annotated[str, Between(0, 5)], "five!"),
    (Annotated[int, Between(0, 5)] | None, None),
    (list[int], []),
    (list[int], [1, 2]),
    (dict[str, float | None], {"a": 1, "b": None}),
    (Point, {}),
    (Point, {"x": 1.5, "label": None}),
    (Any, {"a": [None, True, 1, 0.5, "x", {}]}),
    (Any, nested(DEEPEST)),
]


@pytest.mark.parametrize(("kind", "value"), ACCEPTED, ids=str)
def test_what_is_declared_is_accepted(kind: Any, value: Any) -> None:
    check_of(kind)(value)


REFUSED = [
    (int, 0.5, "0.5, not a whole number"),
    (int, True, "true, not a whole number"),
    (int, "3", "'3', not a whole number"),
    (int, 10**400, "a number beyond 1e+100"),
    (float, None, "null, not a number"),
    (float, False, "false, not a number"),
    (float, math.nan, "a number beyond 1e+100"),
    (float, -math.inf, "a number beyond 1e+100"),
    (float, 1e308, "a number beyond 1e+100"),
    (float | None, [], "a list, not a number"),
    (float | None, 1e308, "a number beyond 1e+100"),
    (str, 3, "3, not text"),
    (str, "x" * (LONGEST + 1), "a text of 100,001 characters, at most 100,000"),
    (str, "\ud800", "a text with half a character (a lone surrogate)"),
    (bool, 1, "1, not true or false"),
    (Literal["a", "b"], "c", "'c' is none of a, b"),
    (Literal["a", "b"], ["a"], "a list is none of a, b"),
    (Annotated[int, Between(0, 5)], 6, "6, not within 0 and 5"),
    (Annotated[str, Between(0, 5)], "six...", "a text of 6 characters, not within 0 and 5"),
    (list[int], {}, "an object, not a list"),
    (list[int], [1, "2"], "1: '2', not a whole number"),
    (dict[str, float], [1], "a list, not an object"),
    (dict[str, dict[str, float]], {"a": {"b": "c"}}, "a.b: 'c', not a number"),
    (dict[str, float], {"\udfff": 1}, "a text with half a character (a lone surrogate)"),
    (Point, {"y": 1}, "no field 'y'; there are x, label"),
    (Point, {"x": "1"}, "x: '1', not a number"),
    (Point, None, "null, not an object"),
    (Any, {"a": [0, math.inf]}, "a.1: a number beyond 1e+100"),
    (Any, {"a": {"b": "\ud800"}}, "a.b: a text with half a character (a lone surrogate)"),
    (Any, list(range(MOST + 1)), "10,001 values, at most 10,000"),
    (Any, nested(DEEPEST + 1), f"{'.'.join('0' * (DEEPEST + 1))}: more than 32 objects"),
]


@pytest.mark.parametrize(("kind", "value", "message"), REFUSED, ids=lambda x: repr(x)[:40])
def test_anything_else_is_refused_where_it_stands(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(Refused) as refusal:
        check_of(kind)(value)
    assert str(refusal.value).startswith(message)
