"""The report as one HTML file that needs nothing but itself."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any, Literal

import jinja2
import pandas as pd
from markupsafe import Markup

from bench.report import style
from bench.report.findings import Finding
from bench.report.glossary import Marker

FILE_NAME = "index.html"
LONGEST_NAME = 120  # of a file, in characters
FORMULA = ("=", "+", "-", "@")  # what spreadsheets compute if a text begins with it
LIGHT = {
    "--ink": style.INK,
    "--muted": style.MUTED,
    "--grid": style.GRID,
    "--card": style.PAPER,
    "--page": "#f7f8fa",
    "--line": "#d9dde3",
    "--hover": "#eef1f4",
    "--link": "#0b5cad",
    "--warn": "#c77700",
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
    "--warn": "#f2b632",
}


@dataclass(frozen=True, kw_only=True)
class View:
    """A saved figure; ``file`` has no suffix, ``label`` tells it from a panel's other views.
    ``points`` is JSON: what can be told of it, as ``style.Drawing.points`` has it."""

    file: str
    label: str
    svg: str
    points: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Views of the same; ``optimizer`` where all of it is about that one.

    Attributes:
        links: to files beside the page: what they are called, and their names.
        switch: in what the views differ.
    """

    title: str
    caption: str
    views: list[View]
    optimizer: str = ""
    links: Sequence[tuple[str, str]] = ()
    switch: str = "Horizontal axis"


@dataclass(frozen=True)
class Column:
    """One column of a table: its heading, and what it says of a row.

    Attributes:
        rank: the field by which rows may be ordered, with "-" before it if less is better.
        kind: how it looks; "optimizer" puts the colour before the name, "long" wraps.
    """

    title: str
    show: Callable[[dict[str, Any]], str]
    rank: str = ""
    kind: Literal["number", "word", "optimizer", "long"] = "number"


@dataclass(frozen=True, kw_only=True)
class Cell:
    text: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """A table of every trial. ``data`` is JSON that is safe inside a script element."""

    caption: str
    file: str
    data: str


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a section. What it has is shown in the order of the fields; ``facts`` are names
    with values."""

    heading: str = ""
    paragraphs: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    findings: Sequence[Finding] = ()
    warnings: Sequence[str] = ()
    explorer: Explorer | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    anchor: str
    title: str
    short: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that there is to show; ``front``: the panels that stand above all, and only there."""

    title: str
    facts: list[str]
    headline: str
    front: Sequence[Panel]
    command: str
    sections: list[Section]


class Gallery:
    """The files of a report: saves each figure and table, and hands back what the page shows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.titles: dict[str, str] = {}  # of each figure, by file name without suffix

    def figure(self, drawing: style.Drawing, name: str, *, title: str, label: str = "") -> View:
        """Saves a figure and what it shows, under ``name`` as far as a file may be called so."""
        name = self._free(plain(name))
        svg = style.save(drawing, self.directory / name, title=title)
        self.titles[name] = title
        self.csv(drawing.table(), name)
        points = json.dumps(drawing.points(), separators=(",", ":"), allow_nan=False)
        return View(file=name, label=label, svg=style.for_page(svg, title=title), points=points)

    def csv(self, frame: pd.DataFrame, name: str) -> str:
        """Saves a table; text that a spreadsheet would take for a formula is quoted by ``'``."""
        plain = frame.rename(columns=no_formula)
        for column in plain.select_dtypes(exclude="number"):
            plain[column] = plain[column].map(no_formula)
        plain.to_csv(self.directory / f"{name}.csv", index=False)
        return f"{name}.csv"

    def page(self, html: str, name: str) -> str:
        """Saves a page of its own."""
        file = f"{plain(name)}.html"
        (self.directory / file).write_text(html, encoding="utf-8")
        return file

    def _free(self, name: str) -> str:
        """``name``, with a number where another figure's is the same on some file system."""
        taken = {other.casefold() for other in self.titles}
        names = (f"{name}_{i}" if i > 1 else name for i in count(1))
        return next(free for free in names if free.casefold() not in taken)


def plain(name: str) -> str:
    """As far as a file may be called so."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:LONGEST_NAME]


def no_formula(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def table(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    *,
    title: str,
    caption: str,
    file: str = "",
    by: str = "",
) -> Table:
    """``frame`` as text, a row a row: from best to worst ``by`` a field that is like
    ``Column.rank``, or else by the first column that has one."""
    frame = _ranked(frame, [by, *(column.rank for column in columns)])
    rows = [
        [
            Cell(
                text=column.show({str(key): value for key, value in row.items()}),
                kind=column.kind,
            )
            for column in columns
        ]
        for row in frame.to_dict("records")
    ]
    return Table(title=title, caption=caption, columns=list(columns), rows=rows, file=file)


def _ranked(frame: pd.DataFrame, fields: Sequence[str]) -> pd.DataFrame:
    """Rows that are equal, and workloads, keep their order; what has no value comes last."""
    fields = [field for field in fields if field]
    if not fields or frame.empty:
        return frame
    sign = 1 if fields[0].startswith("-") else -1
    keys = {"value": sign * frame[fields[0].removeprefix("-")].astype(float)}
    if "workload" in frame:
        keys = {"workload": pd.Series(pd.factorize(frame["workload"])[0], frame.index)} | keys
    order = pd.DataFrame(keys).reset_index(drop=True).sort_values(list(keys), kind="stable").index
    return frame.iloc[order]


def explorer_data(
    frame: pd.DataFrame, columns: Sequence[tuple[str, dict[str, Any]]], places: dict[str, int]
) -> str:
    """The rows for the page's script; text cannot end the script element early."""
    heads = []
    for name, options in columns:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        head = {"name": name, "title": name.replace("_", " "), "numeric": numeric} | options
        heads.append(head | ({"places": places} if name == "optimizer" else {}))
    values = frame[[name for name, _ in columns]].astype(object)
    rows = values.where(values.notna(), None).values.tolist()
    return json.dumps({"columns": heads, "rows": rows}, allow_nan=False).replace("<", "\\u003c")


def write(page: Page, directory: Path, looks: dict[str, style.Look]) -> Path:
    """Writes ``directory/index.html``."""
    resources = files(__package__)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    marker = Marker()
    environment.filters["terms"] = marker
    template = environment.from_string((resources / "page.html.jinja").read_text("utf-8"))
    path = directory / FILE_NAME
    html = template.render(
        page=page,
        places=style.places(looks),
        series=style.variables(looks),
        glossary=marker.entries,
        light=LIGHT | style.page_colours(dark=False),
        dark=DARK | style.page_colours(dark=True),
        css=Markup((resources / "page.css").read_text("utf-8")),
        script=Markup((resources / "page.js").read_text("utf-8")),
    )
    path.write_text(html, encoding="utf-8")
    return path
