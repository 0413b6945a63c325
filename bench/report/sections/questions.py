"""What the study varied on purpose: each such factor with the sentence that answers for it."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from bench.analysis.tables import factors
from bench.analysis.tables.differences import CLEAR
from bench.analysis.tables.factors import Region
from bench.report import figures, page, text
from bench.report.contents import Contents
from bench.report.findings import Finding
from bench.report.page import Block, Column, Gallery, Panel, Section
from bench.report.sections import commands, settings, words

MANY_RATES = 10  # of each optimizer: more than finding the best one takes
FEWEST_VALUES = 3  # of a number, to say how something goes with it
MOST_LISTED = 2  # differences with an interval each; more are summed up
OF_THE_PROBLEM = ("workload.", "trainer.")  # keys of what is trained; the others are of how


def findings(contents: Contents, workload: str) -> list[Finding]:
    """What the data can tell of each factor; nothing where no setting was varied on purpose."""
    said: list[Finding | None] = []
    for name, kind, optimizers in _factors(contents, workload):
        runs = _runs(contents, workload, name, optimizers)
        rates = _rates(runs, name)
        if kind == "choice" or (_of_the_problem(contents, name) and not rates):
            said.append(_worth(contents, workload, name))
        elif not _of_the_problem(contents, name):
            said.append(_forgiving(contents, workload, name, runs))
        if rates and (_of_the_problem(contents, name) or _move(rates)):
            said.append(_moving(contents, workload, name, rates))
    return [finding for finding in said if finding is not None]


def of_the_optimizers(contents: Contents, workload: str) -> str:
    """What they were asked, as findings say what they are about: what a draw gives, how fast they
    are at settings of their own, how much the learning rate matters; else which does best."""
    runs = contents.study.runs[contents.study.runs["workload"] == workload]
    by_optimizer = runs.groupby("optimizer")
    if (runs["sampler"] == "random").all():
        return "Untuned"
    if (by_optimizer["trial"].nunique() == 1).all():
        return "Speed"
    rates = by_optimizer["lr"].nunique() if "lr" in runs else pd.Series([0])
    return "Learning rate" if (rates >= MANY_RATES).all() else "Tuned"


def section(contents: Contents, gallery: Gallery) -> Section | None:
    blocks = []
    for workload in contents.workloads:
        panels = [
            panel
            for name, _, optimizers in _factors(contents, workload)
            for panel in _panels(contents, gallery, workload, name, optimizers)
        ]
        if panels:
            heading = workload if len(contents.workloads) > 1 else ""
            blocks.append(Block(heading=heading, panels=panels))
    if not blocks:
        return None
    return Section(
        anchor="varied",
        title="What was varied",
        short="Varied",
        blocks=[*blocks, Block(tables=_table(contents, gallery))],
    )


def _factors(contents: Contents, workload: str) -> Iterator[tuple[str, str, list[str]]]:
    """Choices first, then numbers of the optimizer, then of the problem: each with its optimizers,
    in their order. A number of the problem that no learning rate was varied with is as a choice."""
    found = factors.varied(contents.study.whole, contents.study.settings)
    found = found[found["workload"] == workload]
    place = [
        (row["kind"] != "choice") + (row["kind"] != "choice" and _of_the_problem(contents, name))
        for name, (_, row) in zip(found["factor"], found.iterrows(), strict=True)
    ]
    found = found.assign(place=place).sort_values("place", kind="stable")
    for (name, kind), rows in found.groupby(["factor", "kind"], sort=False):
        yield str(name), str(kind), sorted(rows["optimizer"], key=list(contents.looks).index)


def _of_the_problem(contents: Contents, name: str) -> bool:
    return contents.study.keys[name].startswith(OF_THE_PROBLEM)


def _runs(contents: Contents, workload: str, name: str, optimizers: Sequence[str]) -> pd.DataFrame:
    runs = contents.study.whole
    rows = (runs["workload"] == workload) & runs["optimizer"].isin(optimizers)
    return runs[rows & runs[name].notna()]


def _rates(runs: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    """``factors.best_rates`` of each optimizer that had several learning rates at each value."""
    if "lr" not in runs:
        return {}
    found = {
        str(optimizer): factors.best_rates(group, name)
        for optimizer, group in runs.groupby("optimizer", sort=False)
    }
    return {optimizer: table for optimizer, table in found.items() if len(table) > 1}


def _move(rates: dict[str, pd.DataFrame]) -> bool:
    """Whether any best rate moves by more than a step of the grid."""
    return any(
        np.ptp(np.log10(table["lr"])) > 1.01 * table["gap"].max() for table in rates.values()
    )


# A choice -----------------------------------------------------------------------------------------


def _worth(contents: Contents, workload: str, name: str) -> Finding | None:
    """What each value is worth, held to the plain one."""
    metric = contents.metric(workload)
    rows = contents.differences
    rows = rows[(rows["workload"] == workload) & (rows["quantity"] == f"test by {name}")]
    rows = rows[rows["difference"].notna()]
    if rows.empty:
        return None
    rows = rows.assign(gain=metric.sign * rows["difference"])
    certain = rows[rows["p_holm"] < CLEAR]
    label, yes_or_no = figures.label(name), _is_truth(rows)
    about, subject = label.capitalize(), _subject(rows, label)
    held_to = "" if yes_or_no else f" against {rows['y'].iloc[0]}"
    if certain.empty:
        largest = _largest(contents, workload, rows, held_to)
        seeds = _seeds_needed(contents, rows)
        small = "" if seeds else " To tell so little would take more than 30 seeds."
        return Finding(
            about=about,
            sentence=f"These runs cannot tell what {subject} is worth: {largest}{small}",
            command=commands.more_seeds(contents, int(rows["pairs"].min()), needed=seeds)
            if seeds
            else "",
        )
    clauses = []
    for optimizer in sorted(certain["group"].unique(), key=list(contents.looks).index):
        of = certain[certain["group"] == optimizer].sort_values("gain", ascending=False)
        parts = [
            f"{verb} {_listed(contents, workload, some)}"
            for verb, some in (("gains", of[of["gain"] > 0]), ("loses", of[of["gain"] < 0]))
            if len(some)
        ]
        clauses.append(f"{optimizer} {' and '.join(parts)}")
    rest = len(rows) - len(certain)
    others = (
        ""
        if not rest
        else " The other difference may be luck."
        if rest == 1
        else f" The other {rest} differences may be luck."
    )
    ranks = dict.fromkeys(
        (row["x"], row["y"]) if row["gain"] > 0 else (row["y"], row["x"])
        for _, row in certain.iterrows()
    )
    return Finding(
        about=about,
        sentence=f"What {subject} is worth on test{held_to}: {'; '.join(clauses)}.{others}",
        ranks=tuple((str(better), str(worse)) for better, worse in ranks),
    )


def _is_truth(rows: pd.DataFrame) -> bool:
    return set(rows["x"]) | set(rows["y"]) == {"True", "False"}


def _subject(rows: pd.DataFrame, label: str) -> str:
    """``each schedule``, ``each value of hidden sizes``; of what is or is not, itself."""
    if _is_truth(rows):
        return label
    return f"each value of {label}" if label.endswith("s") else f"each {label}"


def _with(row: pd.Series) -> str:
    return "with it" if row["x"] == "True" else f"with {row['x']}"


def _listed(contents: Contents, workload: str, rows: pd.DataFrame) -> str:
    """``0.45 points with cosine (95 % interval 0.21 to 0.69)``; of many, from least to most."""
    metric = contents.metric(workload)
    show = partial(text.difference, metric)
    unit = f" {text.difference_unit(metric)}".rstrip()
    if len(rows) > MOST_LISTED:
        sizes = rows["gain"].abs()
        least, most = show(sizes.min()), show(sizes.max())
        span = least if least == most else f"{least} to {most}"
        return f"{span}{unit} with {text.listed(list(rows['x']))}"
    said = []
    for _, row in rows.iterrows():
        low, high = sorted(abs(row[end]) for end in ("low", "high"))
        interval = f"(95 % interval {show(low)} to {show(high)})"
        said.append(f"{show(abs(row['gain']))}{unit} {_with(row)} {interval}")
    return text.listed(said)


def _largest(contents: Contents, workload: str, rows: pd.DataFrame, held_to: str) -> str:
    metric = contents.metric(workload)
    show = partial(text.difference, metric)
    unit = f" {text.difference_unit(metric)}".rstrip()
    row = rows.loc[rows["gain"].abs().idxmax()]
    found = (
        f"the largest difference on test{held_to} is {show(row['gain'])}{unit}, of {row['group']} "
        f"{_with(row)}"
    )
    if text.missing(row["low"]):
        return f"{found}, from {text.count(int(row['pairs']), 'seed')}."
    low, high = sorted(metric.sign * row[end] for end in ("low", "high"))
    luck = (
        f", which among {text.count(len(contents.differences), 'difference')} may be luck"
        if low * high > 0
        else ""
    )
    reach = rows[["low", "high"]].abs().to_numpy().max()
    all_of_them = f"; no such interval reaches beyond {show(reach)}{unit}" if len(rows) > 1 else ""
    return f"{found} (95 % interval {show(low)} to {show(high)}){luck}{all_of_them}."


def _seeds_needed(contents: Contents, rows: pd.DataFrame) -> int:
    """As many as the clearest of these differences would take; 0 where that is too many."""
    known = rows[rows["low"].notna() & (rows["high"] > rows["low"])]
    if known.empty:
        return 10
    tests = int(contents.differences["p"].notna().sum())
    needed = [factors.seeds_needed(row, tests) for _, row in known.iterrows()]
    return min((seeds for seeds in needed if seeds), default=0)


# A number of the optimizer ------------------------------------------------------------------------


def _forgiving(contents: Contents, workload: str, name: str, runs: pd.DataFrame) -> Finding | None:
    """Which optimizer forgives a wrong value, among those tried."""
    found = factors.regions(runs, name)
    found = {optimizer: found[optimizer] for optimizer in contents.looks if optimizer in found}
    if not found:
        return None
    label, near = figures.label(name), words.tolerance(factors.DELTA, contents.metric(workload))
    rows = contents.differences
    rows = rows[(rows["workload"] == workload) & (rows["quantity"] == f"good {name}")]
    ranks = [pair for _, row in rows.iterrows() if (pair := _wider(row, found))]
    first = max({better for better, _ in ranks} or found, key=lambda name: found[name].width)
    beaten = [worse for better, worse in ranks if better == first]
    rest = [optimizer for optimizer in found if optimizer != first]
    said = "; ".join(
        [
            f"{first} stays within {near} of its best {_region(found[first])}",
            *(f"{optimizer} {_region(found[optimizer])}" for optimizer in rest),
        ]
    )
    whole = all(region.open_low and region.open_high for region in found.values())
    if beaten:
        sentence = (
            f"{first} forgives a wrong {label} more than {text.listed(beaten)}: of the values "
            f"tried, {said}."
        )
    elif rest:
        what = "values" if whole else "runs"
        sentence = (
            f"These {what} cannot tell which optimizer forgives a wrong {label} more: {said}."
        )
    else:
        sentence = f"In {label}, {said}."
    more = ""
    if rest and not beaten:
        more = commands.more_seeds(contents, int(runs["seed"].nunique()))
        if whole and all(region.decades for region in found.values()):
            key, tried = contents.study.keys[name], np.unique(runs.loc[runs[name] > 0, name])
            more = commands.beyond(contents, workload, key, tried, low=True, high=True)
    return Finding(
        about=label.capitalize(),
        sentence=sentence,
        ranks=tuple((first, other) for other in beaten),
        command=more,
    )


def _region(region: Region) -> str:
    """``from 1e-5 to 0.01 (3 decades, best at 0.001)``; an end of the values tried is called so."""
    low, high = (
        text.number(end, digits=3 if end in (*region.tried, region.best) else 2)
        for end in (region.low, region.high)
    )
    if region.low == region.high:
        return f"at {low} only"
    if region.open_low and region.open_high:
        return f"at every value tried ({low} to {high})"
    start = f"from {low}{' (the least tried)' if region.open_low else ''}"
    end = f"to {high}{' (the greatest tried)' if region.open_high else ''}"
    bound = "at least " if region.open_low or region.open_high else ""
    width = f"{bound}{region.width:.1f} decades, " if region.decades else ""
    return f"{start} {end} ({width}best at {text.number(region.best)})"


def _wider(row: pd.Series, found: dict[str, Region]) -> tuple[str, str] | None:
    """The optimizer with the wider region and the other: if the difference is certain, and the
    other's is not cut off where its own is not."""
    if not row["p_holm"] < CLEAR or not {row["x"], row["y"]} <= set(found):
        return None
    wide, narrow = (row["x"], row["y"]) if row["difference"] > 0 else (row["y"], row["x"])
    w, n = found[wide], found[narrow]
    same = w.tried == n.tried and w.width > n.width
    cut = (n.open_low and not w.open_low) or (n.open_high and not w.open_high)
    return (wide, narrow) if same and not cut else None


