"""The answer at the top: which optimizer can be trusted with how much tuning?"""

from collections import defaultdict
from functools import partial

from bench.analysis import tables
from bench.report import page, text
from bench.report.contents import DELTAS, PAIR, Contents
from bench.report.findings import Finding
from bench.report.page import Block, Column, Gallery, Section
from bench.report.sections import questions, verdicts, words
from bench.study import Study

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
    ends = ("diverged", "failed", "pruned")
    said += [f"{status[name]:,} {name}" for name in ends if name in status]
    if contents.study.unfinished:
        said.append(f"{len(contents.study.unfinished):,} without a record yet")
    return said


def findings(contents: Contents, workload: str) -> list[Finding]:
    """What one workload shows, in sentences with intervals: what was varied on purpose first, and
    of the optimizers what they were asked."""
    asked = questions.of_the_optimizers(contents, workload)
    found = verdicts.of_workload(contents, workload)
    return [
        *questions.findings(contents, workload),
        *sorted(found, key=lambda finding: finding.about != asked),
    ]


def headline(contents: Contents) -> str:
    """The answer in one sentence, for the first screen."""
    workload = contents.workloads[0]
    found = findings(contents, workload)
    of_both = questions.of_the_optimizers(contents, workload) in ("Tuned", "Learning rate")
    if not found or (of_both and not questions.findings(contents, workload)):
        return verdicts.headline(contents)
    return found[0].sentence


def warnings(contents: Contents) -> list[str]:
    """What a reader must know before relying on the numbers; one line each. Files aside."""
    study = contents.study
    said = []
    if not contents.has_validation:
        said.append(
            "No run has a validation score, so no setting can be selected: the workload needs "
            "validation data (workload.val_size)."
        )
    for workload, variants in study.variants.items():
        said.append(
            f"Runs of {workload} minimised different things ({text.listed(list(variants))}): each "
            "counts as a workload of its own."
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
    if len(study.pruned):
        said.append(_of_pruned(study))
    if study.unfinished:
        said.append(
            f"{text.count(len(study.unfinished), 'run')} left no record: in progress, or "
            "interrupted. Start the same command again to finish them."
        )
    devices = {str(environment.get("device")) for environment, _ in study.environments}
    if len(devices) > 1:
        said.append(f"Runs were made on {text.listed(sorted(devices))}: seconds do not compare.")
    return said


def _of_pruned(study: Study) -> str:
    pruned = study.pruned
    pairs = pruned[["workload", "optimizer"]].drop_duplicates()
    several = study.runs["workload"].nunique() > 1
    names = [f"{o} on {w}" if several else o for w, o in pairs.itertuples(index=False)]
    were = "run was" if len(pruned) == 1 else "runs were"
    return (
        f"{len(pruned):,} {were} pruned, stopped early by a sweep, and left out of every result. "
        f"Of {text.listed(sorted(names))} the best of what is left is shown, and nothing is said "
        "of how much settings matter or how sure a lead is. The same sweep with "
        "hydra/sweeper=grid, or random where it drew them, completes them."
    )


def _table(contents: Contents, workload: str, file: str, *, explained: bool) -> page.Table:
    metric = contents.metric(workload)
    best = contents.of(contents.best, workload)
    best = best.sort_values("score", ascending=not metric.higher_is_better, kind="stable")
    show = partial(text.value, metric)
    columns = [
        words.OPTIMIZER,
        *words.settings(contents),
        Column(
            text.heading("validation", metric),
            lambda row: text.spread(metric, row["score"], row["std"]),
        ),
        Column(
            text.heading("test", metric),
            lambda row: text.spread(metric, row["test"], row["test_std"]),
        ),
        words.plain("seeds", "seeds"),
    ]
    caption = [
        "Mean ± standard deviation over seeds at the setting with the best mean validation "
        f"{words.score(contents.one_metric).removeprefix('the ')}; test is only reported."
    ]
    expected = contents.of(contents.expected, workload).dropna(subset="low")
    for k in (1, expected["k"].max()) if len(expected) else ():
        rows = expected.loc[expected["k"] == k, [*PAIR, "expected"]]
        best = best.merge(rows.rename(columns={"expected": f"after_{k}"}), how="left")
        title = f"after {text.count(k, 'trial')},{text.SPACE}{text.unit(metric)}"
        columns.append(words.plain(f"after_{k}", title.rstrip(f",{text.SPACE}"), show))
    if len(expected):
        caption.append("After k trials: expected best, if k settings are drawn at random.")
    widths = contents.sensitivity[contents.sensitivity["delta"] == DELTAS[0]]
    if (widths["workload"] == workload).any():
        kept = [*PAIR, "width", "width_low", "width_high", "open_low", "open_high"]
        best = best.merge(widths[kept], how="left")
        columns.append(Column("good learning rates, decades", words.width))
        caption.append(words.width_caption(contents.one_metric))
    times = contents.of(contents.times[contents.times["unit"] == "steps"], workload)
    if (times["reached"] > 0).any():
        named = {name: f"time_{name}" for name in ("low", "high")}
        kept = [*PAIR, "time", *named, "target", "reached"]
        best = best.merge(times[kept].rename(columns=named), on=list(PAIR), how="left")
        target = metric.sign * (metric.sign * best["target"]).max()
        said = text.quantity(metric, text.number(text.scale(metric) * target))
        title = f"steps to {said.replace(' ', text.SPACE)}"
        columns.append(Column(title, words.time_to_target(text.number, "time", *named.values())))
    columns.append(Column("diverged", lambda row: f"{row['all_diverged']:,} of {row['runs']:,}"))
    return page.table(
        best,
        columns,
        title="Each optimizer at its best setting",
        caption=" ".join(caption) if explained else "",
        file=file,
    )


def _overall(contents: Contents) -> list[Finding]:
    if not contents.compares_workloads or not contents.has_validation:
        return []
    means = tables.interquartile_means(contents.study.whole)
    means = means.dropna(subset="normalised").sort_values(
        "normalised", ascending=False, kind="stable"
    )
    if means.empty:
        return []
    names = ("normalised", "normalised_low", "normalised_high")
    show = words.with_interval(*names, "{:.3f}".format)
    parts = [f"{row['optimizer']} {show(row)}" for row in means.to_dict("records")]
    sentence = (
        f"Interquartile means over {len(contents.workloads)} workloads, on a scale where 0 is "
        f"{words.floor(contents.lacking_chance)} and 1 the best optimizer of each: "
        f"{text.listed(parts)}. These describe the workloads that were tried; they rank nothing."
    )
    return [Finding(about="Tuned", sentence=sentence)]
