"""What Lightning does not need is not loaded for it, and is there for whoever asks."""

import subprocess
import sys
from pathlib import Path

import pytest


def run(program: str) -> str:
    """What it prints in a process of its own, in which a warning is an error but for torchmetrics'
    own."""
    command = [sys.executable, "-c", program]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_training_loads_none_of_what_nobody_asked_for() -> None:
    said = run("""
import sys
import bench.training
from bench.light_imports import Waiting
from bench.workloads.workload import Workload
heavy = ["scipy.signal", "torchvision", "matplotlib", "torch._dynamo.eval_frame", "sympy"]
print([name for name in heavy if name in sys.modules])
print(sorted(name for name, x in sys.modules.items() if type(x) is Waiting))
""")
    assert said.splitlines() == [
        "[]",
        "['torch._dynamo', 'torch._inductor', 'torch._inductor.config', "
        "'torch.fx.experimental.symbolic_shapes', 'torchmetrics', 'torchmetrics.utilities.plot']",
    ]


def test_neither_does_what_vmap_divides_into_others() -> None:
    said = run("""
import sys
import bench.training
import torch
from torch.nn.functional import cross_entropy

def losses(x, y):
    return torch.func.vmap(cross_entropy)(x, y)

x, y = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)
print(losses(x, y).exp().round(decimals=4).tolist(), "sympy" in sys.modules)
try:
    torch._check(False, lambda: "it is not")
except RuntimeError as error:
    print(error, "sympy" in sys.modules)
from torch.fx.experimental import symbolic_shapes
print(symbolic_shapes.guard_or_false(True), symbolic_shapes.expect_true.__module__)
print(torch.export.export(torch.nn.Linear(4, 2), (x[0],)).module()(x[0]).shape)
""")
    assert said.splitlines() == [
        "[4.0, 4.0] False",
        "it is not False",
        "True torch.fx.experimental.symbolic_shapes",
        "torch.Size([3, 2])",
    ]


def test_whoever_asks_gets_the_module_itself() -> None:
    said = run("""
import bench.training
import torch, torchmetrics, pytorch_lightning as pl
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultMetric

metric = torchmetrics.Accuracy(task="multiclass", num_classes=3)
metric.update(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
print(round(float(metric.compute()), 4), isinstance(metric, Metric))
print(issubclass(_ResultMetric, Metric), torchmetrics.metric.Metric is Metric)
print(type(metric) is MulticlassAccuracy, torchmetrics.__version__ > "1")
figure, axes = metric.plot()
print(type(figure).__name__)
torch.use_deterministic_algorithms(True)
compiled = torch.compile(torch.nn.Linear(2, 2), backend="eager")
print(type(compiled).__name__, isinstance(compiled, torch._dynamo.OptimizedModule))
print(compiled(torch.ones(1, 2)).shape, torch._inductor.config.deterministic)
optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
compiled(torch.ones(1, 2)).sum().backward()
optimizer.step()
""")
    lines = said.splitlines()
    assert lines[:3] == ["0.6667 True", "True True", "True True"]
    assert lines[3:] == ["Figure", "OptimizedModule True", "torch.Size([1, 2]) True"]


@pytest.mark.parametrize("runs", [1, 2])
def test_neither_does_a_training(tmp_path: Path, runs: int) -> None:
    """Alone or as a stack, from the first step to the test."""
    said = run(f"""
import sys
from pathlib import Path
from hydra import compose, initialize_config_dir
from bench.command_line import CONF
from bench.data import tensors
from bench.settings.schema import register, validate
from bench.training import Run
from tests.conftest import fake_dataset

register()
tensors.load = lambda name, data_dir=None: fake_dataset(name)
with initialize_config_dir(str(CONF), version_base="1.3"):
    configs = [
        validate(compose("config", [
            f"optimizer.lr={{lr}}", "trainer.max_epochs=1", "workload.val_size=1000",
            "trainer.enable_progress_bar=false",
        ]))
        for lr in (1e-3, 1e-2)[:{runs}]
    ]
places = [Path({str(tmp_path)!r}, str(n)) for n in range({runs})]
for place in places:
    place.mkdir()
made = Run(configs, places).train()
heavy = ["scipy.signal", "torchvision", "matplotlib", "torch._dynamo.eval_frame", "sympy"]
print([r.status for r in made], [name for name in heavy if name in sys.modules])
""")
    assert said == f"{['completed'] * runs} []\n"


@pytest.mark.parametrize("first", ["torchmetrics", "torch._dynamo", "pytorch_lightning"])
def test_what_is_loaded_already_stays(first: str) -> None:
    said = run(f"""
from bench.torchvision_ops import declare_ops
declare_ops()
import sys
import {first}
found = sys.modules[{first!r}]
import bench.training
from bench.light_imports import Waiting
print(sys.modules[{first!r}] is found, type(found) is Waiting)
""")
    assert said == "True False\n"


def test_what_was_not_to_be_compiled_is_not_once_there_is_a_compiler() -> None:
    said = run("""
import bench.training
import torch

@torch._dynamo.disable
def own(x):
    return torch.compiler.is_compiling(), x + 1

print(own(torch.ones(1))[0])
compiled = torch.compile(lambda x: own(x), backend="eager")
print(compiled(torch.ones(1))[0])
""")
    assert said.splitlines() == ["False", "False"]