# How the best learning rate moves -----------------------------------------------------------------


def _moving(
    contents: Contents, workload: str, name: str, rates: dict[str, pd.DataFrame]
) -> Finding | None:
    """How the best learning rate goes with a factor."""
    numbers = pd.api.types.is_numeric_dtype(next(iter(rates.values()))[name])
    label = figures.label(name)
    clauses, ends = [], {}
    for optimizer in (optimizer for optimizer in contents.looks if optimizer in rates):
        table = rates[optimizer]
        said = _moves(table, name) if numbers else _by_choice(table, name)
        if said:
            clauses.append(f"that of {optimizer} {said}")
        if table["edge"].notna().any():
            ends[optimizer] = table
    if not clauses:
        return None
    start = f"The best learning rate{f', by {label}' if not numbers else ''}: "
    if numbers:
        a, b = (text.number(end) for end in _ends(rates, name))
        start = f"From {label} {a} to {b}, the best learning rate moves: "
    if numbers and all(" stays " in clause for clause in clauses):
        start = start.replace("moves", "does not move")
    marked = " (* an end of the rates tried: the best may lie beyond)" if ends else ""
    return Finding(
        about=f"Learning rate by {label}",
        sentence=f"{start}{'; '.join(clauses)}{marked}.",
        command=_more_rates(contents, workload, ends),
    )


