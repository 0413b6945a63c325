"""What a stack carries, what it refuses by name, and that its runs are what they are alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from bench.command_line import CONF
from bench.records import Record
from bench.settings.schema import validate
from bench.training import Run
from bench.workloads import Arrays, Workload
from bench.workloads.models import forget, refusal_to_stack


class Pairs(Arrays):
    """Two inputs, and a target for each of three places."""

    inputs = ("a", "b")

    def arrays(self) -> dict[str, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        a, b = torch.randn(2, 120, 3, 4, generator=generator)
        data = {"a": a, "b": b, "y": (a * b).sum(-1)}
        parts = {"train": slice(80), "val": slice(80, 100), "test": slice(100, None)}
        return {split: {k: x[part] for k, x in data.items()} for split, part in parts.items()}

    def build(self, seed: int) -> nn.Module:
        return Network()

    def losses(self, output: Any, batch: Any) -> Tensor:
        return (output["y"] - batch["y"]).square() + 0.1 * output["other"][0].square()  # [B, 3]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.last = nn.Linear(8, 1)
        self.register_buffer("scale", torch.tensor([2.0, 1.0, 0.5]))

    def forward(self, a: Tensor, b: Tensor) -> Any:
        h = self.norm(self.first(torch.cat([a, b], -1)).tanh())
        y = self.last(h).squeeze(-1) * self.scale
        return {"y": y, "other": (y - 1, h)}


class Tupled(Pairs):
    """The model answers with a tuple."""

    def build(self, seed: int) -> nn.Module:
        return Both()

    def losses(self, output: Any, batch: Any) -> Tensor:
        y, scale = output
        return (y - batch["y"]).square() / scale


class Both(Network):
    def forward(self, a: Tensor, b: Tensor) -> Any:
        y = super().forward(a, b)["y"]
        return y, 1 + y.square()


class Valley(Workload):
    """A function of two variables: there are no data."""

    def build(self, seed: int) -> nn.Module:
        return Point()

    def losses(self, output: Tensor, batch: Any) -> Tensor:
        x, y = output
        return ((1 - x).square() + 100 * (y - x.square()).square()).reshape(1)


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor([-1.0, 1.0]) + 0.1 * torch.randn(2))

    def forward(self) -> Tensor:
        return self.at * 1


class Normed(Pairs):
    def build(self, seed: int) -> nn.Module:
        model = Network()
        model.norm = nn.BatchNorm1d(3)  # type: ignore[assignment]
        return model


class Dropped(Pairs):
    def build(self, seed: int) -> nn.Module:
        model = Network()
        model.norm = nn.Sequential(nn.LayerNorm(8), nn.Dropout(0.1))  # type: ignore[assignment]
        return model


class DrawnBuffer(Pairs):
    def build(self, seed: int) -> nn.Module:
        model = Network()
        model.scale = torch.rand(3)
        return model


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    forget()


def train(kind: type[Workload], place: Path, *runs: list[str]) -> list[Record]:
    said = ["workload=custom", f"workload._target_={__name__}.{kind.__name__}"]
    said += ["workload.name=own", "trainer.enable_progress_bar=false"]
    configs = [validate(compose("config", [*said, *overrides])) for overrides in runs]
    directories = [place / str(n) for n in range(len(runs))]
    for directory in directories:
        directory.mkdir(parents=True)
    return Run(configs, directories).train()


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (Pairs, ["workload.batch_size=32", "trainer.max_epochs=3"]),
        (Tupled, ["workload.batch_size=32", "trainer.max_epochs=3", "workload.l2=0.01"]),
        (Valley, ["trainer.max_epochs=20"]),
    ],
)
@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)])
def test_alone_as_in_a_stack(
    tmp_path: Path, kind: type[Workload], more: list[str], seeds: tuple[int, int]
) -> None:
    runs = [
        [*more, f"optimizer.lr={lr}", f"seed={s}"]
        for lr, s in zip((1e-2, 1e-3), seeds, strict=True)
    ]
    together = train(kind, tmp_path / "stack", *runs)
    assert together[0].metrics != together[1].metrics
    for n, own in enumerate(runs):
        (alone,) = train(kind, tmp_path / str(n), own)
        assert alone.steps == together[n].steps
        assert alone.metric == {
            "name": "loss", "unit": "", "higher_is_better": False, "chance": None,
        }  # fmt: skip
        for name, value in alone.metrics.items():
            assert together[n].metrics[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Pairs, None),
        (Valley, None),
        (Normed, "changes norm.running_mean"),
        (Dropped, "draws from one random stream"),
        (DrawnBuffer, "draws scale"),
    ],
)
def test_what_cannot_be_stacked(kind: type[Workload], reason: str | None) -> None:
    said = refusal_to_stack(kind(name="own"))
    assert said is None if reason is None else reason in str(said)


def test_running_statistics_are_what_is_evaluated_with(tmp_path: Path) -> None:
    (record,) = train(Normed, tmp_path, ["workload.batch_size=32", "trainer.max_epochs=3"])
    weights = torch.load(tmp_path / "0" / "checkpoints" / "last.ckpt", weights_only=True)[
        "state_dict"
    ]
    assert int(weights["model.norm.num_batches_tracked"]) == record.steps
    model = Normed(name="own").build(0)
    model.load_state_dict({k.removeprefix("model."): x for k, x in weights.items()})
    data = Normed(name="own").arrays()["test"]
    losses = Normed(name="own").losses(model.eval()(data["a"], data["b"]), data)
    assert float(losses.detach().mean()) == pytest.approx(record.metrics["test/loss"], rel=1e-5)
