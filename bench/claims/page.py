"""The page of all claims: as HTML that needs nothing but itself, and as Markdown beside it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bench.claims.claim import GROUPS, Part, Verdict
from bench.claims.make import Judged
from bench.claims.measured import Picture
from bench.report import style, text

HTML, MARKDOWN = "index.html", "README.md"
MOST_PICTURES = 3  # of one claim
MOST_MARKED, MOST_DRAWN = 40, 200  # points of a line
WIDE = 4  # where ratios are shown on a logarithmic axis: from the largest to the smallest
WITHOUT = ("exponent", "cosine", "correlation", "share", "distance")  # a number says it
WORDS = {
    Verdict.HOLDS: "clearly there, and large enough to matter",
    Verdict.FAILS: "not there, or clearly smaller than what matters",
    Verdict.UNDECIDED: "these runs cannot tell, or it is there and too small to matter",
}


@dataclass(frozen=True)
class Entry:
    """What a page says of one claim."""

    name: str
    statement: str
    source: str
    verdict: str
    effect: str
    effects: list[str]
    rule: str
    note: str
    cost: str
    not_shown: str
    sweeps: list[str]
    figure: str
    svg: str


def write(judged: Sequence[Judged], missing: dict[str, str], output: Path) -> Path:
    """Figures and both pages; returns the HTML.

    Args:
        missing: of each claim that was not judged, why.
    """
    output.mkdir(parents=True, exist_ok=True)
    entries = [_entry(each, output) for each in judged]
    counts = Counter(each.verdict.value for each in judged)
    found = dict.fromkeys(each.claim.group for each in judged)
    groups = [
        (GROUPS[name], [e for e, j in zip(entries, judged, strict=True) if j.claim.group == name])
        for name in found
    ]
    told = {
        "groups": groups,
        "counts": [(verdict.value, counts[verdict.value], WORDS[verdict]) for verdict in Verdict],
        "missing": missing,
        "css": Markup(_CSS),
    }
    folder = files("bench.claims")
    environment = jinja2.Environment(autoescape=False, trim_blocks=True, lstrip_blocks=True)
    for name in (HTML, MARKDOWN):
        environment.autoescape = name == HTML
        template = environment.from_string((folder / f"{name}.jinja").read_text("utf-8"))
        partial = output / f".{name}.partial"
        partial.write_text(template.render(told), encoding="utf-8")
        os.replace(partial, output / name)
    return output / HTML


def effects(each: Judged) -> list[str]:
    """Each part in words: its effect, its interval, its verdict."""
    claim, parts = each.claim, each.measured.parts
    level = f"{100 * claim.confidence(len(parts)):.3g} %"
    said = []
    for part in parts:
        ends = _number(part.low), _number(part.high)
        interval = f" ({level}: {ends[0]} to {ends[1]})" if ends[0] != ends[1] else ""
        if not (isfinite(part.low) and isfinite(part.high)):
            interval = " (no interval)"
        judged = f", {claim.judge(part).value}" if len(parts) > 1 else ""
        said.append(f"{part.name}: {_value(part.estimate, claim.unit)}{interval}{judged}")
    return said


def rule(each: Judged) -> str:
    claim = each.claim
    if claim.within is not None:
        low, high = claim.within
        if not isfinite(low):
            return f"holds if the interval ends below {high:g} {claim.unit}"
        if not isfinite(high):
            return f"holds if the interval begins above {low:g} {claim.unit}"
        return f"holds if the whole interval lies from {low:g} to {high:g}"
    every = {"all": "of every part", "any": "of some part"}[claim.need]
    several = f", {every}" if len(each.measured.parts) > 1 else ""
    least = _value(claim.smallest or 0, claim.unit)
    return f"holds if the effect is clearly more than nothing and at least {least}{several}"


def _value(value: float, unit: str) -> str:
    if not isfinite(value):
        return "unknown"
    return _number(value) if unit in WITHOUT else f"{_number(value)} {unit}"


def _number(value: float) -> str:
    """To three digits, of large numbers all before the point; near 1 to four, as bounds are."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if 0.9 < abs(value) < 1.1 else f"{value:.3g}"


def _entry(each: Judged, output: Path) -> Entry:
    claim = each.claim
    svg = _figure(each, output / f"{claim.name}.svg") if each.measured.parts else ""
    return Entry(
        name=claim.name,
        statement=claim.statement,
        source=claim.source,
        verdict=each.verdict.value,
        effect=claim.effect,
        effects=effects(each),
        rule=rule(each),
        note=each.measured.note,
        cost=text.seconds(each.seconds),
        not_shown=claim.not_shown,
        sweeps=[f"python -m bench -m {sweep} study={claim.study}" for sweep in claim.sweeps],
        figure=f"{claim.name}.svg",
        svg=Markup(svg),
    )


