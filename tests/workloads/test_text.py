"""The language model: windows of plays, what it may see, and what a character costs."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from bench import gradcheck
from bench.command_line import CONF
from bench.data.specs import SHAKESPEARE
from bench.errors import BenchError
from bench.settings.schema import validate
from bench.training import Run
from bench.training.tracing import Tracer
from bench.workloads import TextModel
from bench.workloads.models import drawn, forget, loaded
from bench.workloads.workload import Place
from tests.data.fake_data import fake_cache

TINY = {"layers": 1, "heads": 2, "width": 8, "context": 16}
SMALL = [
    "workload=shakespeare_transformer",
    *(f"workload.{key}={value}" for key, value in TINY.items()),
    *("trainer.max_steps=6", "trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false"),
    "workload.val_plays=[the-tempest]",
    "workload.test_plays=[macbeth]",
]


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    forget()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        fake_cache("shakespeare", place, patch)
        yield place


def text_model(data_dir: Path, **changes: Any) -> TextModel:
    workload = TextModel(name="text", **{**TINY, **changes})
    workload.data_dir = data_dir  # type: ignore[misc]
    loaded(workload, Place(torch.device("cpu"), torch.float32))
    return workload


def test_every_character_is_predicted_once_and_within_its_play(data_dir: Path) -> None:
    workload = text_model(data_dir, context=700)
    text = workload._characters
    starts = [0]
    for length in SHAKESPEARE.lengths:
        starts.append(starts[-1] + length)
    seen: list[int] = []
    for split in ("train", "val", "test"):
        windows = workload._windows[split].tolist()
        assert len(windows) == workload.size(split)
        for start in windows:
            play = next(n for n in range(len(SHAKESPEARE.plays)) if start < starts[n + 1])
            name = SHAKESPEARE.plays[play]
            assert start + 700 < starts[play + 1]
            held = {"val": workload.val_plays, "test": workload.test_plays}
            assert (
                name in held[split] if split in held else not any(name in h for h in held.values())
            )
            seen += range(start + 1, start + 701)
    assert len(seen) == len(set(seen))
    left_out = sum(1 + (length - 1) % 700 for length in SHAKESPEARE.lengths)
    assert len(seen) == SHAKESPEARE.characters - left_out
    batch = workload.batch(torch.tensor([3, 0]))
    start = int(workload._windows["train"][3])
    assert torch.equal(batch["characters"][0], text[start : start + 700].long())
    assert torch.equal(batch["next"][0], text[start + 1 : start + 701].long())
    assert torch.equal(workload.batch(slice(0, 4))["next"][3], batch["next"][0])


def test_no_character_sees_a_later_one(data_dir: Path) -> None:
    model = drawn(text_model(data_dir), 0)
    text = torch.randint(SHAKESPEARE.symbols, (2, 16), generator=torch.Generator().manual_seed(0))
    changed = text.clone()
    changed[:, 9] = (changed[:, 9] + 1) % SHAKESPEARE.symbols
    one, other = model(text), model(changed)
    assert torch.equal(one[:, :9], other[:, :9])
    assert (one[:, 9:] != other[:, 9:]).any(-1).all()


def test_attention_is_pytorchs_own(data_dir: Path) -> None:
    attention = drawn(text_model(data_dir), 0).blocks[0].attention.double()  # type: ignore
    x = torch.randn(3, 16, 8, dtype=torch.float64)
    q, k, v = (
        part.unflatten(-1, (2, 4)).transpose(1, 2) for part in attention.inputs(x).chunk(3, -1)
    )
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(attention(x), attention.out(wanted))


def test_bits_are_of_characters_not_of_windows(data_dir: Path) -> None:
    workload = text_model(data_dir)
    uniform = torch.zeros(5, 16, SHAKESPEARE.symbols)
    sums = workload.sums(uniform, workload.batch(slice(0, 5)))
    assert float(sums["count"]) == 5 * 16
    values = workload.values({name: float(x) for name, x in sums.items()})
    assert values["bits_per_character"] == pytest.approx(math.log2(84))
    assert workload.metric.chance == math.log2(84)


def train(data_dir: Path, place: Path, *runs: list[str]) -> list[Any]:
    said = [*SMALL, f"data_dir={data_dir}"]
    configs = [validate(compose("config", [*said, *overrides])) for overrides in runs]
    directories = [place / str(n) for n in range(len(runs))]
    for directory in directories:
        directory.mkdir(parents=True)
    return Run(configs, directories).train()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_alone_as_in_a_stack(data_dir: Path, tmp_path: Path, optimizer: str) -> None:
    runs = [[f"optimizer={optimizer}", f"optimizer.lr={lr}"] for lr in (1e-3, 1e-2)]
    together = train(data_dir, tmp_path / "stack", *runs)
    for n, own in enumerate(runs):
        (alone,) = train(data_dir, tmp_path / str(n), own)
        for name, value in alone.metrics.items():
            assert together[n].metrics[name] == pytest.approx(value, rel=1e-5)
    assert alone.metric == {
        "name": "bits_per_character",
        "unit": "bits",
        "higher_is_better": False,
        "chance": math.log2(84),
    }


def test_recorded_steps_are_autograds_to_the_last_bit(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one step to an execution, gradients come by Lightning's backward instead."""
    monkeypatch.setattr(Tracer, "kept", WeakKeyDictionary())
    (single,) = train(data_dir, tmp_path / "one", ["trainer.steps_per_execution=1"])
    assert not Tracer.kept
    (recorded,) = train(data_dir, tmp_path / "many", [])
    ((found,),) = (kept.values() for kept in Tracer.kept.values())
    assert found is not None
    assert recorded.metrics == single.metrics


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_precisions(data_dir: Path, tmp_path: Path, precision: str) -> None:
    (usual,) = train(data_dir, tmp_path / "usual", [])
    (other,) = train(data_dir, tmp_path / "other", [f"trainer.precision={precision}"])
    name, rel = "val/bits_per_character", 1e-5 if precision == "64-true" else 1e-2
    assert other.metrics[name] == pytest.approx(usual.metrics[name], rel=rel)


def test_gradients(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.data.cache.default_data_dir", lambda: data_dir)
    monkeypatch.setattr(gradcheck, "COORDINATES", 20)
    assert gradcheck.check("shakespeare_transformer").passed


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("workload.val_plays=[hamlet,ham]", "ham: no such play; there are a-midsummer"),
        ("workload.test_plays=[the-tempest]", "the-tempest is there twice"),
        ("workload.test_plays=[]", "must leave a play to test on"),
        ("workload.heads=3", "workload.width=8: must be a multiple of workload.heads=3"),
        ("workload.width=0", "workload.width=0 is not accepted"),
    ],
)
def test_what_cannot_be(override: str, said: str) -> None:
    with pytest.raises(BenchError, match=re.escape(said)):
        validate(compose("config", [*SMALL, override]))
