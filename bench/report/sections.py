"""What stands on the page: each section takes the statistics, and gives words, tables, figures."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench import study as studies
from bench.analysis import selection, tables
from bench.report import figures, page, style, summary, text
from bench.report.contents import DELTAS, PAIR, Contents, setting_names
from bench.report.page import Column, Gallery, Group, Page, Panel, Section

MOST_SETTINGS = 4  # beside the learning rate: more would be a page that nobody reads
MOST_VALUES = 12  # of one setting that a heat map or a chart of choices has room for


def build(contents: Contents, gallery: Gallery) -> Page:
    """The page, with its figures and tables saved on the way."""
    study = contents.study
    sections = [
        _summary(contents, gallery),
        _convergence(contents, gallery),
        _sensitivity(contents, gallery),
        _settings(contents, gallery),
        _trials(contents, gallery),
        _reproduce(contents),
    ]
    gallery.csv(study.runs, "runs")
    return Page(
        title=study.name,
        facts=summary.facts(contents),
        command=f"python -m bench.report {study.directory}",
        sections=[section for section in sections if section is not None],
    )


def _summary(contents: Contents, gallery: Gallery) -> Section:
    file = gallery.csv(contents.best.drop(columns=["place", "edges"]), "best")
    shown = []
    for workload in contents.workloads:
        best = contents.best[contents.best["workload"] == workload]
        best = best.merge(contents.trials[[*PAIR, "trial", *_missing(contents, best)]], how="left")
        best = best.merge(_widths(contents), on=list(PAIR), how="left")
        columns: list[Any] = [
            ("optimizer", Column(title="optimizer", numeric=False, optimizer=True), str),
            *(
                (name, Column(title=figures.label(name)), text.number)
                for name in _columns(contents)
            ),
        ]
        best["validation"] = best.apply(lambda row: text.spread(row["score"], row["std"]), axis=1)
        best["on test"] = best.apply(lambda row: text.spread(row["test"], row["test_std"]), axis=1)
        best["lost"] = best.apply(lambda row: f"{row['all_diverged']} of {row['runs']}", axis=1)
        columns += [
            ("validation", Column(title="validation %"), str),
            ("on test", Column(title="test %"), str),
            ("seeds", Column(title="seeds"), str),
        ]
        if not contents.sensitivity.empty:
            columns.append(("width", Column(title="good learning rates, decades"), str))
        columns.append(("lost", Column(title="diverged"), str))
        if (best["notes"] != "").any():
            columns.append(("notes", Column(title="note", numeric=False, long=True), str))
        shown.append(
            page.table(
                best,
                columns,
                title=f"Each optimizer at its best setting: {workload}",
                caption="Mean ± standard deviation over seeds of the setting selected by mean "
                "validation accuracy; test is only reported. " + _width_words(contents),
                file=file,
                best=best["score"].notna() & (best["score"] == best["score"].max()),
            )
        )
    return Section(
        anchor="summary",
        title="Summary",
        short="Summary",
        findings=summary.findings(contents),
        tables=shown,
    )


def _columns(contents: Contents) -> list[str]:
    return setting_names(contents.study)[: MOST_SETTINGS + 1]


def _missing(contents: Contents, frame: pd.DataFrame) -> list[str]:
    return [name for name in _columns(contents) if name not in frame]


def _widths(contents: Contents) -> pd.DataFrame:
    if contents.sensitivity.empty:
        return pd.DataFrame(columns=[*PAIR, "width"], dtype=object)
    rows = contents.sensitivity[contents.sensitivity["delta"] == DELTAS[0]]
    return rows[list(PAIR)].assign(width=rows.apply(summary.width, axis=1))


def _width_words(contents: Contents) -> str:
    if contents.sensitivity.empty:
        return ""
    return (
        "Good learning rates: the decades within which accuracy stays within "
        f"{text.number(100 * DELTAS[0])} point of the best, with a 95 % bootstrap interval over "
        "seeds; ≥ where the region reaches the end of the values tried."
    )


def _convergence(contents: Contents, gallery: Gallery) -> Section | None:
    groups = []
    for workload in contents.workloads:
        runs = contents.selected[contents.selected["workload"] == workload]
        curves = {}
        for optimizer, rows in runs.groupby("optimizer"):
            curves[str(optimizer)], problems = studies.read_curves(contents.study, rows)
            contents.problems += problems
        targets = runs.get("target/value", pd.Series(dtype=float)).dropna().unique()
        panels = []
        for y in ("val/accuracy", "val/loss", "train/loss"):
            target = float(targets[0]) if len(targets) == 1 and y == "val/accuracy" else None
            views = []
            for x, word in (("epoch", "epochs"), ("step", "steps"), ("seconds", "seconds")):
                drawn = figures.convergence(curves, x=x, y=y, looks=contents.looks, target=target)
                if drawn is not None:
                    name = f"convergence_{workload}_{_file(y)}_by_{x}"
                    title = f"{workload}: {figures.label(y)} against {figures.label(x)}"
                    views.append(gallery.figure(drawn, name, title=title, label=word))
            if views:
                title = figures.label(y).partition(" (")[0].capitalize()
                panels.append(Panel(title=title, caption=_mean_and_band(runs), views=views))
        if panels:
            groups.append(Group(heading=workload, panels=panels))
    if not groups:
        return None
    return Section(
        anchor="convergence",
        title="Convergence",
        short="Convergence",
        paragraphs=[
            "Each optimizer at its selected setting. Seconds are training time alone: evaluation, "
            "logging and compilation are left out."
        ],
        groups=groups,
    )


def _mean_and_band(runs: pd.DataFrame) -> str:
    seeds = runs.groupby("optimizer")["seed"].nunique()
    if seeds.max() == 1:
        return "One seed each: how much of a difference is luck cannot be seen."
    numbers = text.number(seeds.min())
    if seeds.min() != seeds.max():
        numbers += f" to {text.number(seeds.max())}"
    return f"Mean over {numbers} seeds; the band spans all of them."


def _sensitivity(contents: Contents, gallery: Gallery) -> Section | None:
    if contents.response.empty:
        return None
    response = contents.response
    gallery.csv(response, "lr_response")
    panels = []
    for workload in contents.workloads:
        rows = response[response["workload"] == workload]
        if rows.empty:
            continue
        best = contents.best[contents.best["workload"] == workload].set_index("optimizer")
        drawn = figures.response(
            rows, name="lr", looks=contents.looks, selected=best["lr"].to_dict()
        )
        title = f"{workload}: final validation accuracy against learning rate"
        view = gallery.figure(drawn, f"lr_sensitivity_{workload}", title=title)
        others = [name for name in contents.study.settings if name != "lr"]
        rest = f"; {text.listed(list(map(figures.label, others)))} at their best" if others else ""
        panels.append(
            Panel(
                title=workload,
                caption=f"Mean over seeds{rest}; the band spans all of them, the ring is the "
                "selected value. A run that diverged counts as chance; "
                f"{text.CROSS} marks where runs did, "
                "fainter where only some.",
                views=[view],
            )
        )
    return Section(
        anchor="sensitivity",
        title="Sensitivity to the learning rate",
        short="Learning rate",
        paragraphs=[
            "A wide top is an optimizer that forgives a learning rate that was not tuned; a narrow "
            "one has to be searched for."
        ],
        tables=[] if contents.sensitivity.empty else [_width_table(contents, gallery)],
        groups=[Group(heading="", panels=panels)],
    )


def _width_table(contents: Contents, gallery: Gallery) -> page.Table:
    table = contents.sensitivity
    file = gallery.csv(table, "lr_sensitivity")
    first = table[table["delta"] == DELTAS[0]].reset_index(drop=True)
    shown = first[list(PAIR)].assign(
        region=first.apply(lambda row: text.interval(row["low"], row["high"]), axis=1),
        centre=first["centre"],
        share_diverged=first["share_diverged"],
        notes=first["notes"],
    )
    columns: list[Any] = [
        ("workload", Column(title="workload", numeric=False), str),
        ("optimizer", Column(title="optimizer", numeric=False, optimizer=True), str),
    ]
    for delta, rows in table.groupby("delta"):
        name = f"within {text.number(100 * delta)}"
        widths = rows[list(PAIR)].assign(**{name: rows.apply(summary.width, axis=1)})
        shown = shown.merge(widths, on=list(PAIR), how="left")
        unit = "point" if delta == 0.01 else "points"
        columns.append(
            (name, Column(title=f"decades within {text.number(100 * delta)} {unit}"), str)
        )
    columns += [
        ("region", Column(title=f"from, to (within {text.number(100 * DELTAS[0])})"), str),
        ("centre", Column(title="centre"), text.number),
        ("share_diverged", Column(title="diverged %"), lambda share: text.percent(share, digits=0)),
    ]
    if (shown["notes"] != "").any():
        columns.append(("notes", Column(title="note", numeric=False, long=True), str))
    order = list(contents.looks)
    shown = shown.sort_values(
        list(PAIR), key=lambda by: by.map(order.index) if by.name == "optimizer" else by
    )
    return page.table(
        shown,
        columns,
        title="How wide the region of good learning rates is",
        caption="Decades of learning rate within so many points of accuracy of the optimizer's own "
        "best, with a 95 % bootstrap interval over seeds; ≥ where the region reaches the end of "
        "the values tried, so that its width is a lower bound.",
        file=file,
    )


def _settings(contents: Contents, gallery: Gallery) -> Section | None:
    others = [name for name in contents.study.settings if name != "lr"][:MOST_SETTINGS]
    if not others:
        return None
    groups = []
    for workload in contents.workloads:
        runs = contents.study.runs
        runs = runs[runs["workload"] == workload]
        panels = [
            panel
            for name in others
            for panel in (
                *_setting_alone(contents, gallery, runs, workload, name),
                *_setting_with_lr(contents, gallery, runs, workload, name),
            )
        ]
        if panels:
            groups.append(Group(heading=workload, panels=panels))
    if not groups:
        return None
    return Section(
        anchor="settings",
        title="Other settings",
        short="Other settings",
        paragraphs=["What else was varied, and how it interacts with the learning rate."],
        groups=groups,
    )


def _setting_alone(
    contents: Contents, gallery: Gallery, runs: pd.DataFrame, workload: str, name: str
) -> Iterator[Panel]:
    known = runs[runs[name].notna()]
    if not 1 < known[name].nunique() <= MOST_VALUES:
        return
    table = tables.response(known, name=name, by=PAIR)
    if table.empty or not (table["share_diverged"] < 1).any():
        return
    if pd.api.types.is_numeric_dtype(known[name]):
        best = contents.best[contents.best["workload"] == workload].set_index("optimizer")
        chosen = best[name].to_dict() if name in best else {}
        drawn = figures.response(table, name=name, looks=contents.looks, selected=chosen)
    else:
        drawn = figures.choices(table, name=name, looks=contents.looks)
    title = f"{workload}: validation accuracy by {figures.label(name)}"
    yield Panel(
        title=figures.label(name).capitalize(),
        caption="The other settings at their best for each value; bars and bands span all seeds.",
        views=[gallery.figure(drawn, f"setting_{workload}_{_file(name)}", title=title)],
    )


def _setting_with_lr(
    contents: Contents, gallery: Gallery, runs: pd.DataFrame, workload: str, name: str
) -> Iterator[Panel]:
    if "lr" not in contents.study.settings:
        return
    cells = {}
    for optimizer in contents.looks:
        rows = runs[(runs["optimizer"] == optimizer) & runs[name].notna() & runs["lr"].notna()]
        if rows[name].nunique() > 1 and rows["lr"].nunique() > 1:
            cells[optimizer] = _cells(rows, name)
    scores = [c.loc[c["share_diverged"] < 1, "score"] for c in cells.values()]
    if not scores or pd.concat(scores).dropna().empty:
        return
    known = pd.concat(scores).dropna()
    # The lowest third need not be told apart: what matters is the shape of the good region.
    limits = float(known.quantile(0.33 if len(known) > 8 else 0)), float(known.max())
    for optimizer, table in cells.items():
        title = f"{workload}: {optimizer}, learning rate and {figures.label(name)}"
        drawn_at_random = max(table["lr"].nunique(), table[name].nunique()) > MOST_VALUES + 3
        if drawn_at_random and pd.api.types.is_numeric_dtype(table[name]):
            drawn = figures.scatter(table, x="lr", y=name, limits=limits)
            caption = f"A dot a trial; {text.CROSS} where every run diverged."
        elif drawn_at_random:
            continue
        else:
            top = table.loc[table["score"].idxmax()] if table["score"].notna().any() else None
            best = None if top is None else (top["lr"], top[name])
            drawn = figures.heat_map(table, x="lr", y=name, limits=limits, best=best)
            caption = (
                f"Mean over seeds, the best boxed; {text.CROSS} where every run diverged, "
                "* where some did."
            )
        file = f"heatmap_{workload}_{optimizer}_lr_{_file(name)}"
        yield Panel(
            title=f"{optimizer}: learning rate and {figures.label(name)}",
            caption=f"{caption} One colour scale for all optimizers.",
            views=[gallery.figure(drawn, file, title=title)],
        )


def _cells(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The best trial for each learning rate and value of ``name``: ``lr, name, score, …``."""
    keys = ["lr", name]
    scored = runs.assign(score=selection.score(runs), lost=runs["status"] == "diverged")
    by_trial = scored.groupby([*keys, "trial"], as_index=False)["score"].mean()
    lost = scored.groupby(keys)["lost"].mean().rename("share_diverged")
    return by_trial.groupby(keys)["score"].max().to_frame().join(lost).reset_index()


