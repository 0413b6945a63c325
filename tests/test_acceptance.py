"""Every workload with every optimizer on real data: about twenty minutes on two cores.

scripts/test -m slow tests/test_acceptance.py
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import records
from bench.data import IMAGES, Dataset
from tests.conftest import config_names

pytestmark = pytest.mark.slow

Shell = Callable[..., tuple[int, str]]
SEVEN = "sgd,momentum,nesterov,adagrad,rmsprop,adam,adamw"

# Test accuracy to be reached by Adam after five epochs, at a learning rate.
REACHED = {
    ("mnist_mlp", 1e-3): 0.97,
    ("mnist_logistic", 1e-3): 0.91,
    ("cifar10_linear", 1e-3): 0.34,
    ("cifar10_linear", 1e-4): 0.38,
    ("cifar10_cnn", 1e-3): 0.68,
    ("fashion_mnist_cnn", 1e-3): 0.89,
}


@pytest.fixture(autouse=True)
def all_data(real_data: Callable[[str], Dataset]) -> None:
    for name in IMAGES:
        real_data(name)


def test_all_workloads_train_with_all_optimizers(shell: Shell, tmp_path: Path) -> None:
    workloads = config_names("workload")
    status, output = shell(
        "-m", f"workload={','.join(workloads)}", f"optimizer={SEVEN}", "trainer.max_epochs=1"
    )
    assert status == 0, output
    made = [records.read(path) for path in tmp_path.glob("runs/**/record.json")]
    assert {(r.workload, r.optimizer) for r in made} == {
        (workload, optimizer) for workload in workloads for optimizer in SEVEN.split(",")
    }
    assert {r.status for r in made} == {"completed"}
    assert {r.epochs for r in made} == {1.0}


@pytest.mark.parametrize(("workload", "lr"), REACHED)
def test_five_epochs_of_adam(shell: Shell, tmp_path: Path, workload: str, lr: float) -> None:
    status, output = shell(f"workload={workload}", f"optimizer.lr={lr}", "trainer.max_epochs=5")
    assert status == 0, output
    (path,) = tmp_path.glob("runs/**/record.json")
    accuracy = records.read(path).metrics["test/accuracy"]
    assert accuracy is not None
    assert accuracy >= REACHED[workload, lr]


@pytest.mark.parametrize("workload", ["mnist_mlp", "cifar10_linear"])
def test_stacked_as_in_parallel(shell: Shell, tmp_path: Path, workload: str) -> None:
    """After an epoch losses agree within 1e-4, at every learning rate, however unstable."""
    found = {}
    for launcher in ("parallel", "stacked"):
        sweep = ["optimizer=adam,momentum", "optimizer.lr=1e-4,1e-3,1e-2,1e-1,1,1e38", "seed=0,1"]
        status, output = shell(
            *("-m", f"hydra/launcher={launcher}", f"study={launcher}", f"workload={workload}"),
            *("trainer.max_epochs=1", *sweep),
        )
        assert status == 0, output
        made = map(records.read, tmp_path.glob(f"runs/{launcher}/**/record.json"))
        found[launcher] = {record.id: record for record in made}
    alone, stacked = found["parallel"], found["stacked"]
    assert alone.keys() == stacked.keys()
    assert len(alone) == 24
    for key, record in alone.items():
        assert stacked[key].timing["runs_together"] == 6
        assert (stacked[key].status, stacked[key].steps) == (record.status, record.steps)
        for name, value in record.metrics.items():
            assert stacked[key].metrics[name] == pytest.approx(value, rel=1e-4), name
    assert {record.status for record in alone.values()} == {"completed", "diverged"}
