"""Looks and words: told apart by everybody, the same everywhere."""

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fontTools import subset
from matplotlib.backends import _backend_pdf_ps

from bench.report import page, pdf, style, text
from tests.report.synthetic import BEST_LR

# Machado, Oliveira & Fernandes 2009, table 1, severity 1: what is seen of linear RGB.
SIGHT = {
    "full": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
XYZ = np.array([[0.4124, 0.3576, 0.1805], LUMINANCE, [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB, in which a distance of about 2 can just be seen."""
    x, y, z = np.cbrt(np.maximum(XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    low, high = sorted(float(LUMINANCE @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["colour", "dark"])
@pytest.mark.parametrize("sight", SIGHT.values(), ids=SIGHT.keys())
def test_optimizers_are_told_apart_by_any_eye(sight, theme):
    colours = [getattr(look, theme) for look in style.LOOKS.values()]
    seen = [lab(sight @ linear(colour)) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 10


@pytest.mark.parametrize(("theme", "palette"), [("colour", page.LIGHT), ("dark", page.DARK)])
def test_lines_and_words_stand_out_from_the_page(theme, palette):
    for look in (*style.LOOKS.values(), *style.SPARE):
        assert contrast(getattr(look, theme), palette["--card"]) > 2.5
    for words in ("--ink", "--muted", "--link"):
        for background in ("--card", "--page"):
            assert contrast(palette[words], palette[background]) > 4.5


def test_an_optimizer_looks_the_same_in_every_company():
    alone, together = style.looks(["adam"]), style.looks([*BEST_LR, "NAdam"])
    assert alone["adam"] == together["adam"]
    assert len({look.colour for look in together.values()}) == len(together)
    assert len({(look.marker, look.dash) for look in together.values()}) >= len(together) - 1
    assert list(together)[-1] == "NAdam"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0215443, "0.0215"),
        (1e-5, "1e-5"),
        (128.0, "128"),
        (1290, "1,290"),
        (2519.7, "2,520"),
        (2.5e7, "2.5e7"),
        (float("inf"), text.NOTHING),
        (-float("inf"), text.NOTHING),
        (float("nan"), text.NOTHING),
        (None, text.NOTHING),
        ("cosine", "cosine"),
        (True, "True"),
    ],
)
def test_numbers_are_short(value, said):
    assert text.number(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.044, "0.044 s"), (5.34, "5.3 s"), (64, "64 s"), (600, "10.0 min")]
)
def test_times_have_units(seconds, said):
    assert text.seconds(seconds).replace(text.SPACE, " ") == said


@pytest.mark.parametrize(
    ("names", "said"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_names_are_listed(names, said):
    assert text.listed(names) == said


def test_a_pdf_has_fonts_that_papers_take_without_what_nothing_reads(tmp_path, monkeypatch):
    tables = []

    def font_as_file(font, write=_backend_pdf_ps.font_as_file):
        tables.append(set(font.keys()))
        return write(font)

    monkeypatch.setattr(_backend_pdf_ps, "font_as_file", font_as_file)
    with mpl.rc_context(style.RC):
        drawing = style.figure()
        drawing.add_subplot().set_title("words")
        style.save(drawing, tmp_path / "a", title="words")
        first = (tmp_path / "a.pdf").read_bytes()
        style.save(drawing, tmp_path / "a", title="words")
    assert (tmp_path / "a.pdf").read_bytes() == first
    assert b"/FontFile2" in first
    assert b"/Type3" not in first
    assert tables
    assert all("glyf" in found and not found & {*pdf.LAYOUT} for found in tables)
    assert not {*pdf.LAYOUT} & {*subset.Options()._drop_tables_default}


def test_labels_may_leave_no_room(tmp_path: Path) -> None:
    drawing = style.figure()
    drawing.add_subplot().set_yticks([0, 1], ["W" * 150, "x"])
    assert "<svg" in style.save(drawing, tmp_path / "wide", title="wide")
