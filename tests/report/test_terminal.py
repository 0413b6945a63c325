"""What is printed of a study: by rank, in any width and letters, and nothing that is no number."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench import letters
from bench import study as studies
from bench.calibration.studies import as_study, draw, specs
from bench.metrics import Metric
from bench.report import terminal
from bench.report.contents import Contents, gather
from tests.report.synthetic import ACCURACY, BITS, write_run, write_study

RATES = tuple(float(f"1e{power}") for power in range(-5, 1))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    place = tmp_path_factory.mktemp("study")
    return gather(studies.read(write_study(place, optimizers=("sgd", "adam", "adamw"), lrs=RATES)))


def printed(contents: Contents, **options: Any) -> str:
    out = StringIO()
    terminal.show(contents, Console(file=out, **{"width": 80} | options))
    return out.getvalue()


def rows(said: str) -> list[list[str]]:
    """Of the table."""
    return [line.split() for line in said.splitlines() if re.search(r"\d of \d", line)]


@pytest.mark.parametrize("metric", [ACCURACY, BITS], ids=str)
def test_optimizers_are_in_the_order_of_their_rank(tmp_path: Path, metric: Metric) -> None:
    study = studies.read(write_study(tmp_path, lrs=RATES, metric=metric))
    best = gather(study).best.sort_values("score", ascending=not metric.higher_is_better)
    assert [row[0] for row in rows(printed(gather(study)))] == list(best["optimizer"])


def bold(contents: Contents) -> list[str]:
    said = printed(contents, force_terminal=True, color_system="standard")
    return re.findall(r"\x1b\[1m *(\w+) ", said)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("one better, 10 seeds", ["adam"]), ("all the same, 3 seeds", []), ("one optimizer", [])],
)
def test_only_one_that_is_clearly_ahead_of_all_is_bold(name: str, expected: list[str]) -> None:
    (spec,) = (spec for spec in specs() if spec.name == name)
    contents = gather(as_study(draw(spec, np.random.default_rng(0)), spec))
    assert [word for word in bold(contents) if word in contents.looks] == expected


def test_what_is_no_number_is_a_dash(contents: Contents) -> None:
    worst = contents.best.assign(score=np.inf, std=np.nan, test=-np.inf, test_std=np.inf, lr=np.inf)
    said = printed(Contents(**{**vars(contents), "best": worst}))
    assert not re.search(r"\b(inf|nan|None)\b", said, re.IGNORECASE)
    assert "\N{EN DASH}" in said


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_it_fits(contents: Contents, width: int) -> None:
    lines = printed(contents, width=width).splitlines()
    assert max(map(len, lines)) <= width
    (first, *_) = [line for line in lines if line.startswith(" adam ")]
    assert "\N{PLUS-MINUS SIGN}" in first  # whole, whatever has to go


def bars(said: str, optimizer: str) -> str:
    """The last line that begins so."""
    return [line for line in said.splitlines() if line.split()[:1] == [optimizer]][-1]


def test_a_bar_for_each_learning_rate(contents: Contents) -> None:
    """As high as it is near the best of all; by hand, from the table that it draws."""
    said = printed(contents)
    response = contents.response
    best = response["score"].max()
    for optimizer, own in response.groupby("optimizer"):
        wanted = []
        for _, row in own.sort_values("lr").iterrows():
            steps = [step for step in terminal.DISTANCES if best - row["score"] <= step]
            height = terminal.HEIGHTS[terminal.DISTANCES.index(steps[0])]
            wanted.append("x" if row["share_diverged"] == 1 else height)
        assert [word[0] for word in bars(said, str(optimizer)).split()[1:]] == wanted
    assert bars(said, "lr").split() == ["lr", "1e-5", "0.0001", "0.001", "0.01", "0.1", "1"]
    value = f"{100 * best:.2f}"
    assert f"within 1 point of the best ({value} %)" in " ".join(said.split())


def test_what_has_few_learning_rates_has_no_bars(tmp_path: Path) -> None:
    for lr in (1e-3, 1e-2):
        write_run(tmp_path, lr=lr)
    assert "by learning rate" not in printed(gather(studies.read(tmp_path)))


def test_drawn_rates_share_places_and_the_best_is_shown(tmp_path: Path) -> None:
    for lr in np.geomspace(1e-4, 1e-1, 150):
        write_run(tmp_path, lr=float(lr))
    said = printed(gather(studies.read(tmp_path)), width=40)
    assert max(map(len, said.splitlines())) <= 40
    assert terminal.HEIGHTS[0] in bars(said, "adam")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("98.1 \N{PLUS-MINUS SIGN} 0.2", "98.1 +- 0.2"),
        ("\N{GREATER-THAN OR EQUAL TO}\N{NO-BREAK SPACE}1", ">= 1"),
        ("na\N{LATIN SMALL LETTER I WITH DIAERESIS}f", "naif"),
        ("\N{SNOWMAN}", "?"),
    ],
)
def test_letters_that_are_missing_are_the_closest_there_are(text: str, plain: str) -> None:
    letters.never_fail()
    assert text.encode("ascii", "bench.closest").decode() == plain
    assert text.encode("utf-8", "bench.closest").decode() == text


def test_plain_letters_for_a_plain_terminal(contents: Contents, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w", encoding="ascii", errors="bench.closest") as file:
        terminal.show(contents, Console(file=file, width=80))
    said = (tmp_path / "out").read_text()
    assert "#" in bars(said, "adam")
    assert "?" not in said
