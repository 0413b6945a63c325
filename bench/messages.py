"""One clear line for what Hydra and OmegaConf say in several."""

import difflib
import re
from collections.abc import Sequence

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    UnsupportedValueType,
    ValidationError,
)

ConfigError = (HydraException, OmegaConfBaseException)


def explain(error: Exception) -> str:
    """The one line a person needs: the key, what was given, what is accepted."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not understood; write it as key=value ({_first_line(error)})"
    if isinstance(error, MissingConfigException):
        return _missing_config(error)
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(cause)
    if isinstance(cause, MissingMandatoryValue):
        return f"{cause.full_key}: a value is needed, none was given"
    if isinstance(cause, ConfigTypeError | ValidationError | UnsupportedValueType):
        return f"{cause.full_key}: {_first_line(cause)}"
    if isinstance(error, ConfigCompositionException):
        return _composition(error)
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _missing_config(error: MissingConfigException) -> str:
    if not error.options:
        return _first_line(error)
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    options = ", ".join(error.options)
    return f"{group}={choice}: no such choice{_guess(choice, error.options)}; choose from {options}"


def _composition(error: ConfigCompositionException) -> str:
    """Such as ``Could not override 'a.b'.`` or ``In 'x': Could not find ...``."""
    text = _first_line(error)
    if match := re.match(r"Could not override '([^']+)'", text):
        return f"{match[1]}: no such key"
    return text


def _unknown_key(error: ConfigAttributeError | ConfigKeyError) -> str:
    parent = error.parent_node
    accepted = sorted(map(str, parent)) if isinstance(parent, DictConfig) else []
    key = str(error.full_key)
    place = key.rpartition(".")[0]
    where = f" in {place}" if place else ""
    choices = f"; {place or 'the configuration'} has {', '.join(accepted)}" if accepted else ""
    return f"{key}: no such key{where}{_guess(str(error.key), accepted)}{choices}"


def _guess(word: str, options: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, options, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