def _ends(rates: dict[str, pd.DataFrame], name: str) -> tuple[float, float]:
    values = pd.concat([table[name] for table in rates.values()])
    return float(values.min()), float(values.max())


def _rate(row: pd.Series) -> str:
    return f"{text.number(row['lr'])}{'' if row['edge'] is None else '*'}"


def _moves(table: pd.DataFrame, name: str) -> str:
    first, last = _rate(table.iloc[0]), _rate(table.iloc[-1])
    if table["lr"].nunique() == 1:
        return f"stays {last if last.endswith('*') else first}"
    between = table["lr"].iloc[1:-1]
    monotonic = table["lr"].is_monotonic_increasing or table["lr"].is_monotonic_decreasing
    passing = (
        f", by way of {text.number(between.max() if last < first else between.min())},"
        if not monotonic
        else ""
    )
    said = f"goes from {first}{passing} to {last}"
    values = table[name]
    spans = (values > 0).all() and values.max() >= 10 * values.min()
    if not spans or len(table) < FEWEST_VALUES or table["edge"].notna().any():
        return said
    power, low, high = factors.exponent(table, name)
    if np.isnan(low):
        return said
    return (
        f"{said}, as the power {power:.1f} (95 % interval {low:.1f} to {high:.1f}) of the "
        f"{figures.label(name)}"
    )