def _trials(contents: Contents, gallery: Gallery) -> Section:
    names = setting_names(contents.study)
    file = gallery.csv(contents.trials, "trials")
    shown = contents.trials.assign(
        validation=(100 * contents.trials["score"]).round(4),
        sd=(100 * contents.trials["std"]).round(4),
        on_test=(100 * contents.trials["test"]).round(4),
    )
    columns: list[tuple[str, dict[str, Any]]] = []
    if len(contents.workloads) > 1:
        columns.append(("workload", {}))
    columns.append(("optimizer", {}))
    columns += [(name, {"title": figures.label(name)}) for name in names]
    columns += [
        ("validation", {"title": "validation %", "digits": 2, "first": True}),
        ("sd", {"title": "± sd", "digits": 2}),
        ("on_test", {"title": "test %", "digits": 2}),
        ("seeds", {}),
        ("diverged", {}),
    ]
    for name in ("failed", "missing"):
        if shown[name].any():
            columns.append((name, {}))
    data = page.explorer_data(shown, columns, style.variables(contents.looks))
    return Section(
        anchor="trials",
        title="Every trial",
        short="Every trial",
        paragraphs=[
            "One row a setting. Sort by a heading; filter by words, or by comparisons such as "
            "lr<0.01 or diverged=0."
        ],
        explorer=page.Explorer(
            caption="Means over seeds; a diverged run counts as chance. All columns and rows:",
            file=file,
            data=data,
        ),
    )


def _reproduce(contents: Contents) -> Section:
    study = contents.study
    facts = [
        ("directory", str(study.directory)),
        ("report", f"python -m bench.report {study.directory}"),
    ]
    facts.append(("curves", f"tensorboard --logdir {study.directory}"))
    environments = study.environments
    if environments:
        facts += [(key, _plain(value)) for key, value in environments[0][0].items()]
    if len(environments) > 1:
        changed = sorted(
            {
                key
                for environment, _ in environments[1:]
                for key in environment | environments[0][0]
                if environment.get(key) != environments[0][0].get(key)
            }
        )
        facts.append(
            ("not all alike", f"{len(environments)} environments differ in {', '.join(changed)}")
        )
    facts += [(key, _plain(value)) for key, value in study.shared.items() if value is not None]
    return Section(
        anchor="reproduce",
        title="How to reproduce it",
        short="Reproduce",
        paragraphs=[
            "What all runs share. Each run's own record.json holds its whole configuration and "
            "environment."
        ],
        facts=facts,
        findings=[],
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return str(value)


def _file(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)
