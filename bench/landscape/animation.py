"""The ways of optimizers as they come about: one HTML file that needs nothing but itself."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from importlib.resources import files
from io import StringIO
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
from markupsafe import Markup

from bench.landscape.contours import Landscape, Way, contours, spaced
from bench.landscape.surface import Numbers, values_at
from bench.report import page, style
from bench.report.style import Look

FRAMES = 240
FAR = 5000.0  # units of the drawing: what is farther away is not drawn farther


def html(
    landscape: Landscape,
    ways: Mapping[str, Mapping[str, Way]],
    looks: Mapping[str, Look],
    *,
    title: str,
) -> str:
    """
    Args:
        ways: of each optimizer, by what they were chosen for.
    """
    with mpl.rc_context({**style.RC, "svg.hashsalt": title}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        drawing, plot = contours(landscape)
        drawing.draw_without_rendering()
        drawing.set_layout_engine(None)
        text = StringIO()
        drawing.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    scale, height = 72 / drawing.dpi, drawing.bbox.height

    def placed(points: Numbers) -> Numbers:
        at = np.asarray(plot.transData.transform(points))
        return np.clip(np.stack([at[:, 0], height - at[:, 1]], 1) * scale, -FAR, FAR)

    (left, top), (right, bottom) = placed(
        np.array([[landscape.x[0], landscape.y[-1]], [landscape.x[-1], landscape.y[0]]])
    )
    last = max(len(way.points) for named in ways.values() for way in named.values()) - 1
    frames = spaced(last, FRAMES)
    places = style.places(looks)

    def series(name: str, way: Way) -> dict[str, Any]:
        kept = landscape.drawn(way.points)
        now = np.minimum(frames, len(way.points) - 1)
        return {
            "name": name,
            "told": way.told,
            "place": places[name],
            "dash": list(looks[name].dash),
            "last": len(way.points) - 1 if way.diverged else None,
            "steps": kept.tolist(),
            "points": placed(way.points[kept]).round(1).tolist(),
            "now": placed(way.points[now]).round(1).tolist(),
            "values": _short(values_at(landscape.function, way.points[now])),
        }

    data = {
        "frames": frames.tolist(),
        "clip": [left, top, right - left, bottom - top],
        "choices": {
            label: [series(name, named[name]) for name in looks if name in named]
            for label, named in ways.items()
        },
    }
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = (files(__package__) / "animation.html.jinja").read_text("utf-8")
    safe = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.from_string(template).render(
        title=title,
        svg=Markup(style.for_page(text.getvalue(), title=f"contours of {title}")),
        data=Markup(safe),
        labels=list(ways),
        series=style.variables(looks),
        light=page.LIGHT | style.page_colours(dark=False),
        dark=page.DARK | style.page_colours(dark=True),
    )


def _short(values: Numbers) -> list[float | None]:
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
