"""The README's text: things of one's own beside a wheel that is installed in a new environment."""

import csv
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench import records
from tests.test_wheel import ROOT, built

pytest.importorskip("hatchling")
pytest.importorskip("pip")
RATES = ("0.001", "0.003", "0.01", "0.03", "0.1", "0.3")
Command = Callable[..., str]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new one, into which pip has put our wheel; what that needs is here already, so that no
    network is used."""
    place = tmp_path_factory.mktemp("new")
    built("wheel", place / "wheel")
    (wheel,) = place.glob("wheel/*.whl")
    python = place / "env" / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", str(place / "env")],
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index",
         "--no-deps", "--disable-pip-version-check", str(wheel)],
    ):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, text=True)
    (packages,) = (place / "env").glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "env"


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Command:
    """Types a command of the new environment in a folder that holds one's own files."""
    shutil.copytree(
        ROOT / "docs/own",
        tmp_path,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__", "runs"),
    )

    def command(*arguments: str) -> str:
        script = environment / "bin" / arguments[0]
        ended = subprocess.run(
            [str(script), *arguments[1:]],
            cwd=tmp_path, env={"PATH": "/usr/bin:/bin"} | _home(), capture_output=True, text=True,
            timeout=200,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    return command


def _home() -> dict[str, str]:
    return {key: os.environ[key] for key in ("HOME", "XDG_CACHE_HOME") if key in os.environ}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "launcher", "together"),
    [
        ("optimizer._target_=houses.Signs", "parallel", {1}),
        ("optimizer._target_=houses.Signs", "stacked", {1}),  # only rules of ours can be stacked
        ("optimizer=adam", "stacked", {2, 3, 4, 5, 6}),
    ],
)
def test_a_sweep_of_own_things_from_a_wheel(
    run: Command, tmp_path: Path, optimizer: str, launcher: str, together: set[int]
) -> None:
    sweep = [optimizer, f"optimizer.lr={','.join(RATES)}", f"hydra/launcher={launcher}"]
    said = run(
        "bench", "-m", "-cd", ".", "workload=houses", *sweep, "study=s", "trainer.max_epochs=2"
    )
    if launcher == "stacked" and together == {1}:
        assert "not stacked: houses.Signs has no rule to stack" in said
    directories = [path.parent for path in tmp_path.glob("runs/s/houses/*/*/record.json")]
    made = {path: records.read(path / "record.json") for path in directories}
    assert sorted(r.hyperparameters["lr"] for r in made.values()) == sorted(map(float, RATES))
    for directory, record in made.items():
        assert (record.status, record.workload) == ("completed", "houses")
        assert record.metric == {
            "name": "mae", "unit": "k$", "higher_is_better": False, "chance": None,
        }  # fmt: skip
        assert {"val/mae", "val/loss", "test/mae"} <= record.metrics.keys()
        assert record.timing["runs_together"] in together
        events = EventAccumulator(str(directory), size_guidance={"scalars": 0}).Reload()
        assert {"val/mae", "val/loss", "test/mae", "train/lr"} <= set(events.Tags()["scalars"])
        assert events.Scalars("val/mae")[-1].value == pytest.approx(record.metrics["val/mae"])
    run("python", "-m", "bench.report", "runs/s")
    with open(tmp_path / "runs/s/report/best.csv", newline="") as file:
        (best,) = csv.DictReader(file)
    wanted = min(made.values(), key=lambda record: record.metrics["val/mae"] or 0)
    assert float(best["lr"]) == wanted.hyperparameters["lr"]
    assert float(best["score"]) == pytest.approx(wanted.metrics["val/mae"])
    page = (tmp_path / "runs/s/report/index.html").read_text()
    assert "mae" in page
    assert "accuracy" not in page
