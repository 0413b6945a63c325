"""How to make these numbers again: commands, versions, hardware, configuration."""

import shlex
from typing import Any

from bench.report import text
from bench.report.contents import Contents
from bench.report.page import Block, Gallery, Section


def section(contents: Contents, gallery: Gallery) -> Section:
    del gallery  # nothing is drawn
    study = contents.study
    facts = [
        *_best_run(contents.overrides),
        ("report", f"python -m bench.report {study.directory}"),
        ("curves", f"tensorboard --logdir {study.directory}"),
    ]
    if study.environments:
        usual, _ = study.environments[0]
        facts += [(name, _plain(value)) for name, value in usual.items() if value is not None]
        facts += _differences(usual, [other for other, _ in study.environments[1:]])
    facts += [(name, _plain(value)) for name, value in study.shared.items() if value is not None]
    lead = (
        "The environment, and the configuration that all runs share. Each run's record.json and "
        ".hydra directory hold its own in full."
    )
    return Section(
        anchor="reproduce",
        title="How to reproduce it",
        short="Reproduce",
        blocks=[Block(paragraphs=[lead], facts=facts)],
    )


def _best_run(overrides: list[str]) -> list[tuple[str, str]]:
    """The command that made one run of the best setting."""
    if not overrides:
        return []
    return [("one run of the best setting", f"python -m bench {shlex.join(overrides)}")]


def _differences(usual: dict[str, Any], others: list[dict[str, Any]]) -> list[tuple[str, str]]:
    if not others:
        return []
    changed = {
        name for other in others for name in usual | other if usual.get(name) != other.get(name)
    }
    how_many = text.count(len(others), "other environment")
    return [("also used", f"{how_many}, not the same in {text.listed(sorted(changed))}")]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    return str(value)