def _figure(each: Judged, path: Path) -> str:
    """What was measured, and the effects beside what matters."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    pictures = each.measured.pictures[:MOST_PICTURES]
    columns = len(pictures) + 1
    look: dict[Any, Any] = {"svg.hashsalt": path.name, "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(look | {"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.1 * columns, 2.9), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        for place, picture in zip(axes, pictures, strict=False):
            _draw(place, picture)
        _forest(axes[-1], each)
        figure.savefig(
            path, metadata={"Date": None, "Creator": None, "Title": each.claim.statement}
        )
    return path.read_text("utf-8").partition("?>\n")[2].partition(">\n")[2]


def _draw(axes: style.Axes, picture: Picture) -> None:
    looks = style.looks([line.name for line in picture.lines])
    for line in picture.lines:
        look = looks[line.name]
        marker = look.marker if len(line.x) <= MOST_MARKED else ""
        some = slice(None, None, max(1, len(line.x) // MOST_DRAWN))
        axes.plot(
            line.x[some], line.y[some], color=look.colour, marker=marker, markersize=3.5,
            label=style.words(line.name), linewidth=1.3,
        )  # fmt: skip
    axes.set_xscale("log" if picture.log_x else "linear")
    axes.set_yscale("log" if picture.log_y else "linear")
    axes.set_xlabel(picture.x)
    axes.set_ylabel(picture.y)
    axes.set_title(style.words(picture.title), fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7.5, frameon=False)


def _forest(axes: style.Axes, each: Judged) -> None:
    """Effects with their intervals, beside no effect and the least that matters."""
    claim, parts = each.claim, each.measured.parts[::-1]
    drawn = [part for part in parts if isfinite(part.estimate)]
    bounds = claim.within if claim.within is not None else [claim.nothing, claim.smallest or 0]
    for bound, style_ in zip(bounds, (":", "--"), strict=True):
        if isfinite(bound):
            axes.axvline(bound, color=style.MUTED, linestyle=style_, linewidth=1)
    for height, part in enumerate(drawn):
        if isfinite(part.low) and isfinite(part.high):
            axes.plot([part.low, part.high], [height] * 2, color=style.INK, linewidth=1.6)
        axes.plot([part.estimate], [height], "o", color=style.INK, markersize=5)
    axes.set_yticks(range(len(drawn)), [style.words(_short(part)) for part in drawn], fontsize=8)
    axes.set_ylim(-0.7, max(len(drawn), 1) - 0.3)
    ends = [x for part in drawn for x in (part.estimate, part.low, part.high) if isfinite(x)]
    if claim.unit == "times" and min(ends) > 0 and max(ends) > WIDE * min(ends):
        axes.set_xscale("log")
    axes.set_xlabel(f"effect ({claim.unit})")
    axes.grid(axis="x", alpha=0.3)


def _short(part: Part) -> str:
    return part.name.replace(" with ", "\n")


_CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d232b; background: #f7f8fa; margin: 0; }
main { max-width: 980px; margin: 0 auto; padding: 1rem; }
article, .card { background: #fff; border: 1px solid #d9dde3; border-radius: 8px; padding: 1rem;
  margin: 1rem 0; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; margin: 2rem 0 0; }
h3 { font-size: 1.1rem; margin: 0 0 .4rem; }
th { text-align: left; padding: .8rem .4rem .2rem; }
figure { margin: .6rem 0; overflow-x: auto; } figure svg { max-width: 100%; height: auto; }
.verdict { display: inline-block; border-radius: 4px; padding: 0 .5em; font-weight: 600;
  white-space: nowrap; font-size: .85em; color: #fff; }
.holds { background: #00785a; } .fails { background: #b3261e; } .undecided { background: #5c6470; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem .8rem; margin: .6rem 0; }
dt { color: #5c6470; } dd { margin: 0; }
table { border-collapse: collapse; width: 100%; } td { padding: .25rem .4rem; vertical-align: top;
  border-top: 1px solid #d9dde3; } code { font-size: .85em; }
.measured { margin: 0; color: #5c6470; } .measured::first-letter { text-transform: uppercase; }
ul { margin: .3rem 0; padding-left: 1.2rem; }
@media (max-width: 600px) { dl { display: block; } dt { margin-top: .4rem; }
  figure svg { max-width: none; } }
@media (prefers-color-scheme: dark) { body { color: #e6e9ee; background: #0f1216; }
  article, .card { background: #171b21; border-color: #333a44; } figure { background: #fff; }
  td { border-color: #333a44; } dt, .measured { color: #98a1ad; } a { color: #7ab7f5; } }
"""