def _by_choice(table: pd.DataFrame, name: str) -> str:
    """Nothing where the best rates are neighbours on the grid: that may be luck."""
    if not _move({"": table}):
        return ""
    least, most = table.loc[table["lr"].idxmin()], table.loc[table["lr"].idxmax()]
    return f"is {_rate(least)} with {least[name]} and {_rate(most)} with {most[name]}"


def _more_rates(contents: Contents, workload: str, ends: dict[str, pd.DataFrame]) -> str:
    """Rates beyond the ends at which the best lie."""
    cut = pd.DataFrame(
        {
            "optimizer": optimizer,
            "largest_gap": table["gap"].max(),
            "open_low": "lowest" in set(table["edge"]),
            "open_high": "highest" in set(table["edge"]),
        }
        for optimizer, table in ends.items()
    )
    return commands.wider(contents, workload, cut)


# Figures ------------------------------------------------------------------------------------------


def _panels(
    contents: Contents, gallery: Gallery, workload: str, name: str, optimizers: list[str]
) -> Iterator[Panel]:
    runs = _runs(contents, workload, name, optimizers)
    metric, label = contents.metric(workload), figures.label(name)
    rows = contents.differences
    rows = rows[(rows["workload"] == workload) & (rows["quantity"] == f"test by {name}")]
    drawn = figures.worth(rows, name=name, metric=metric, looks=contents.looks)
    if drawn is not None:
        subject = _subject(rows, label)
        title = f"{workload}: what {subject} is worth on test"
        yield Panel(
            title=f"What {subject} is worth",
            caption="The difference over pairs of runs that share a seed, with its 95 % interval; "
            "the other settings at their best on validation for each value.",
            views=[gallery.figure(drawn, f"worth_{workload}_{name}", title=title)],
        )
    yield from settings.alone(contents, gallery, runs, workload, name)
    rates = _rates(runs, name)
    if rates and pd.api.types.is_numeric_dtype(runs[name]):
        drawn = figures.best_rates(rates, name=name, looks=contents.looks)
        title = f"{workload}: best learning rate by {label}"
        yield Panel(
            title=f"Best learning rate by {label}",
            caption="By validation, of those tried; hollow where it is the least or the greatest "
            "of them, so that a better one may lie beyond.",
            views=[gallery.figure(drawn, f"best_lr_{workload}_{name}", title=title)],
        )
    yield from settings.with_lr(contents, gallery, runs, workload, name)


