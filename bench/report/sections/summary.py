"""The answer at the top: which optimizer can be trusted with how much tuning?"""

from collections import defaultdict
from functools import partial

import numpy as np
import pandas as pd

from bench.analysis import selection, tables
from bench.analysis.intervals import mean_interval
from bench.metrics import Metric
from bench.report import page, text
from bench.report.contents import DELTAS, PAIR, Contents
from bench.report.page import Block, Column, Gallery, Section
from bench.report.sections import words

CLEAR = 0.05
MOST_PROBLEMS = 20


def section(contents: Contents, gallery: Gallery) -> Section:
    file = gallery.csv(contents.best.drop(columns="edges"), "best")
    several = len(contents.workloads) > 1
    overall = _overall(contents)
    blocks = [Block(heading="Over all workloads" if overall else "", findings=overall)]
    for workload in contents.workloads:
        blocks.append(
            Block(
                heading=workload if several else "",
                findings=findings(contents, workload),
                tables=[
                    _table(contents, workload, file, explained=workload == contents.workloads[-1])
                ],
            )
        )
    problems = contents.problems[:MOST_PROBLEMS]
    if len(contents.problems) > MOST_PROBLEMS:
        problems.append(f"And {len(contents.problems) - MOST_PROBLEMS:,} more files like these.")
    blocks.append(Block(warnings=[*warnings(contents), *problems]))
    return Section(anchor="summary", title="Summary", short="Summary", blocks=blocks)


def facts(contents: Contents) -> list[str]:
    """What the study consists of, for the head of the page."""
    runs, trials = contents.study.runs, contents.trials
    status = runs["status"].value_counts()
    said = [
        text.count(len(runs), "run"),
        text.count(len(trials), "trial"),
        text.count(runs["optimizer"].nunique(), "optimizer"),
        text.count(contents.number_of_workloads, "workload"),
        text.count(runs["seed"].nunique(), "seed"),
    ]
    said += [f"{status[name]:,} {name}" for name in ("diverged", "failed") if name in status]
    if contents.study.unfinished:
        said.append(f"{len(contents.study.unfinished):,} without a record yet")
    return said


def findings(contents: Contents, workload: str) -> list[tuple[str, str]]:
    """What one workload shows, in sentences with intervals, each with what it is about."""
    said = {
        "Tuned": _tuned(contents, workload),
        "Untuned": _untuned(contents, workload),
        "Learning rate": _forgiving(contents, workload),
        "Speed": _fast(contents, workload),
    }
    return [(about, sentence) for about, sentence in said.items() if sentence]


def warnings(contents: Contents) -> list[str]:
    """What a reader must know before relying on the numbers; one line each. Files aside."""
    study = contents.study
    said = []
    if not contents.has_validation:
        said.append(
            "No run has a validation score, so no setting can be selected: the workload needs "
            "validation data (workload.val_size)."
        )
    for workload, lengths in study.lengths.items():
        said.append(
            f"Runs of {workload} were given different lengths ({text.listed(list(lengths))}): a "
            "length is a budget, not a setting, so each is compared with its own length only"
            + (
                ", and nothing is said over all workloads."
                if contents.number_of_workloads > 1
                else "."
            )
        )
    for workload, metrics in study.metrics.items():
        said.append(
            f"Runs of {workload} were judged by different metrics ({text.listed(list(metrics))}): "
            "each is compared with its own only."
        )
    for workload in contents.workloads if len(study.runs) else []:
        metric, runs = contents.metric(workload), study.runs[study.runs["workload"] == workload]
        lost = (runs["status"] == "diverged").any() and runs["floor/val"].notna().any()
        if metric.chance is None and lost:
            floor = text.quantity(metric, text.value(metric, runs["floor/val"].iloc[0]))
            said.append(
                f"What chance gives in {text.name(metric)} on {workload} is not known: a diverged "
                f"run counts as the worst value measured, {floor}."
            )
    by_note: dict[str, list[str]] = defaultdict(list)
    several = len(contents.workloads) > 1
    for _, row in contents.best.iterrows():
        for note in filter(None, row["notes"].split("; ")):
            name = f"{row['optimizer']} on {row['workload']}" if several else row["optimizer"]
            by_note[note].append(name)
    for note, names in by_note.items():
        everywhere = len(names) == len(contents.best) > 2
        said.append(f"{'all optimizers' if everywhere else text.listed(names)}: {note}.")
    failed = study.runs[study.runs["status"] == "failed"]
    if len(failed):
        reason = failed["reason"].mode()
        why = f" ({reason[0]})" if len(reason) else ""
        said.append(f"{text.count(len(failed), 'run')} failed{why} and count for nothing here.")
    if study.unfinished:
        said.append(
            f"{text.count(len(study.unfinished), 'run')} left no record: in progress, or "
            "interrupted. Start the same command again to finish them."
        )
    devices = {str(environment.get("device")) for environment, _ in study.environments}
    if len(devices) > 1:
        said.append(f"Runs were made on {text.listed(sorted(devices))}: seconds do not compare.")
    return said


