"""What is named by its path, such as ``my_module.MyWorkload``, from where a person stands."""

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from bench.errors import BenchError


def found(key: str, path: Any, example: str = "my_module.MyClass") -> Any:
    """What a dotted path leads to.

    Raises:
        BenchError: it leads nowhere, or its module cannot be imported.
    """
    if not (isinstance(path, str) and path):
        raise BenchError(f"{key}={path}: must be a dotted path, such as {example}")
    try:
        return pkgutil.resolve_name(path)
    except Exception as error:  # a module of a person's own may raise anything
        raise BenchError(
            f"{key}={path}: cannot be imported ({line(error)}); give the path of a class in a "
            f"module that can be, such as {example}"
        ) from error


def called(
    key: str,
    path: str,
    function: Callable[..., Any],
    arguments: Mapping[str, Any] | None = None,
    offered: Mapping[str, Any] | None = None,
    *positional: Any,
) -> Any:
    """What a person's own function or class gives for ``arguments``, and for those of ``offered``
    that it takes by name and is not given.

    Raises:
        BenchError: it cannot be called so, or fails.
    """
    try:
        known = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # not callable, or written in C
        known = set()
    taken = {name: x for name, x in (offered or {}).items() if name in known}
    taken |= arguments or {}
    try:
        return function(*positional, **taken)
    except BenchError:
        raise
    except Exception as error:
        raise BenchError(f"{key}: {path}: {line(error)}") from error


def line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
