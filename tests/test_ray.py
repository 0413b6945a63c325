"""A sweep on a real Ray cluster of two nodes, one of which is lost in the middle."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.data import Dataset
from bench.holding import FILE_NAME as HOLD
from bench.sweeps.executors import ray_cluster

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ROOT = Path(__file__).parents[1]
SWEEP = [
    *("-m", "study=s", "optimizer=momentum", "optimizer.lr=1e-3,1e-2,1e20", "seed=0,1"),
    *("trainer.max_steps=1000", "workload.val_size=1000"),
    *("hydra.launcher.strategy=stacked", "hydra.launcher.max_stack=2"),
]
OF_THE_MAKING = ("timing", "search")


def command(place: Path, launcher: str, *options: str) -> subprocess.Popen[str]:
    place.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *SWEEP, f"hydra/launcher={launcher}", *options],
        cwd=place, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Of two nodes of one CPU."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": ray_cluster.STORE}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def held_below(pid: int) -> list[Path]:
    """The runs' directories that this process or one that descends from it holds."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    held = [
        run
        for path in children
        for child in path.read_text().split()
        for run in held_below(int(child))
    ]
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            opened = descriptor.readlink()
        except FileNotFoundError:
            continue
        if opened.name == HOLD:
            held.append(opened.parent)
    return held


def trained(place: Path) -> dict[str, Any]:
    """The records and curves of the sweep, but for times and how it was started."""
    made: dict[str, Any] = {}
    for path in sorted(place.glob("runs/s/**/record.json")):
        record = json.loads(path.read_text())
        timing = {key: record.pop(key) for key in OF_THE_MAKING}["timing"]
        record["target"].pop("seconds")
        curves = pd.read_csv(path.with_name("metrics.csv"), dtype=str).drop(columns="seconds")
        made[str(path.parent.relative_to(place))] = record, timing["runs_together"], curves.to_csv()
    return made


@pytest.mark.slow
def test_a_lost_node_costs_only_its_task_and_changes_nothing(
    cluster: Any, tmp_path: Path, real_data: Callable[[str], Dataset]
) -> None:
    real_data("mnist")
    node = cluster.add_node(num_cpus=1, object_store_memory=ray_cluster.STORE)
    (raylet,) = node.all_processes["raylet"]
    on_ray = command(tmp_path / "ray", "ray", f"hydra.launcher.address={cluster.address}")
    try:
        until = time.monotonic() + 120
        while not (held := held_below(raylet.process.pid)):
            assert on_ray.poll() is None, on_ray.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.2)
        cluster.remove_node(node, allow_graceful=False)
        assert all(not (run / "record.json").exists() for run in held)
        local = command(tmp_path / "local", "parallel", "hydra.launcher.n_jobs=2")
        for sweep in (on_ray, local):
            said, _ = sweep.communicate(timeout=180)
            assert sweep.returncode == 0, said
            assert "4 in stacks of up to 2, 2 alone" in said
            assert "Traceback" not in said
    finally:
        on_ray.kill()
    made = trained(tmp_path / "ray")
    assert len(made) == 6
    assert all((run / "record.json").exists() for run in held)
    assert {together for _, together, _ in made.values()} == {1, 2}
    assert made == trained(tmp_path / "local")


def test_without_ray_it_says_what_to_install(
    shell: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, output = shell("-m", "hydra/launcher=ray", "seed=0,1")
    assert status == 1
    assert output.strip().splitlines()[-1] == (
        "error: hydra/launcher=ray needs Ray: pip install 'optimizer-bench[ray]'"
    )


def test_a_cluster_of_its_own_has_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", environment := {"RAY_AUTH_TOKEN": "another's"})
    tokens = set()
    for _ in range(2):
        ray_cluster.prepare(None)
        assert environment["RAY_AUTH_MODE"] == "token"
        tokens.add(environment["RAY_AUTH_TOKEN"])
    assert len(tokens - {"another's"}) == 2
    assert all(len(token) == 64 for token in tokens)


def test_the_token_of_another_cluster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", environment := {"RAY_AUTH_TOKEN": "another's"})
    ray_cluster.prepare("auto")
    assert environment["RAY_AUTH_TOKEN"] == "another's"
    assert "RAY_AUTH_MODE" not in environment