def _table(contents: Contents, workload: str, file: str, *, explained: bool) -> page.Table:
    best = contents.of(contents.best, workload)
    metric = contents.metric(workload)
    show, less = partial(text.value, metric), "" if metric.higher_is_better else "-"
    columns = [
        words.OPTIMIZER,
        *words.settings(contents),
        Column(
            text.heading("validation", metric),
            lambda row: text.spread(metric, row["score"], row["std"]),
            best=f"{less}score",
        ),
        Column(
            text.heading("test", metric),
            lambda row: text.spread(metric, row["test"], row["test_std"]),
        ),
        words.plain("seeds", "seeds"),
    ]
    caption = [
        "Mean ± standard deviation over seeds at the setting with the best mean validation "
        f"{words.score(contents.one_metric).removeprefix('the ')}; test is only reported. "
        "The best of a column is bold."
    ]
    expected = contents.of(contents.expected, workload)
    if contents.has_validation and best["compared"].max() > 1:
        for k in (1, _few_trials(contents, workload)):
            rows = expected.loc[expected["k"] == k, [*PAIR, "expected"]]
            best = best.merge(rows.rename(columns={"expected": f"after_{k}"}), how="left")
            title = f"after {text.count(k, 'trial')},{text.SPACE}{text.unit(metric)}".rstrip(
                f",{text.SPACE}"
            )
            columns.append(words.plain(f"after_{k}", title, show, best=f"{less}after_{k}"))
        caption.append(
            "After k trials: expected best, if k of the settings tried are drawn at random."
        )
    widths = contents.sensitivity[contents.sensitivity["delta"] == DELTAS[0]]
    if not widths.empty and not words.at_random(contents, workload):
        kept = [*PAIR, "width", "width_low", "width_high", "open_low", "open_high"]
        best = best.merge(widths[kept], how="left")
        columns.append(Column("good learning rates, decades", words.width, best="width"))
        caption.append(words.width_caption(contents.one_metric))
    times = contents.of(contents.times[contents.times["unit"] == "epochs"], workload)
    if (times["reached"] > 0).any():
        named = {name: f"time_{name}" for name in ("low", "high")}
        kept = [*PAIR, "time", *named, "target", "reached"]
        best = best.merge(times[kept].rename(columns=named), on=list(PAIR), how="left")
        target = metric.sign * (metric.sign * best["target"]).max()
        said = text.quantity(metric, text.number(text.scale(metric) * target))
        title = f"epochs to {said.replace(' ', text.SPACE)}"
        show_time = words.time_to_target(text.number, "time", *named.values())
        columns.append(Column(title, show_time, best="-time"))
    columns.append(Column("diverged", lambda row: f"{row['all_diverged']:,} of {row['runs']:,}"))
    return page.table(
        best,
        columns,
        title="Each optimizer at its best setting",
        caption=" ".join(caption) if explained else "",
        file=file,
    )


