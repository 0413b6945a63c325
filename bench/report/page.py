"""The report as one HTML file that needs nothing but itself."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from bench.report import style

FILE_NAME = "index.html"
LIGHT = {
    "--ink": style.INK,
    "--muted": style.MUTED,
    "--grid": style.GRID,
    "--card": style.PAPER,
    "--page": "#f7f8fa",
    "--line": "#d9dde3",
    "--hover": "#eef1f4",
    "--link": "#0b5cad",
}
DARK = {
    "--ink": "#e6e9ee",
    "--muted": "#98a1ad",
    "--grid": "#2b313a",
    "--card": "#171b21",
    "--page": "#0f1216",
    "--line": "#333a44",
    "--hover": "#242a33",
    "--link": "#7ab7f5",
}


@dataclass(frozen=True, kw_only=True)
class View:
    """A saved figure; ``file`` has no suffix, ``label`` tells it from a panel's other views."""

    file: str
    label: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    title: str
    caption: str
    views: list[View]


@dataclass(frozen=True, kw_only=True)
class Group:
    heading: str
    panels: list[Panel]


@dataclass(frozen=True, kw_only=True)
class Column:
    title: str
    numeric: bool = True
    optimizer: bool = False
    long: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    cells: list[str]
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    caption: str
    columns: list[Column]
    rows: list[Row]
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """A table of every trial. ``data`` is JSON that is safe inside a script element."""

    caption: str
    file: str
    data: str


@dataclass(kw_only=True)
class Section:
    anchor: str
    title: str
    short: str
    paragraphs: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    explorer: Explorer | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    title: str
    facts: list[str]
    command: str
    sections: list[Section]


class Gallery:
    """The files of a report: saves each figure and table, and hands back what the page shows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.titles: dict[str, str] = {}  # of each figure, by file name without suffix

    def figure(self, drawing: Figure, name: str, *, title: str, label: str = "") -> View:
        svg = style.save(drawing, self.directory / name, title=title)
        self.titles[name] = title
        return View(file=name, label=label, svg=style.for_page(svg, title=title))

    def csv(self, frame: pd.DataFrame, name: str) -> str:
        frame.to_csv(self.directory / f"{name}.csv", index=False)
        return f"{name}.csv"


def table(
    frame: pd.DataFrame,
    columns: Sequence[tuple[str, Column, Callable[[Any], str]]],
    *,
    title: str,
    caption: str,
    file: str = "",
    best: "pd.Series[bool] | None" = None,
) -> Table:
    """Some columns of ``frame`` as text: each is a column's name, its heading and its format."""
    marks = [False] * len(frame) if best is None else list(best)
    cells = zip(*(frame[name].map(form) for name, _, form in columns), strict=True)
    return Table(
        title=title,
        caption=caption,
        columns=[column for _, column, _ in columns],
        rows=[Row(cells=list(row), best=mark) for row, mark in zip(cells, marks, strict=True)],
        file=file,
    )


def explorer_data(
    frame: pd.DataFrame, columns: Sequence[tuple[str, dict[str, Any]]], variables: dict[str, str]
) -> str:
    """The rows for the page's script; text cannot end the script element early."""
    heads = []
    for name, options in columns:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        head = {"name": name, "title": name.replace("_", " "), "numeric": numeric} | options
        heads.append(head | ({"optimizer": variables} if name == "optimizer" else {}))
    values = frame[[name for name, _ in columns]].astype(object)
    rows = values.where(values.notna(), None).values.tolist()
    return json.dumps({"columns": heads, "rows": rows}, allow_nan=False).replace("<", "\\u003c")


def write(page: Page, directory: Path, looks: dict[str, style.Look]) -> Path:
    """Writes ``directory/index.html``."""
    resources = files(__package__)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((resources / "page.html.jinja").read_text("utf-8"))
    path = directory / FILE_NAME
    html = template.render(
        page=page,
        variables=style.variables(looks),
        light=LIGHT | style.page_colours(dark=False),
        dark=DARK | style.page_colours(dark=True),
        css=Markup((resources / "page.css").read_text("utf-8")),
        script=Markup((resources / "page.js").read_text("utf-8")),
    )
    path.write_text(html, encoding="utf-8")
    return path
