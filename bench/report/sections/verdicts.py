"""The sentences of the summary about optimizers; ``bench.report.findings`` has the rule."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.intervals import mean_interval
from bench.analysis.tables.differences import CLEAR
from bench.metrics import Metric
from bench.report import text
from bench.report.contents import DELTAS, Contents
from bench.report.findings import Finding
from bench.report.sections import commands, words

MOST_NAMED = 3  # differences told in one sentence; the table has all


def of_workload(contents: Contents, workload: str) -> list[Finding]:
    """What one workload shows of the optimizers, in sentences with intervals."""
    made = [about(contents, workload) for about in (tuned, forgiving, fast, untuned)]
    return [finding for finding in made if finding is not None]


def seen_from(rows: pd.DataFrame, name: str, sign: int) -> pd.DataFrame:
    """Differences with ``name``, from its side: ``other, lead, low, high, p_holm, why_not, ahead``.

    A lead is what is better; it is ``ahead`` where it is clear.
    """
    rows = rows[(rows["x"] == name) | (rows["y"] == name)]
    turned = rows["y"] == name
    way = sign * np.where(turned, -1, 1)
    ends = way * rows["low"], way * rows["high"]
    return rows.assign(
        other=rows["x"].where(turned, rows["y"]),
        lead=way * rows["difference"],
        low=np.minimum(*ends),
        high=np.maximum(*ends),
        ahead=(way * rows["difference"] > 0) & (rows["p_holm"] < CLEAR),
    )


def compared(
    contents: Contents, workload: str, quantity: str, best_first: list[str], sign: int
) -> pd.DataFrame:
    """``seen_from`` the first, in the order of the others."""
    rows = contents.differences
    rows = rows[(rows["workload"] == workload) & (rows["quantity"] == quantity)]
    seen = seen_from(rows[rows["group"] == ""], best_first[0], sign).set_index("other")
    return seen.reindex([name for name in best_first[1:] if name in seen.index]).reset_index()


def tuned(contents: Contents, workload: str) -> Finding | None:
    known = contents.of(contents.best, workload).dropna(subset=["score"])
    if known.empty:
        return None
    metric = contents.metric(workload)
    known = known.sort_values("score", ascending=not metric.higher_is_better, kind="stable")
    names = list(known["optimizer"])
    first = known.iloc[0]
    at = f"{words.setting(contents, first)}"
    if len(names) == 1:
        return Finding(
            about="Tuned",
            sentence=f"{names[0]} gives {_score(contents, workload, first)}, at {at}.",
        )
    seen = compared(contents, workload, "test", names, metric.sign)
    show = partial(_difference, metric)
    scores = dict(zip(known["optimizer"], known["test"], strict=True))

    def values(some: list[str]) -> str:
        said = [text.value(metric, scores[name]) for name in some]
        return text.quantity(metric, text.listed(said))

    ahead = seen[seen["ahead"]]
    open_to = list(seen.loc[~seen["ahead"] & (seen["why_not"] == ""), "other"])
    said = []
    if len(ahead) == len(names) - 1:
        said.append(f"{first['optimizer']} is best: {_score(contents, workload, first)}, at {at}.")
    elif open_to:
        together = [first["optimizer"], *open_to]
        said.append(
            f"{_alike(contents, workload, together)}: {values(together)} on test, each at its best "
            "setting by validation."
        )
        rest = seen[seen["other"].isin(open_to)]
        widest = rest.loc[rest["lead"].abs().idxmax()]
        if len(ahead) == 0:
            said.append(f"The largest difference, {_between(first['optimizer'], widest, show)}.")
    else:
        said.append(f"{values(names)} on test for {text.listed(names)}.")
    if len(ahead):
        said.append(f"{first['optimizer']} leads {_leads(ahead, show)}.")
    said += _not_compared(seen)
    few = int(known["seeds"].min())
    return Finding(
        about="Tuned",
        sentence=" ".join(said),
        ranks=tuple((first["optimizer"], other) for other in ahead["other"]),
        command=commands.more_seeds(contents, few) if len(ahead) < len(names) - 1 else "",
    )


def clearly_best(contents: Contents, workload: str) -> str | None:
    """The optimizer that leads all others, if any does."""
    found = tuned(contents, workload)
    others = contents.of(contents.best, workload)["score"].notna().sum() - 1
    return found.ranks[0][0] if found and 0 < others == len(found.ranks) else None


def forgiving(contents: Contents, workload: str) -> Finding | None:
    rows = contents.of(contents.sensitivity, workload)
    rows = rows[rows["delta"] == DELTAS[0]].dropna(subset=["width"])
    if len(rows) < 2:
        return None
    cut = rows["open_low"] | rows["open_high"]
    whole = rows[~cut].sort_values("width", ascending=False, kind="stable")
    near = words.tolerance(DELTAS[0], contents.metric(workload))
    said: list[str] = []
    ranks: list[tuple[str, str]] = []
    command = ""
    if len(whole):
        parts = [f"{row['optimizer']} {words.width(row)}" for row in whole.to_dict("records")]
        said.append(
            f"Decades of the learning rate within {near} of the optimizer's own best: "
            f"{text.listed(parts)}."
        )
    if len(whole) > 1:
        names = list(whole["optimizer"])
        seen = compared(contents, workload, "width", names, 1)
        more = ("forgives a wrong learning rate more than", "forgives more than")
        told, ranks, is_open = _order(seen, names[0], *more, show=_decades)
        said += told
        command = commands.more_seeds(contents, int(rows["seeds"].min())) if is_open else ""
    if cut.any():
        parts = [
            f"{row['optimizer']}'s region, of at least {row['width']:.1f} decades"
            for row in rows[cut].to_dict("records")
        ]
        said.append(f"The values tried cut off {text.listed(parts)}: how wide, they cannot tell.")
        command = commands.wider(contents, workload, rows[cut]) or command
    return Finding(
        about="Learning rate", sentence=" ".join(said), ranks=tuple(ranks), command=command
    )


def fast(contents: Contents, workload: str) -> Finding | None:
    times = contents.of(contents.times, workload)
    steps = times[times["unit"] == "steps"]
    if steps.empty:
        return None
    target = words.target(contents.metric(workload), steps)
    steps = steps.assign(time=steps["time"].astype(float))
    reached = steps[np.isfinite(steps["time"])].sort_values("time", kind="stable")
    some = steps[~np.isfinite(steps["time"]) & (steps["reached"] > 0)]
    never = list(steps.loc[steps["reached"] == 0, "optimizer"])
    missed = [
        f"{row['optimizer']} reaches it with {row['reached']} of {row['seeds']} seeds"
        for row in some.to_dict("records")
    ]
    if never:
        missed.append(f"{text.listed(never)} {'do' if len(never) > 1 else 'does'} not reach it")
    if reached.empty:
        none = f"No optimizer reaches {target} with most of its seeds"
        return Finding(
            about="Speed",
            sentence=f"{none}{': ' if some.size else ''}{'; '.join(missed[: len(some)])}.",
        )
    parts = [f"{row['optimizer']} {text.number(row['time'])}" for row in reached.to_dict("records")]
    said = [f"Steps to {target}, in the median: {text.listed(parts)}."]
    names = list(reached["optimizer"])
    ranks: list[tuple[str, str]] = []
    command = ""
    if len(names) > 1:
        seen = compared(contents, workload, "steps", names, -1)
        faster = ("is faster than", "is faster than")
        told, ranks, is_open = _order(seen, names[0], *faster, show=_factor)
        said += told
        command = commands.more_seeds(contents, int(reached["seeds"].min())) if is_open else ""
    if missed:
        said.append(f"{'; '.join(missed)}.")
    return Finding(about="Speed", sentence=" ".join(said), ranks=tuple(ranks), command=command)


def untuned(contents: Contents, workload: str) -> Finding | None:
    expected = contents.of(contents.expected, workload)
    one = expected[expected["k"] == 1]
    if one.empty:
        return None
    metric = contents.metric(workload)
    one = one.sort_values("expected", ascending=not metric.higher_is_better, kind="stable")
    digits = partial(text.value, metric, digits=1)
    show = words.with_interval("expected", "low", "high", digits)
    parts = [f"{row['optimizer']} {show(row)}" for row in one.to_dict("records")]
    interval = "; 90 % intervals, for other draws" if one["low"].notna().any() else ""
    measured = text.quantity(metric, text.name(metric))
    said = [
        f"One setting drawn at random from those given gives, in {measured}{interval}: "
        f"{text.listed(parts)}."
    ]
    names = list(one["optimizer"])
    ranks: list[tuple[str, str]] = []
    if len(names) > 1:
        seen = compared(contents, workload, "budget", names, metric.sign)
        more = ("promises more than", "promises more than")
        by = partial(_difference, metric)
        told, ranks, _ = _order(seen, names[0], *more, show=by, who="so few draws")
        said += told
    return Finding(about="Untuned", sentence=" ".join(said), ranks=tuple(ranks))


def headline(contents: Contents) -> str:
    """The answer in one sentence, of the first workload."""
    workload = contents.workloads[0]
    known = contents.of(contents.best, workload).dropna(subset=["score"])
    metric = contents.metric(workload)
    if known.empty:
        runs = contents.study.runs[contents.study.runs["workload"] == workload]
        if (runs["status"] == "diverged").all():
            return f"Every run on {workload} diverged."
        return f"No run on {workload} has a validation score, so nothing can be selected."
    found = {finding.about: finding for finding in of_workload(contents, workload)}
    known = known.sort_values("score", ascending=not metric.higher_is_better, kind="stable")
    names = list(known["optimizer"])
    if len(names) == 1:
        return f"On {workload}, {found['Tuned'].sentence}"
    low, high = (text.value(metric, end) for end in sorted(known["test"].agg(["min", "max"])))
    reach = text.quantity(metric, f"{low} to {high}" if low != high else low)
    behind = [other for _, other in found["Tuned"].ranks]
    together = [name for name in names if name not in behind]
    if len(together) == 1:
        said = f"Tuned, {names[0]} is best on {workload}: test {text.name(metric)} from {reach}"
    elif behind:
        said = (
            f"Tuned, {names[0]} is ahead of {text.listed(behind)} on {workload} ({reach} on test)"
        )
    else:
        said = f"Tuned, {_alike(contents, workload, names)} on {workload} ({reach} on test)"
    width = found.get("Learning rate")
    if width is not None and width.ranks:
        worse = text.listed([other for _, other in width.ranks])
        said += f"; {width.ranks[0][0]} forgives a wrong learning rate more than {worse}"
    elif width is not None:
        said += "; which forgives a wrong learning rate more, these runs cannot tell"
    return f"{said}."


def _order(
    seen: pd.DataFrame,
    first: str,
    verb: str,
    short: str,
    *,
    show: Callable[[Any], str],
    who: str = "these runs",
) -> tuple[list[str], list[tuple[str, str]], bool]:
    """How the first stands to the others: sentences, the rankings that they assert, and whether
    anything was tested and is not clear."""
    ahead = seen[seen["ahead"]]
    unclear = list(seen.loc[~seen["ahead"] & (seen["why_not"] == ""), "other"])
    said = [f"{first} {verb} {_leads(ahead, show)}."] if len(ahead) else []
    if unclear:
        said.append(f"Whether {first} {short} {text.listed(unclear)}, {who} cannot tell.")
    ranks = [(first, other) for other in ahead["other"]]
    return said + _not_compared(seen), ranks, bool(unclear)


def _leads(ahead: pd.DataFrame, show: Callable[[Any], str]) -> str:
    """``sgd by 0.5 (0.3 to 0.7) and 4 others``"""
    said = [f"{row.other} by {show(row)}" for row in ahead.head(MOST_NAMED).itertuples()]
    more = len(ahead) - MOST_NAMED
    return text.listed(said + ([text.count(more, "other")] if more > 0 else []))


def _alike(contents: Contents, workload: str, names: list[str]) -> str:
    """That the first is like the others; that all are like one another, if they are."""
    rows = contents.differences
    rows = rows[(rows["workload"] == workload) & (rows["quantity"] == "test")]
    among = rows[rows["x"].isin(names) & rows["y"].isin(names) & (rows["group"] == "")]
    if (among["p_holm"] < CLEAR).any():
        return f"{names[0]} cannot be told from {text.listed(names[1:])}"
    return f"{text.listed(names)} cannot be told apart"


def _score(contents: Contents, workload: str, row: pd.Series) -> str:
    metric = contents.metric(workload)
    runs = contents.selected
    runs = runs[(runs["workload"] == workload) & (runs["optimizer"] == row["optimizer"])]
    test = mean_interval(runs["test"].to_numpy())
    seeds = text.count(int(row["seeds"]), "seed")
    said = f"{text.quantity(metric, text.value(metric, row['test']))} on test"
    if np.isnan(test.low):
        return f"{said} ({seeds}: no interval)"
    low, high = (text.value(metric, end) for end in np.clip([test.low, test.high], *metric.bounds))
    return f"{said} (95 % interval {low} to {high}, {seeds})"


def _difference(metric: Metric, row: Any) -> str:
    unit = f" {text.difference_unit(metric)}".rstrip()
    show = partial(text.difference, metric)
    return f"{show(row.lead)}{unit} ({show(row.low)} to {show(row.high)}{_chance(row)})"


def _decades(row: Any) -> str:
    return f"{row.lead:.1f} decades ({row.low:.1f} to {row.high:.1f}{_chance(row)})"


def _factor(row: Any) -> str:
    lead, low, high = (2.0**value for value in (row.lead, row.low, row.high))
    return f"a factor of {lead:.2g} ({low:.2g} to {high:.2g}{_chance(row)})"


def _chance(row: Any) -> str:
    return f", p = {row.p_holm:.2g}" if row.p_holm >= 1e-3 else ", p < 0.001"


def _between(first: str, row: Any, show: Callable[[Any], str]) -> str:
    """The largest of differences that are none, whichever way it points."""
    if row.lead >= 0:
        return f"{first} over {row.other}, is {show(row)}"
    turned = row.copy()
    turned[["lead", "low", "high"]] = -row[["lead", "high", "low"]].to_numpy()
    return f"{row.other} over {first}, is {show(turned)}"


def _not_compared(seen: pd.DataFrame) -> list[str]:
    """Those that the first is not compared with, by the reason."""
    said = []
    for why_not, rows in seen[seen["why_not"] != ""].groupby("why_not", sort=True):
        if why_not.endswith(("seed", "seeds")) and len(rows) == len(seen):
            said.append(f"With {why_not} each, whether that is luck cannot be told.")
        else:
            said.append(f"Not compared with {text.listed(list(rows['other']))}: {why_not}.")
    return said
