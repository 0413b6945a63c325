"""Commands that would answer what a study leaves open: its own sweep, with other values."""

import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.report.contents import Contents

MOST_SEEDS = 10  # to begin with; then three times as many
BEYOND = 2  # values on the side where a grid cuts a region off
MOST_COMMANDS = 3


def more_seeds(contents: Contents, seeds: int, *, needed: int = 0) -> str:
    """The same sweep with more seeds, as many as are needed at least; those that are done stay."""
    more = max(needed, MOST_SEEDS if seeds < MOST_SEEDS else 3 * seeds)
    return _sweep(contents, ["seed"], [f"seed=range(0,{more})"])


def wider(contents: Contents, workload: str, cut: pd.DataFrame) -> str:
    """A sweep of learning rates beyond the ends where regions were cut off, a line an optimizer.

    Args:
        cut: rows of ``analysis.tables.sensitivity``.
    """
    found = []
    for row in cut.head(MOST_COMMANDS).to_dict("records"):
        rates = contents.of(contents.response, workload)
        rates = rates.loc[rates["optimizer"] == row["optimizer"], "lr"]
        ratio = 10 ** min(max(float(row["largest_gap"]), 0.3), 1.0)
        steps = np.arange(1, BEYOND + 1)
        values = [*(rates.min() / ratio**steps)[::-1]] if row["open_low"] else []
        values += [*(rates.max() * ratio**steps)] if row["open_high"] else []
        said = ",".join(f"{value:.2g}" for value in values)
        given = [f"optimizer={row['optimizer']}", f"optimizer.lr={said}"]
        if len(contents.workloads) > 1:
            given.insert(0, f"workload={workload}")
        keys = ["optimizer", "optimizer.lr", *(["workload"] if len(given) > 2 else [])]
        found.append(_sweep(contents, keys, given))
    return "\n".join(filter(None, found))


def beyond(
    contents: Contents, workload: str, key: str, tried: np.ndarray, *, low: bool, high: bool
) -> str:
    """The same sweep with values of one key beyond the least or the greatest that was tried."""
    step = float(np.median(tried[1:] / tried[:-1])) ** np.arange(1, BEYOND + 1)
    values = [*(tried[0] / step)[::-1]] if low else []
    values += [*(tried[-1] * step)] if high else []
    given = [f"{key}={','.join(f'{value:.2g}' for value in values)}"]
    if len(contents.workloads) > 1:
        given.insert(0, f"workload={workload}")
    return _sweep(contents, [word.partition("=")[0] for word in given], given)


def _sweep(contents: Contents, keys: Sequence[str], given: Sequence[str]) -> str:
    """The command that made most of the study's runs, some keys given anew; empty where it is
    not known."""
    if not contents.study.commands:
        return ""
    words, _ = contents.study.commands[0]
    kept = [word for word in words if word.partition("=")[0] not in keys]
    if words and not {"-m", "--multirun"} & {*kept} and not _is_experiment(kept):
        kept = ["-m", *kept]
    return f"python -m bench {shlex.join([*kept, *given])}"


def _is_experiment(words: Sequence[str]) -> bool:
    """Whether a file says that it is a sweep."""
    return any(word.partition("=")[0] == "experiment" for word in words)
