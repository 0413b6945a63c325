"""What ``--help`` says of groups and experiments: found where they are, and told nowhere else."""

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from bench.settings import hydra

GROUPS = ("workload", "optimizer", "schedule", "hydra/launcher", "hydra/sweeper")
NOT_OURS = {"hydra/sweeper": ("basic",)}  # which is refused
WIDEST = 100


def register() -> None:
    """As resolvers: Hydra makes the help from a text in our configuration."""
    for name, told in (("bench.groups", groups), ("bench.experiments", experiments)):
        OmegaConf.register_new_resolver(name, told, replace=True)


def groups() -> str:
    loader = GlobalHydra.instance().config_loader()
    return table(
        {
            group: ", ".join(
                option
                for option in hydra.options(loader, group)
                if option not in NOT_OURS.get(group, ())
            )
            for group in GROUPS
        }
    )


def experiments() -> str:
    """Each with the first clause of its file's comment, and its cost, as it stands there."""
    loader = GlobalHydra.instance().config_loader()
    return table(
        {
            name: about(hydra.text_of(loader, f"experiment/{name}"))
            for name in hydra.options(loader, "experiment")
        }
    )


def about(text: str) -> str:
    """``What does it ask? 36 runs, about 2 minutes``"""
    said = comment(text)
    plain = re.sub(r"\s\([^)]*\)", "", said)
    first, mark, *_ = [*re.split(r"([.:?])(?:\s|$)", plain, maxsplit=1), ""]
    runs = re.search(r"\d[\d,]* runs?", said)
    time = re.search(r"about ((half )?an? \w+|\d+ \w+)", said)
    cost = ", ".join(found[0] for found in (runs, time) if found)
    return f"{first}{'?' if mark == '?' else ':' if cost else ''} {cost}".strip()


def comment(text: str) -> str:
    """That a file begins with, in one line; not what it says to Hydra."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            lines.append(line.lstrip("# "))
    return " ".join(" ".join(lines).split())


def table(rows: Mapping[str, str]) -> str:
    """Names and texts, in as many columns as the terminal has. Dollars stay dollars."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    left = max(map(len, rows), default=0) + 4
    lines: Sequence[str] = [
        textwrap.fill(
            text,
            max(width, left + 20),
            initial_indent=f"  {name}".ljust(left),
            subsequent_indent=" " * left,
            break_on_hyphens=False,
        )
        for name, text in rows.items()
    ]
    return "\n".join(lines).replace("$", "$$")