def _tuned(contents: Contents, workload: str) -> str:
    known = contents.of(contents.best, workload).dropna(subset=["score"])
    if known.empty:
        return ""
    metric = contents.metric(workload)
    known = known.sort_values("score", ascending=not metric.higher_is_better, kind="stable")
    first = known.iloc[0]
    runs = contents.selected
    runs = runs[(runs["workload"] == workload) & (runs["optimizer"] == first["optimizer"])]
    test = mean_interval(runs["test"].to_numpy())
    interval = (
        f"95 % interval {text.value(metric, test.low)} to {text.value(metric, test.high)}, "
        if np.isfinite(test.low)
        else ""
    )
    said = (
        f"{first['optimizer']} is best: "
        f"{text.quantity(metric, text.value(metric, first['score']))} on validation at "
        f"{words.setting(contents, first)}; "
        f"{text.quantity(metric, text.value(metric, first['test']))} on test "
        f"({interval}{text.count(int(first['seeds']), 'seed')})."
    )
    if len(known) > 1:
        said += " " + _lead(contents, workload, first["optimizer"], known.iloc[1]["optimizer"])
    return said


def _lead(contents: Contents, workload: str, first: str, second: str) -> str:
    """How far the first is ahead of the second on test, and whether that is more than luck."""
    rows = contents.tests
    rows = rows[(rows["workload"] == workload) & rows["x"].isin([first, second])]
    rows = rows[rows["y"].isin([first, second])]
    if rows.empty:
        return ""
    test = rows.iloc[0]
    metric = contents.metric(workload)
    sign = metric.sign if test["x"] == first else -metric.sign
    ahead = sign * test["difference"]
    unit = text.difference_unit(metric)
    unit = f" {unit}" if unit else ""
    show = partial(text.difference, metric)
    if np.isnan(test["low"]):
        return f"{second} is {show(ahead)}{unit} behind on test; one seed cannot tell luck."
    low, high = sorted((sign * test["low"], sign * test["high"]))
    lead = f"{show(ahead)}{unit} on test (95 % interval {show(low)} to {show(high)})"
    if test["p_t_holm"] < CLEAR and ahead > 0:
        return f"It leads {second} by {lead}."
    if ahead < 0:
        return (
            f"{second} is {show(-ahead)}{unit} ahead on test (95 % interval {show(-high)} to "
            f"{show(-low)}), which is no reason to prefer it: test selects nothing."
        )
    if low > 0:
        return (
            f"It is ahead of {second} by {lead}; among all {len(contents.tests)} comparisons of "
            f"this study, that may be luck (p = {test['p_t_holm']:.2g} after Holm's correction)."
        )
    return f"Its lead over {second} may be luck: {lead}."


def _untuned(contents: Contents, workload: str) -> str:
    expected = contents.of(contents.expected, workload)
    chances = contents.of(contents.probability_best, workload)
    if expected["optimizer"].nunique() < 2 or expected["trials"].max() < 2:
        return ""
    one = expected[expected["k"] == 1]
    metric = contents.metric(workload)
    one = one.sort_values("expected", ascending=not metric.higher_is_better)
    most, least = one.iloc[0], one.iloc[-1]
    one_digit = partial(text.value, metric, digits=1)
    show = words.with_interval("expected", "low", "high", one_digit)
    interval = "" if text.missing(most["low"]) else " (95 % interval over seeds)"
    said = (
        f"{most['optimizer']} promises most: one setting drawn at random from those tried gives "
        f"{text.quantity(metric, show(most.to_dict()))} in expectation{interval}; "
        f"{least['optimizer']}, the last, {text.quantity(metric, show(least.to_dict()))}."
    )
    if len(chances):
        few = min(_few_trials(contents, workload), chances["k"].max())
        likely = chances[chances["k"] == few].sort_values("probability").iloc[-1]
        said += (
            f" With {text.count(int(likely['k']), 'trial')} each, {likely['optimizer']} is best "
            f"with probability {likely['probability']:.2f}."
        )
    return said


def _few_trials(contents: Contents, workload: str) -> int:
    """A budget that is some tuning, but far from trying everything: 4 trials, or 2."""
    trials = contents.of(contents.expected, workload)["trials"].min()
    return 4 if trials >= 8 else 2


def _forgiving(contents: Contents, workload: str) -> str:
    rows = contents.of(contents.sensitivity, workload)
    rows = rows[rows["delta"] == DELTAS[0]].dropna(subset=["width"])
    if len(rows) < 2 or words.at_random(contents, workload):
        return ""
    rows = rows.sort_values("width", ascending=False, kind="stable")
    widest, narrowest = rows.iloc[0], rows.iloc[-1]
    near = words.tolerance(DELTAS[0], contents.metric(workload))
    return (
        f"{widest['optimizer']} forgives a wrong learning rate the most: it stays within "
        f"{near} of its best over {words.width(widest.to_dict())} decades; "
        f"{narrowest['optimizer']}, the least, over {words.width(narrowest.to_dict())}."
    )


