"""One clear line for what Hydra and OmegaConf say in several."""

import difflib
import re
import traceback
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
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    UnsupportedValueType,
    ValidationError,
)

ConfigError = (HydraException, OmegaConfBaseException)

# What Lightning, PyTorch and common Hydra templates call things that have another name here.
COUNTERPARTS = {
    "alpha": "optimizer.decay",
    "batch_size": "workload.batch_size",
    "betas": "optimizer.beta1 and optimizer.beta2",
    "callbacks": "trainer.callbacks",
    "ckpt_path": "the same command again: it goes on with what is missing",
    "data": "workload",
    "datamodule": "workload",
    "dataset": "workload",
    "default_root_dir": "runs_dir",
    "early_stopping": "trainer.patience",
    "epochs": "trainer.max_epochs",
    "experiment_name": "study",
    "fast_dev_run": "trainer.max_steps=1",
    "gpus": "trainer.devices",
    "gradient_clip_val": "optimizer.clip_norm",
    "learning_rate": "optimizer.lr",
    "limit_train_batches": "trainer.max_steps",
    "logger": "trainer.loggers",
    "loggers": "trainer.loggers",
    "lr": "optimizer.lr",
    "lr_scheduler": "schedule",
    "max_epochs": "trainer.max_epochs",
    "max_steps": "trainer.max_steps",
    "model": "workload.model",
    "nesterov": "optimizer=nesterov",
    "net": "workload.model",
    "num_epochs": "trainer.max_epochs",
    "output_dir": "runs_dir",
    "rho": "optimizer.decay",
    "save_dir": "runs_dir",
    "scheduler": "schedule",
    "task_name": "study",
    "weight_decay": "optimizer.weight_decay",
}


def explain(error: Exception) -> str:
    """The one line a person needs: the key, what was given, what is accepted."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not understood; write it as key=value ({first_line(error)})"
    if isinstance(error, MissingConfigException):
        return _missing_config(error)
    if match := re.match(r"Error merging override ~(\S+)", first_line(error)):
        return f"{match[1]}: cannot be taken out; give it another value"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(cause)
    if isinstance(cause, MissingMandatoryValue):
        return f"{cause.full_key}: a value is needed, none was given"
    shown = ConfigTypeError | ValidationError | UnsupportedValueType | InterpolationResolutionError
    if isinstance(cause, shown):
        return f"{cause.full_key}: {first_line(cause)}"
    if match := re.search(r"Ambiguous value for argument '(.+)'", str(error)):
        return f"{match[1]}: several values; -m makes a run of each"
    if isinstance(error, ConfigCompositionException):
        return _composition(error)
    return first_line(error)


def is_hydras(error: Exception) -> bool:
    """Whether it arose within Hydra or OmegaConf, which are not prepared for all that can be
    said."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_globals.get("__name__", "").partition(".")[0] in ("hydra", "omegaconf")


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _missing_config(error: MissingConfigException) -> str:
    if not error.options:
        return first_line(error)
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    options = ", ".join(error.options)
    return f"{group}={choice}: no such choice{_guess(choice, error.options)}; choose from {options}"


def _composition(error: ConfigCompositionException) -> str:
    """Such as ``Could not override 'a.b'.`` or ``In 'x': Could not find ...``."""
    text = first_line(error)
    if match := re.match(r"Could not override '([^']+)'", text):
        return f"{match[1]}: no such key"
    return text


def _unknown_key(error: ConfigAttributeError | ConfigKeyError) -> str:
    parent = error.parent_node
    accepted = sorted(map(str, parent)) if isinstance(parent, DictConfig) else []
    return no_such_key(str(error.full_key), accepted)


def no_such_key(key: str, accepted: Sequence[str]) -> str:
    place, _, name = key.rpartition(".")
    where = f" in {place}" if place else ""
    ours = COUNTERPARTS.get(name)
    hint = f"; use {ours}" if ours and ours != key else _guess(name, accepted)
    choices = f"; {place or 'the configuration'} has {', '.join(accepted)}" if accepted else ""
    return f"{key}: no such key{where}{hint}{choices}"


def _guess(word: str, options: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, options, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
