"""A short version of scripts/soak, which says what is looked at."""

import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench import soak
from bench.data import Dataset

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "kills"), [(["auto"], 3), ([*soak.COMMANDS], 20)])
def test_what_is_killed_loses_nothing(
    real_data: Callable[[str], Dataset], tmp_path: Path, kinds: list[str], kills: int
) -> None:
    real_data("mnist")
    said = Console(file=StringIO())
    assert soak.soak(kills, seed=1, place=tmp_path, console=said, kinds=kinds) == []


def test_faults_are_seen(tmp_path: Path) -> None:
    whole, other = (soak.Command("solo", tmp_path / name) for name in ("whole", "other"))
    directory = other.place / "runs" / "s" / "w" / "o" / "a"
    directory.mkdir(parents=True)
    (other.place / "output.txt").write_text("Traceback (most recent call last)\n")
    (directory / ".lock").touch()
    (directory / "record.json").write_text("{")
    assert [fault.rpartition(" ")[-1] for fault in soak.compare(whole, other)] == [
        "terminal", "over", "0",
    ]  # fmt: skip
    found = list(soak._unchanged(other, {directory / "record.json": 0, tmp_path / "gone": 0}))
    assert ["made again" in found[0], "lost" in found[1], "JSON" in found[2]] == [True] * 3
