"""What a param_group says, read anew before each step and checked wherever it has changed.

A group is PyTorch's plain dict: people, schedulers and checkpoints write to it at any time, and
what stands in it is what the next step does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from .interop import FLAGS, in_our_words
from .paths import check_path
from .rule import Hyperparameter, Rule

# What others note in a group for themselves: PyTorch, its schedulers, Lightning, timm.
NOTES = frozenset(
    {"params", "param_names", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}
    | {"swa_lr", "name", "lr_scale"}
)


class Reading(NamedTuple):
    """What a group said when it was last read."""

    group: Mapping[str, Any]
    said: dict[str, Any]
    h: SimpleNamespace


class Groups:
    """Reads the param_groups of one method.

    Where a method has beta1 and beta2, PyTorch's `betas` stand beside them; whichever was changed
    since the last reading is what holds, and the other follows.
    """

    def __init__(self, rule: type[Rule], declared: Mapping[str, Hyperparameter]) -> None:
        self.rule, self.declared = rule, declared
        self.has_betas = "beta1" in declared
        self.known = NOTES.union(declared, FLAGS, ["betas"] if self.has_betas else [])
        self.readings: dict[int, Reading] = {}

    def defaults(self) -> dict[str, Any]:
        return self.complete({name: d.default for name, d in self.declared.items()}, {})

    def complete(self, group: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The group itself, with what it leaves out.

        Raises:
            ValueError: its betas are not those that stand beside them.
        """
        if self.has_betas:
            pair = [group.get(name, defaults.get(name)) for name in ("beta1", "beta2")]
            betas = group.setdefault("betas", tuple(pair))
            for name, value in zip(("beta1", "beta2"), two(betas), strict=True):
                if number(group.setdefault(name, value)) != value:
                    raise ValueError(f"betas={betas} contradicts {name}={group[name]}")
        for name, value in defaults.items():
            group.setdefault(name, value)
        return group

    def read(self, groups: Sequence[dict[str, Any]]) -> list[SimpleNamespace]:
        """The hyperparameters of each group, as attributes.

        Raises:
            TypeError: a key that has no effect.
            ValueError: a value that is not accepted.
            KeyError: a hyperparameter that is missing.
        """
        return [self._read(i, group) for i, group in enumerate(groups)]

    def _read(self, index: int, group: dict[str, Any]) -> SimpleNamespace:
        if not isinstance(group.get("params"), list | tuple):
            kind = type(group.get("params")).__name__
            raise TypeError(f"param_groups[{index}] has {kind} as params: a list is needed")
        said = {name: value for name, value in group.items() if name != "params"}
        before = self.readings.get(index)
        if before is not None and before.group is not group:
            before = None
        if before is not None and equal(before.said, said):
            return before.h
        if unknown := said.keys() - self.known:
            strange = {str(name): said[name] for name in sorted(unknown, key=str)}
            try:
                in_our_words(self.rule, self.declared, strange)
            except TypeError as error:
                raise TypeError(f"param_groups[{index}]: {error}") from None
        if missing := self.declared.keys() - said.keys():
            raise KeyError(
                f"param_groups[{index}] has no {', '.join(sorted(missing))}; "
                "add_param_group fills in the defaults"
            )
        if self.has_betas:
            said |= self._agree(said, before.h if before else None)
            group.update({name: said[name] for name in ("beta1", "beta2", "betas")})
        h = SimpleNamespace(**{name: number(said[name]) for name in self.declared})
        for name, value in vars(h).items():
            if before is None or getattr(before.h, name) is not value:
                self.declared[name].check(name, value)
        check_path(h.path, self.rule)
        if any(hasattr(value, "item") for value in said.values()):  # may change in place
            self.readings.pop(index, None)
        else:
            self.readings[index] = Reading(group, said, h)
        return h

    @staticmethod
    def _agree(said: Mapping[str, Any], before: SimpleNamespace | None) -> dict[str, Any]:
        """`betas`, `beta1` and `beta2` as they are meant."""
        single = said["beta1"], said["beta2"]
        betas = two(said.get("betas", single))
        if betas != single and before is not None:
            if betas == (before.beta1, before.beta2):
                betas = single
            elif single == (before.beta1, before.beta2):
                single = betas
        if betas != single:
            raise ValueError(
                f"betas={betas} contradicts beta1={single[0]}, beta2={single[1]}: give one of them"
            )
        return {"beta1": single[0], "beta2": single[1], "betas": betas}


def names_of(group: Mapping[str, Any]) -> Sequence[str] | None:
    """Of its parameters, where they are known and still as many."""
    names = group.get("param_names")
    known = isinstance(names, list | tuple) and len(names) == len(group["params"])
    return names if known else None


def equal(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    try:
        return some == others
    except RuntimeError:  # a tensor of several numbers, which is refused later
        return False


def two(betas: Any) -> tuple[Any, Any]:
    try:
        beta1, beta2 = betas
    except (TypeError, ValueError):
        raise ValueError(f"betas={betas!r} is not accepted: it must be two numbers") from None
    return number(beta1), number(beta2)


def number(value: Any) -> Any:
    """A tensor or array of one element as the number it holds now."""
    if hasattr(value, "item"):
        try:
            return value.item()
        except (RuntimeError, ValueError):
            return value
    return value
