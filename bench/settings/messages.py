"""One clear line for what Hydra and OmegaConf say in several."""

import difflib
import re
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import fields

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

from bench.command_line import CONF
from bench.settings.hydra import node_of, root_of
from optimizers.rule import OPTIONS
from optimizers.rules import RULES
from optimizers.schedules import SCHEDULES
from optimizers.without_rules import METHODS

ConfigError = (HydraException, OmegaConfBaseException)

GROUPS = ("workload", "optimizer", "schedule", "experiment")
MOST_GUESSES = 3

# What Lightning, PyTorch and common Hydra templates call things that have another name here.
COUNTERPARTS = {
    "alpha": "optimizer.decay",
    "betas": "optimizer.beta1 and optimizer.beta2",
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
    "lr_scheduler": "schedule",
    "model": "workload.model",
    "nesterov": "optimizer=nesterov",
    "net": "workload.model",
    "num_epochs": "trainer.max_epochs",
    "output_dir": "runs_dir",
    "rho": "optimizer.decay",
    "save_dir": "runs_dir",
    "scheduler": "schedule",
    "task_name": "study",
}


def explain(error: Exception) -> str:
    """The one line a person needs: the key, what was given, what is accepted."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, OverrideParseException):
        return _not_understood(str(error.override))
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
        return f"{match[1]}: several values; add -m to make a run of each"
    if isinstance(error, ConfigCompositionException):
        return _composition(error)
    return first_line(error)


def _not_understood(said: str) -> str:
    if "=" in said:
        hint = "; a value with special characters needs quotes of its own, as in 'key=\"a (b)\"'"
    else:
        group = group_of(said)
        hint = f" (did you mean {group}={said}?)" if group else ""
    return f"{said}: not understood; write it as key=value{hint}"


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
    hint = _guess(choice, error.options) or _other_group(choice, group)
    return f"{group}={choice}: no such choice{hint}; choose from {', '.join(error.options)}"


def _other_group(choice: str, group: str) -> str:
    other = group_of(choice)
    return f" (did you mean {other}={choice}?)" if other not in (None, group) else ""


def group_of(choice: str) -> str | None:
    """The group of ours that has such an option."""
    options = (CONF / group / f"{choice}.yaml" for group in GROUPS if re.fullmatch(r"\w+", choice))
    return next((option.parent.name for option in options if option.is_file()), None)


def _composition(error: ConfigCompositionException) -> str:
    """Such as ``Could not override 'a.b'.`` or ``In 'x': Could not find ...``."""
    text = first_line(error)
    if match := re.match(r"Could not override '([^']+)'", text):
        return f"{match[1]}: no such key"
    return text


def _unknown_key(error: ConfigAttributeError | ConfigKeyError) -> str:
    parent = error.parent_node
    if not isinstance(parent, DictConfig):
        return no_such_key(str(error.full_key), [])
    return no_such_key(str(error.full_key), sorted(map(str, parent)), root_of(parent))


def no_such_key(key: str, accepted: Sequence[str], root: DictConfig | None = None) -> str:
    """
    Args:
        accepted: the keys that there are beside it.
        root: the whole configuration, in which it may stand elsewhere.
    """
    place, _, name = key.rpartition(".")
    where = f" in {place}" if place else ""
    if not place:
        accepted = [*(own for own in accepted if own != "hydra"), "experiment"]
    hint = _elsewhere(key, root) or _guess(name, accepted) or _nearly_elsewhere(name, root)
    choices = f"; {place or 'the configuration'} has {', '.join(accepted)}" if accepted else ""
    return f"{key}: no such key{where}{hint}{'' if hint and not place else choices}"


def _elsewhere(key: str, root: DictConfig | None) -> str:
    """Where a key of that very name stands, or what is called otherwise here."""
    name = key.rpartition(".")[-1]
    if (ours := COUNTERPARTS.get(name)) and ours != key:
        return f"; use {ours}"
    places = [own for own in keys_of(root) if own.rpartition(".")[-1] == name and own != key]
    if places:
        return f"; use {' or '.join(places)}"
    return _of_other_choices(key, name)


def _of_other_choices(key: str, name: str) -> str:
    """Of optimizers, schedules and models that were not chosen."""
    for group, choice, keys_of_options in _declared():
        having = [option for option, keys in keys_of_options.items() if name in keys]
        if having:
            ours = f"{group}.{name}"
            use = "" if key == ours else f"use {ours}, which "
            verb = "has" if len(having) == 1 else "have"
            return f"; {use}{choice}={', '.join(having)} {verb}{' it' if key == ours else ''}"
    return ""


def _declared() -> Iterator[tuple[str, str, dict[str, set[str]]]]:
    """Where keys stand, what chooses which there are, and those of each choice."""
    from bench.workloads.classifiers import FAMILIES

    rules = {own: {*RULES[own].hyperparameters, *OPTIONS} for own in RULES}
    methods = {own: {*METHODS[own].hyperparameters} for own in METHODS}
    yield "optimizer", "optimizer", rules | methods
    yield "schedule", "schedule", {own: {*SCHEDULES[own].declarations()} for own in SCHEDULES}
    yield (
        *("workload.model", "workload.model.family"),
        {own: {field.name for field in fields(kind)} for own, kind in FAMILIES.items()},
    )


def keys_of(config: DictConfig | None, prefix: str = "") -> Iterator[str]:
    """Every key of ours and every section, as they are written."""
    if config is None:
        return
    for key in map(str, config):
        if key == "hydra" and not prefix:
            continue
        yield f"{prefix}{key}"
        if isinstance(node := node_of(config, key), DictConfig):
            yield from keys_of(node, f"{prefix}{key}.")


def _nearly_elsewhere(name: str, root: DictConfig | None) -> str:
    """A key anywhere that begins so, or is spelt nearly so."""
    places = {own.rpartition(".")[-1]: own for own in keys_of(root)}
    for group, _, options in _declared():
        places = {own: f"{group}.{own}" for keys in options.values() for own in keys} | places
    return _did_you_mean([places[near] for near in _near(name, list(places), cutoff=0.75)])


def _guess(word: str, options: Sequence[str]) -> str:
    return _did_you_mean(_near(word, options))


def _did_you_mean(guesses: Sequence[str]) -> str:
    return f" (did you mean {' or '.join(guesses)}?)" if guesses else ""


def _near(word: str, options: Sequence[str], *, cutoff: float = 0.6) -> list[str]:
    """The same but for capitals, else what begins so, if these are few, else what is spelt nearly
    so."""
    small, word = {option.lower(): option for option in options}, word.lower()
    begin = (
        [small[word]] if word in small else [small[own] for own in small if own.startswith(word)]
    )
    if len(word) >= 3 and 0 < len(begin) <= MOST_GUESSES:
        return begin
    return [small[near] for near in difflib.get_close_matches(word, small, n=1, cutoff=cutoff)]
