"""How every figure looks: one colour, marker and dash for each optimizer, on paper and screen."""

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import pdf

WIDTH, HEIGHT = 4.4, 2.95  # inches: a column of a paper, a phone held upright
PNG_DPI = 200
LONGEST_WORDS = 32  # characters of a name in a figure
INK, MUTED, GRID, PAPER = "#1a1d21", "#69707a", "#e4e7eb", "#ffffff"

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.visible": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.2,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",  # text stays text: searchable, editable, in the reader's own font
    **pdf.RC,
}


@dataclass(frozen=True)
class Look:
    """An optimizer's appearance.

    Attributes:
        dark: ``colour`` for a dark page.
        place: the optimizer's number in a study, by which a page finds all that is drawn of it.
    """

    colour: str
    dark: str
    marker: str
    dash: tuple[float, ...] = ()
    place: int | None = field(default=None, compare=False)

    @property
    def gid(self) -> str | None:
        return None if self.place is None else f"series-{self.place}"

    def fill(self) -> dict[str, Any]:
        return {"color": self.colour, "gid": self.gid}

    def line(self) -> dict[str, Any]:
        return self.fill() | ({"dashes": self.dash} if self.dash else {})


# After Okabe & Ito (2008), whose colours stay apart under every common colour blindness; their
# yellow is too faint on white and is left out. Relatives share a hue, not a dash.
LOOKS = {
    "sgd": Look("#5c6470", "#7f8a99", "d"),
    "momentum": Look("#0072b2", "#4aa8e8", "s"),
    "nesterov": Look("#45a9dc", "#9ad7f8", "D", (4, 1.5)),
    "adagrad": Look("#d08e00", "#f2b632", "v"),
    "rmsprop": Look("#c25f97", "#f0a3cd", "^", (4, 1.5)),
    "adam": Look("#cf5200", "#ff7d33", "o"),
    "adamw": Look("#009e73", "#2bc598", "P", (4, 1.5)),
}
SPARE = (
    Look("#6f4fb3", "#a98bf0", "X", (1.5, 1.2)),
    Look("#8a5a2b", "#cf9a63", "<", (1.5, 1.2)),
    Look("#3d3f99", "#8d90f5", ">", (5, 1.2, 1.2, 1.2)),
    Look("#7d8c1f", "#bccb4e", "h", (1.5, 1.2)),
    Look("#a3123a", "#f0718f", "p", (5, 1.2, 1.2, 1.2)),
)
VARIANTS = ((), (1, 1.3), (5, 1.2, 1.2, 1.2), (7, 2))


def looks(optimizers: Iterable[str]) -> dict[str, Look]:
    """A look for each name, in the order in which to show them; unknown ones take the spare looks.

    The same names always get the same looks. With more unknown names than spare looks, they repeat.
    Those that differ in what stands in brackets after them, as one optimizer's in several studies
    do, differ in the dash alone.
    """
    variants: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(optimizers):
        variants[name.rpartition(" (")[0] if name.endswith(")") else name].append(name)
    unknown = sorted(variants.keys() - LOOKS.keys())
    spare = {name: SPARE[i % len(SPARE)] for i, name in enumerate(unknown)}
    found = [
        (name, replace(look, dash=VARIANTS[i % len(VARIANTS)]) if i else look)
        for base, look in (LOOKS | spare).items()
        for i, name in enumerate(variants.get(base, ()))
    ]
    return {name: replace(look, place=place) for place, (name, look) in enumerate(found)}


def label_lines(axes: Axes, ends: dict[str, float], looks: Mapping[str, Look]) -> None:
    """Names each line at the right edge, at the height of its end; names that touch move apart.

    Args:
        ends: the y value, in data units, of each line's right end.
    """
    gap = 0.075
    to_fraction = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    height = {
        name: min(max(float(to_fraction.transform((x, y))[1]), 0.0), 1.0)
        for name, y in ends.items()
    }
    order = sorted(height, key=lambda name: height[name])
    for lower, upper in pairwise(order):
        height[upper] = max(height[upper], height[lower] + gap)
    ceiling = 1.0
    for name in reversed(order):
        height[name] = min(height[name], ceiling)
        ceiling = height[name] - gap
    for name in order:
        look = looks[name]
        axes.plot(
            [1.025, 1.065],
            [height[name]] * 2,
            **look.line(),
            marker=look.marker,
            markevery=[1],
            transform=axes.transAxes,
            clip_on=False,
        )
        axes.text(
            1.09,
            height[name],
            words(name),
            transform=axes.transAxes,
            verticalalignment="center",
            fontsize=9.5,
            gid=look.gid,
        )


def words(given: object) -> str:
    """A name or value from a study as text of a figure: short, and never taken for a formula."""
    text = str(given)
    if len(text) > LONGEST_WORDS:
        text = f"{text[: LONGEST_WORDS - 1]}\N{HORIZONTAL ELLIPSIS}"
    return text.replace("$", r"\$")


