"""The README's text: a workload and an optimizer of one's own, beside an installed package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import records
from tests.test_wheel import ROOT, built

pytest.importorskip("hatchling")
RATES = ("0.001", "0.003", "0.01", "0.03", "0.1", "0.3")


@pytest.mark.parametrize(
    ("optimizer", "launcher", "together"),
    [
        ("optimizer._target_=houses.Signs", "parallel", {1}),
        ("optimizer._target_=houses.Signs", "stacked", {1}),  # only rules of ours can be stacked
        ("optimizer=adam", "stacked", {2, 3, 4, 5, 6}),
    ],
)
def test_a_sweep_of_own_things_from_a_wheel(
    tmp_path: Path, optimizer: str, launcher: str, together: set[int]
) -> None:
    installed, place = tmp_path / "installed", tmp_path / "mine"
    built("wheel", installed)
    shutil.copytree(ROOT / "docs/own", place, ignore=shutil.ignore_patterns("__pycache__"))

    def python(*arguments: str) -> None:
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    sweep = [optimizer, f"optimizer.lr={','.join(RATES)}", f"hydra/launcher={launcher}"]
    short = ["study=s", "trainer.max_epochs=2"]
    python("-m", "bench", "-m", "-cd", ".", "workload=houses", *sweep, *short)
    made = [records.read(path) for path in place.glob("runs/s/houses/*/*/record.json")]
    assert sorted(record.hyperparameters["lr"] for record in made) == sorted(map(float, RATES))
    for record in made:
        assert (record.status, record.workload) == ("completed", "houses")
        assert record.metric["name"] == "mae"
        assert not record.metric["higher_is_better"]
        assert {"val/mae", "val/loss", "test/mae"} <= record.metrics.keys()
        assert record.timing["runs_together"] in together
    python("-m", "bench.report", "runs/s")
