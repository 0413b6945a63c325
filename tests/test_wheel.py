"""What an installed package is: built, unpacked, and run from an empty directory."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution
from pathlib import Path

import pytest

import bench
from bench import records

pytest.importorskip("hatchling")
ROOT = Path(__file__).parents[1]


def built(kind: str, place: Path) -> list[str]:
    """The names in a wheel, which is unpacked in ``place``."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
        return archive.namelist()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    built("wheel", place)
    return place


def run(installed: Path, place: Path, *arguments: str) -> str:
    """Prints what the console script would, from the wheel and nothing of the repository."""
    (script,) = Distribution.at(next(installed.glob("*.dist-info"))).entry_points
    assert (script.name, script.group) == ("bench", "console_scripts")
    code = (
        f"import sys; from {script.module} import {script.attr} as script\n"
        f"assert sys.modules['{script.module}'].__file__.startswith({str(installed)!r})\n"
        "sys.exit(script())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_everything_lies_in_our_own_packages(installed: Path) -> None:
    top = {path.name for path in installed.iterdir() if path.suffix != ".whl"}
    assert top == {"bench", "optimizers", f"optimizer_bench-{bench.__version__}.dist-info"}
    ours = [
        path.relative_to(ROOT).as_posix()
        for folder in ("bench", "optimizers", "conf")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    wanted = {f"bench/{name}" if name.startswith("conf/") else name for name in ours}
    found = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert wanted <= found
    assert "bench/py.typed" in found


def test_an_editable_install_copies_nothing(tmp_path: Path) -> None:
    names = built("wheel:editable", tmp_path)
    assert [name for name in names if ".dist-info/" not in name] == ["_optimizer_bench.pth"]


def test_the_command_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """With our plugins and our configurations, and the same ones."""
    asked = ["--cfg", "job", "workload=cifar10_cnn", "hydra/launcher=stacked"]
    from_the_repository = subprocess.check_output(
        [sys.executable, "-m", "bench", *asked], cwd=ROOT, text=True
    )
    assert run(installed, tmp_path, *asked) == from_the_repository
    assert run(installed, tmp_path, "--version").startswith(f"optimizer-bench {bench.__version__} ")
    assert str(installed / "bench/conf") in run(installed, tmp_path, "--info", "searchpath")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_runs_from_the_wheel(
    installed: Path, tmp_path: Path, real_data: Callable[[str], object]
) -> None:
    real_data("mnist")
    run(installed, tmp_path, "trainer.max_steps=5", "-m", "seed=0,1", "study=s")
    made = [records.read(path) for path in sorted(tmp_path.glob("runs/s/*/*/*/record.json"))]
    assert [record.seed for record in made] == [0, 1]
    assert made[0].environment["git_commit"] is None
    (one, _) = tmp_path.glob("runs/s/*/*/*")
    assert "the same to the last bit" in run(installed, tmp_path, "--repeat", str(one))