def _fast(contents: Contents, workload: str) -> str:
    rows = contents.of(contents.times, workload)
    if rows.empty:
        return ""
    epochs, seconds = (rows[rows["unit"] == unit] for unit in ("epochs", "seconds"))
    target = words.target(contents.metric(workload), rows)
    clock = seconds[["optimizer", "time"]].rename(columns={"time": "seconds"})
    reached = epochs[np.isfinite(epochs["time"].astype(float))].merge(clock, on="optimizer")
    reached = reached.sort_values(["time", "seconds"], kind="stable")
    if reached.empty:
        return f"No optimizer reaches the target of {target} with most of its seeds."
    first = reached.iloc[0]
    took = f" ({text.seconds(first['seconds'])} of training)" if first["seconds"] < np.inf else ""
    said = (
        f"{first['optimizer']} is the first to reach {target}: after {_epochs(first['time'])}{took}"
    )
    last = reached.iloc[-1]
    if last["time"] > first["time"]:
        said += f"; {last['optimizer']} takes {_epochs(last['time'])}"
    never = epochs.loc[~epochs["optimizer"].isin(reached["optimizer"]), "optimizer"]
    return said + (f"; {text.listed(list(never))} never." if len(never) else ".")


def _epochs(number: float) -> str:
    return "1 epoch" if number == 1 else f"{text.number(number)} epochs"


def _overall(contents: Contents) -> list[tuple[str, str]]:
    if not contents.compares_workloads or not contents.has_validation:
        return []
    means = tables.interquartile_means(contents.study.runs, rng=np.random.default_rng(0))
    said = []
    if not means.empty:
        first = means.sort_values("normalised", ascending=False, kind="stable").iloc[0]
        interval = (
            f" (95 % interval {first['normalised_low']:.3f} to {first['normalised_high']:.3f})"
            if np.isfinite(first["normalised_low"])
            else ""
        )
        sentence = (
            f"{first['optimizer']} does best over {len(contents.workloads)} workloads: its "
            f"interquartile mean is {first['normalised']:.3f}{interval} on a scale where 0 is "
            f"{words.floor(contents.lacking_chance)} and 1 the best optimizer of each workload."
        )
        said.append(("Tuned", sentence))
    share = _shares_of_best(contents)
    if len(share) > 1:
        metric = contents.one_metric
        said_of = (
            f"the {text.name(metric)} that the best optimizer gives"
            if metric is not None and _from_zero(metric)
            else f"the way from {words.floor(contents.lacking_chance)} to the best optimizer"
        )
        sentence = (
            f"{share.index[0]} is the safest: with one random setting it gives, averaged over "
            f"workloads, {100 * share.iloc[0]:.0f} % of {said_of}; {share.index[-1]}, the last, "
            f"{100 * share.iloc[-1]:.0f} %."
        )
        said.append(("Untuned", sentence))
    return said


def _from_zero(metric: Metric) -> bool:
    """Whether a share of a value means something: 0 is the worst there is."""
    return metric.unit == "fraction" and metric.higher_is_better


def _shares_of_best(contents: Contents) -> pd.Series:
    """What one random setting gives, as a share of what the best optimizer's gives, mean over
    workloads: of each optimizer that all workloads have, the best first."""
    one = contents.expected[contents.expected["k"] == 1]
    if one.empty:
        return pd.Series(dtype=float)
    metric = contents.one_metric
    signed = selection.signs(one.assign(metric=one["workload"].map(contents.metric)))
    if metric is not None and _from_zero(metric):
        origin = pd.Series(0.0, index=one.index)
    else:
        floors = contents.study.runs.groupby("workload")["floor/val"].first()
        origin = signed * one["workload"].map(floors)
    gained = signed * one["expected"] - origin
    best = gained.groupby(one["workload"]).transform("max")
    share = (gained / best.where(best > 0)).groupby(one["optimizer"]).mean()
    complete = one.groupby("optimizer")["workload"].nunique() == one["workload"].nunique()
    return share[complete].dropna().sort_values(ascending=False)
