"""``scripts/setup``, with a pip that only says what the real one would."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.test_wheel import ROOT

PIP = """#!/bin/sh
[ "$1" = -c ] && exit 0
echo "Collecting torch==2.13.0 (from optimizer-bench==0.1.0)"
echo "  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (190.3 MB)"
echo "  Downloading PyYAML-6.0.3-cp311-cp311-linux_x86_64.whl.metadata (2.4 kB)"
echo "  Using cached scipy-1.17.1-cp311-cp311-linux_x86_64.whl (35.3 MB)"
echo "Installing collected packages: torch, PyYAML"
echo "ERROR: no space left" >&2
exit $FAILS
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy with a .venv whose Python only speaks."""
    for name in ("scripts/setup", "scripts/constraints.txt", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PIP)
    python.chmod(0o755)
    return tmp_path


def setup(project: Path, *, fails: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project / "scripts" / "setup"],
        env=os.environ | {"FAILS": str(fails)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_says_what_it_does_and_nothing_when_it_is_current(project: Path) -> None:
    done = setup(project)
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("setup")] == [
        "setup 1/3",
        "setup 2/3",
        "setup 3/3",
        "setup done",
    ]
    assert "some hundred MB" in done.stderr
    assert [line.strip() for line in lines if line.startswith(" ")] == [
        "torch-2.13.0-cp311-cp311-linux_x86_64.whl (190.3 MB)"
    ]
    again = setup(project)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_failure_is_pips_and_is_tried_again(project: Path) -> None:
    failed = setup(project, fails=3)
    assert failed.returncode == 3
    assert "ERROR: no space left" in failed.stderr
    assert "setup done" not in failed.stderr
    assert "setup done" in setup(project).stderr
