"""`python docs/tools/rule_paths.py`: how each optimizer moves in a ravine and past a saddle.

Every method goes by its defaults and starts at the same point. Its learning rate is the one, of 1,
2 and 5 times powers of ten, whose path stays in the picture and is lowest on average over the
second half of its steps. Fainter beside it: a quarter of that rate, dotted, and twice as much,
dashed.
"""
# ruff: noqa: RUF001 -- formulas have their own signs

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import style
from optimizers import OPTIMIZERS

PLACE = Path(__file__).parents[1] / "optimizers" / "paths"
RATES = [digit * 10.0**power for power in range(-4, 2) for digit in (1, 2, 5)]


@dataclass(frozen=True)
class Landscape:
    title: str
    value: Callable
    start: tuple[float, float]
    least: tuple[float, float]
    window: tuple[float, float, float, float]
    levels: np.ndarray
    steps: int


LANDSCAPES = (
    Landscape(
        "a ravine: (x² + 30y²)/2",
        lambda x, y: (x**2 + 30 * y**2) / 2,
        (-4.0, 1.2), (0.0, 0.0), (-4.6, 2.2, -1.9, 1.9), np.geomspace(0.2, 70, 9), 40,
    ),
    Landscape(
        "a saddle: (x² − y²)/2 + y⁴/4",
        lambda x, y: (x**2 - y**2) / 2 + y**4 / 4,
        (-1.8, 0.02), (0.0, 1.0), (-2.1, 1.5, -0.9, 1.8), np.linspace(-0.24, 2.4, 12), 40,
    ),
)  # fmt: skip


def path(name: str, lr: float, land: Landscape) -> np.ndarray:
    """Points `[steps + 1, 2]`. The two coordinates are one matrix of one row, for Muon."""
    p = torch.tensor([land.start], dtype=torch.float64, requires_grad=True)
    optimizer = OPTIMIZERS[name]([p], lr=lr, path="eager")
    points = [p.detach().clone()]
    for _ in range(land.steps):
        optimizer.zero_grad()
        land.value(*p[0]).backward()
        if not torch.isfinite(p.grad).all():
            break
        optimizer.step()
        points.append(p.detach().clone())
    return torch.cat(points).numpy()


def rounded(svg: str) -> str:
    """Two decimals of a point are enough, and take a third of the room."""
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)


def late_value(name: str, lr: float, land: Landscape) -> float:
    points = path(name, lr, land)
    left, right, low, high = land.window
    inside = (points > [left, low]) & (points < [right, high])
    if len(points) <= land.steps or not inside.all():
        return np.inf
    return float(land.value(*points[land.steps // 2 :].T).mean())


def draw(axes: Axes, name: str, land: Landscape) -> None:
    left, right, low, high = land.window
    x, y = np.meshgrid(np.linspace(left, right, 49), np.linspace(low, high, 49))
    axes.contour(x, y, land.value(x, y), land.levels, colors=style.GRID, linewidths=0.8)
    best = min(RATES, key=lambda lr: late_value(name, lr, land))
    colour = style.looks([name])[name].colour
    for factor, dash in ((0.25, ":"), (2, "--")):
        points = np.clip(path(name, factor * best, land), -50, 50)
        axes.plot(*points.T, dash, color=colour, alpha=0.5, linewidth=1)
    axes.plot(*path(name, best, land).T, "-o", color=colour, linewidth=1.3, markersize=2.6)
    axes.plot(*land.start, "o", color=style.INK, markersize=4.5)
    axes.plot(*land.least, "*", color=style.INK, markersize=8)
    axes.set(xlim=(left, right), ylim=(low, high), title=f"{land.title}, lr = {best:g}")
    axes.title.set_size(9.5)
    axes.grid(False)


def main(names: list[str]) -> None:
    PLACE.mkdir(exist_ok=True)
    with mpl.rc_context(style.RC):
        for name in names or OPTIMIZERS:
            drawing = Figure(figsize=(8, 3), layout="constrained")
            for axes, land in zip(drawing.subplots(1, 2), LANDSCAPES, strict=True):
                draw(axes, name, land)
            file = PLACE / f"{name}.svg"
            svg = style.save(drawing, file, title=f"Paths of {name}")
            file.write_text(rounded(svg), encoding="utf-8")
            file.with_suffix(".png").unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
