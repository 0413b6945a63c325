"""Directories are held by one process at a time, all of those asked for or none."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import holding
from bench.holding import Taken, hold, is_free

ROOT = Path(__file__).parents[1]

KEEP = """
import sys, time
from pathlib import Path
from bench.holding import hold

with hold([Path(sys.argv[1])]):
    print("held", flush=True)
    time.sleep(60)
"""

CONTEND = """
import random, sys, time
from pathlib import Path
from bench.holding import Taken, hold

draw, held, mistakes = random.Random(sys.argv[2]), 0, 0
until = time.monotonic() + 1
while time.monotonic() < until:
    marks = [Path(sys.argv[1], "s", name, "mark") for name in draw.sample("abcd", 2)]
    try:
        with hold([mark.parent for mark in marks]):
            mistakes += any(mark.exists() for mark in marks)
            for mark in marks:
                mark.touch()
            for mark in marks:
                mark.unlink()
            held += 1
    except Taken:
        pass
print(held, mistakes)
"""


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    options: Any = {"env": os.environ | {"PYTHONPATH": str(ROOT)}, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, text=True, **options)


def test_a_hold_is_anothers_until_its_process_ends_however_that_ends(tmp_path: Path) -> None:
    first, second = tmp_path / "s" / "w" / "o" / "a", tmp_path / "s" / "w" / "o" / "b"
    with python(KEEP, second) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Taken, match="b: another process makes this run"), hold([first, second]):
            raise AssertionError
        assert not first.exists()
        assert is_free(first)
        assert not is_free(second)
        process.kill()
    assert is_free(second)
    with hold([first, second]):
        assert not is_free(first)


def test_it_leaves_nothing_but_what_was_put_there(tmp_path: Path) -> None:
    with hold([tmp_path / "runs" / "s" / "a"]):
        assert (tmp_path / "runs" / "s" / "a" / holding.FILE_NAME).exists()
    assert not (tmp_path / "runs").exists()
    with hold([tmp_path / "runs" / "s" / "a"]):
        (tmp_path / "runs" / "s" / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "runs" / "s" / "a").iterdir()] == ["file"]


def test_a_directory_that_another_process_takes_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, gone = Path.mkdir, [FileExistsError, FileNotFoundError]

    def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
        if gone and path == tmp_path / "s":
            raise gone.pop()
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with hold([tmp_path / "s"]):
        assert not gone
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), hold([tmp_path / "file"]):
        raise AssertionError


def test_of_many_who_want_the_same_only_one_has_it(tmp_path: Path) -> None:
    processes = [python(CONTEND, tmp_path, seed) for seed in range(4)]
    counts = [process.communicate()[0].split() for process in processes]
    held, mistakes = zip(*counts, strict=True)
    assert sum(map(int, held)) > 20
    assert sum(map(int, mistakes)) == 0
