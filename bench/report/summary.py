"""What a study shows, in sentences: generated from the tables, with their intervals."""

import pandas as pd

from bench.report import text
from bench.report.contents import DELTAS, Contents


def facts(contents: Contents) -> list[str]:
    """What the study consists of, for the head of the page."""
    runs, trials = contents.study.runs, contents.trials
    status = runs["status"].value_counts()
    said = [
        text.count(len(runs), "run"),
        text.count(len(trials), "trial"),
        text.count(runs["optimizer"].nunique(), "optimizer"),
        text.count(runs["workload"].nunique(), "workload"),
        text.count(runs["seed"].nunique(), "seed"),
    ]
    said += [f"{status[name]:,} {name}" for name in ("diverged", "failed") if name in status]
    if contents.study.unfinished:
        said.append(f"{len(contents.study.unfinished):,} without a record yet")
    return said


def findings(contents: Contents) -> list[str]:
    """The answer to: which optimizer can be trusted with how much tuning?"""
    said = []
    for workload in contents.workloads:
        best = contents.best[contents.best["workload"] == workload]
        lead = f"{workload}: " if len(contents.workloads) > 1 else ""
        said += [lead + sentence for sentence in _winner(best)]
        said += [lead + sentence for sentence in _forgiving(contents, workload)]
    return said + _warnings(contents)


def width(row: pd.Series) -> str:
    """Decades in a good region, with its interval; at least so many where it is cut off."""
    if pd.isna(row["width"]):
        return text.NOTHING
    bound = "≥" + text.SPACE if row["open_low"] or row["open_high"] else ""
    known = f"{bound}{row['width']:.1f}"
    if pd.isna(row["width_low"]):
        return known
    return f"{known} ({row['width_low']:.1f} to {row['width_high']:.1f})"


def _winner(best: pd.DataFrame) -> list[str]:
    known = best.dropna(subset=["score"])
    if known.empty:
        return []
    first, *others = (row for _, row in known.sort_values("score", ascending=False).iterrows())
    sentence = (
        f"{first['optimizer']} at {first['trial']} has the best mean validation accuracy, "
        f"{text.spread(first['score'], first['std'])} % over {text.count(first['seeds'], 'seed')} "
        f"(test {text.spread(first['test'], first['test_std'])} %)."
    )
    if others:
        behind = [
            f"{row['optimizer']} is {100 * (first['score'] - row['score']):.2f} points behind"
            for row in others[:2]
        ]
        sentence += f" {text.listed(behind)}."
    return [sentence]


def _forgiving(contents: Contents, workload: str) -> list[str]:
    if contents.sensitivity.empty:
        return []
    rows = contents.sensitivity
    rows = rows[(rows["workload"] == workload) & (rows["delta"] == DELTAS[0])].dropna(
        subset=["width"]
    )
    if len(rows) < 2:
        return []
    rows = rows.sort_values("width", ascending=False)
    widest, narrowest = rows.iloc[0], rows.iloc[-1]
    return [
        f"{widest['optimizer']} forgives the most: its accuracy stays within "
        f"{100 * DELTAS[0]:.0f} point of its best over {width(widest)} decades of learning rate; "
        f"{narrowest['optimizer']} the least, over {width(narrowest)}."
    ]


def _warnings(contents: Contents) -> list[str]:
    said = []
    if not contents.has_validation:
        said.append(
            "No run has a validation accuracy, so no setting can be selected: run with "
            "workload.val_size above 0."
        )
    return said