class Drawing(Figure):
    """A figure that knows what it shows, so that a page can tell it and a table hold it.

    Attributes:
        names: what the figure calls each column of ``noted``, such as ``x``.
    """

    def __init__(self, names: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self.names = names
        self.noted: list[tuple[Axes, Look | None, pd.DataFrame]] = []

    def note(
        self,
        axes: Axes,
        at_x: Any,
        at_y: Any,
        look: Look | None = None,
        *,
        optimizer: str | None = None,
        **told: Any,
    ) -> None:
        """Points of ``axes``, and what they stand for: ``x`` and ``y`` where it is not that."""
        where = {"at_x": np.asarray(at_x, dtype=float), "at_y": np.asarray(at_y, dtype=float)}
        values = {"x": at_x, "y": at_y} | told
        columns = {name: np.asarray(value) for name, value in values.items() if value is not None}
        points = pd.DataFrame(where | columns)
        self.noted.append((axes, look, points.assign(optimizer=optimizer)))

    def table(self) -> pd.DataFrame:
        """Exactly what is drawn, a row a point."""
        if not self.noted:
            return pd.DataFrame(columns=["optimizer", "x", "y"])
        rows = pd.concat([points for *_, points in self.noted], ignore_index=True)
        columns = [name for name in ("optimizer", *ORDER) if name in rows]
        return rows[columns].dropna(axis="columns", how="all")

    def points(self) -> dict[str, Any]:
        """What ``page.js`` tells of each point: its series, its place in the SVG, its values."""
        columns = [name for name in ORDER if any(name in points for *_, points in self.noted)]
        scale, height = 72 / self.dpi, self.bbox.height
        told = []
        for axes, look, points in self.noted:
            at = axes.transData.transform(points[["at_x", "at_y"]].to_numpy())
            low, high = np.asarray(axes.bbox.min), np.asarray(axes.bbox.max)
            inside = ((at >= low - 2) & (at <= high + 2)).all(axis=1)
            values = points.reindex(columns=columns).astype(object)
            values = values.where(values.notna(), None).to_numpy()
            series = None if look is None else look.place
            told += [
                [series, round(x * scale, 1), round((height - y) * scale, 1), *map(_short, row)]
                for (x, y), row in zip(at[inside], values[inside], strict=True)
            ]
        names = [[name, self.names.get(name, name)] for name in columns]
        return {"names": names, "points": told}


ORDER = ("step", "x", "y", "value", "low", "high", "diverged")  # of the columns of what is noted


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def figure(*, extra_height: float = 0, **names: str) -> Drawing:
    """An empty figure of the house's size, without pyplot: no global state, no window."""
    return Drawing(names, figsize=(WIDTH, HEIGHT + extra_height), layout="constrained")


def save(drawing: Figure, path: Path, *, title: str) -> str:
    """Writes ``path`` as ``.svg``, ``.pdf`` and ``.png``, reproducible to the byte; returns the
    SVG, in which all that is drawn of an optimizer has the class of its look's ``gid``."""
    with mpl.rc_context({"svg.hashsalt": path.name}), warnings.catch_warnings():
        # A name in letters that the font lacks; the SVG has it in the reader's own.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        # A name in letters so wide that no room is left beside it; it is cut at the edge.
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)
        drawing.draw_without_rendering()  # finds the layout, which is slow, once for all files
        drawing.set_layout_engine(None)  # with "none", each file would be laid out once more
        text = StringIO()
        drawing.savefig(
            text, format="svg", metadata={"Date": None, "Creator": None, "Title": title}
        )
        pdf.save(drawing, path.with_suffix(".pdf"), title=title)
        drawing.savefig(path.with_suffix(".png"), dpi=PNG_DPI, metadata={"Software": None})
    svg = re.sub(r'<g id="(series-\d+)"', r'<g class="\1"', text.getvalue())
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")
    return svg


def for_page(svg: str, *, title: str) -> str:
    """An SVG to stand inside a page: its colours become the page's, so it follows dark mode."""
    inner = svg[svg.index("<svg") :]
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    inner = re.sub(r"<g id=\"[^\"]*\"", "<g", inner)
    inner = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\"", r"\1", inner, count=1)
    inner = re.sub(r"(<svg[^>]*?) height=\"[^\"]*\"", r"\1", inner, count=1)
    for colour, variable in page_variables().items():
        inner = inner.replace(colour, f"var({variable})")
    return inner.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def page_variables() -> dict[str, str]:
    """Each colour that a figure may use, with the CSS variable that stands for it in the page."""
    fixed = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--card"}
    return fixed | {look.colour: f"--{name}" for name, look in _named_looks()}


def page_colours(*, dark: bool) -> dict[str, str]:
    """The CSS variables of all looks with their values on a light or a dark page."""
    return {f"--{name}": look.dark if dark else look.colour for name, look in _named_looks()}


def places(looks: Mapping[str, Look]) -> dict[str, int]:
    """The number of each optimizer, by which a page knows it: names may be anything."""
    return {name: place for place, name in enumerate(looks)}


def variables(looks: Mapping[str, Look]) -> dict[str, str]:
    """The CSS variable of each optimizer's colour, by its number."""
    names = {look.colour: f"--{name}" for name, look in _named_looks()}
    return {
        f"--series-{place}": f"var({names[look.colour]})"
        for place, look in enumerate(looks.values())
    }


def _named_looks() -> list[tuple[str, Look]]:
    return [*LOOKS.items(), *((f"spare{i}", look) for i, look in enumerate(SPARE))]