def _table(contents: Contents, gallery: Gallery) -> list[page.Table]:
    found = contents.differences
    found = found[found["quantity"].str.startswith("test by ")]
    if found.empty:
        return []
    file = gallery.csv(found, "factors")

    def show(row: dict[str, float], field: str) -> str:
        return text.difference(contents.metric(str(row["workload"])), row[field])

    def difference(row: dict) -> str:
        said = show(row, "difference")
        if not text.missing(row["low"]):
            said += f" ({show(row, 'low')} to {show(row, 'high')})"
        return said

    columns = [
        *words.workload(contents),
        Column("optimizer", lambda row: row["group"], kind="optimizer"),
        Column("setting", lambda row: figures.label(row["quantity"][8:]), kind="word"),
        Column("value", lambda row: row["x"], kind="word"),
        Column("against", lambda row: row["y"], kind="word"),
        Column("difference on test", difference),
        words.plain("pairs", "pairs"),
        words.plain("p_holm", "p", lambda p: text.NOTHING if text.missing(p) else f"{p:.2g}"),
    ]
    return [
        page.table(
            found,
            columns,
            title="What each value is worth",
            caption="The mean difference between runs that share a seed, with its 95 % interval "
            "(Student's t), and the p-value of a paired t test after Holm's correction for all "
            "differences of the study.",
            file=file,
        )
    ]
