"""A person's own callbacks and loggers, named in the configuration by their paths."""

import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.model_helpers import is_overridden

from bench.errors import BenchError

T = TypeVar("T")

STEP_HOOKS = (
    "on_train_batch_start", "on_train_batch_end",
    "on_before_backward", "on_after_backward", "on_before_optimizer_step",
)  # fmt: skip


def callbacks(options: Mapping[str, Any]) -> list[Callback]:
    """Those of the ``trainer`` section of the configuration.

    Raises:
        BenchError: one cannot be made.
    """
    return [made("trainer.callbacks", given, Callback) for given in options["callbacks"]]


def loggers(options: Mapping[str, Any], directory: Path) -> list[Logger]:
    """Those of the ``trainer`` section of the configuration. One that needs a ``save_dir``, and is
    given none, writes below the run's directory.

    Raises:
        BenchError: one cannot be made.
    """
    defaults = {"save_dir": str(directory)}
    kind: Any = Logger  # abstract
    return [made("trainer.loggers", given, kind, defaults) for given in options["loggers"]]


def acting_on_steps(callbacks: Sequence[Callback]) -> list[str]:
    """The names of those that do something at each of Lightning's steps."""
    return [
        type(callback).__name__
        for callback in callbacks
        if any(is_overridden(hook, callback, Callback) for hook in STEP_HOOKS)
    ]


def made(
    key: str, given: Mapping[str, Any], kind: type[T], defaults: Mapping[str, Any] | None = None
) -> T:
    """What is at the path ``_target_``, called with the other arguments, and with those of
    ``defaults`` that it must have."""
    target = given["_target_"]
    try:
        found = pkgutil.resolve_name(target)
    except Exception as error:  # a module of a person's own may raise anything
        raise BenchError(f"{key}: {target} cannot be imported ({_line(error)})") from error
    needed = {name for name, default in _parameters(found) if default is inspect.Parameter.empty}
    missing = {name: value for name, value in (defaults or {}).items() if name in needed}
    try:
        result = instantiate({"_convert_": "all", **missing, **given})
    except InstantiationException as error:
        raise BenchError(f"{key}: {target}: {_line(error.__cause__ or error)}") from error
    if not isinstance(result, kind):
        raise BenchError(
            f"{key}: {target} is no {kind.__module__.partition('.')[0]} {kind.__name__}"
        )
    return result


def _parameters(found: Any) -> list[tuple[str, Any]]:
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):  # not callable, or written in C
        return []
    return [(name, parameter.default) for name, parameter in parameters.items()]


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
