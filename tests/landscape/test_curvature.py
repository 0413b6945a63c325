"""What `python -m bench.curvature` measures of finished runs, against direct computations."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.func import hessian

from bench import curvature
from bench.command_line import CONF
from bench.landscape.curvature import Curvature, Options, measure, noise_scale
from bench.landscape.stability import bound
from bench.landscape.summary import cell
from bench.records import Record
from bench.settings.schema import validate
from bench.trained import checkpoint, finished
from bench.training import Run
from bench.workloads.models import loaded
from bench.workloads.workload import Place
from optimizers.rules import RULES
from tests.landscape.test_spectrum import Small, objective_of

pytestmark = [
    pytest.mark.usefixtures("fake_data"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
]

QUIET = ["trainer.enable_progress_bar=false"]
SMALL = [*QUIET, "workload.val_size=5900", "workload.model.hidden_sizes=[3]", "trainer.max_steps=9"]
FEW = Options(examples=60, probes=8, coordinates=30)


@pytest.fixture(autouse=True)
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def train(place: Path, *runs: list[str]) -> list[Path]:
    """Makes runs, together if they are several; their directories."""
    configs = [validate(compose("config", overrides)) for overrides in runs]
    directories = [place / str(n) for n in range(len(runs))]
    for directory in directories:
        directory.mkdir(parents=True)
    Run(configs, directories).train()
    return directories


def exact(directory: Path, examples: Tensor | None = None) -> SimpleNamespace:
    """At a run's weights: they, the gradient and the Hessian, by PyTorch alone."""
    _, workload, model = finished(directory)
    loaded(workload, Place(torch.device("cpu"), torch.float64))
    model = model.double().eval()
    batch = workload.batch(torch.arange(workload.train_size) if examples is None else examples)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    at = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(weights: Tensor) -> Tensor:
        parts = weights.split([shape.numel() for shape in shapes.values()])
        named = {n: x.view(s) for (n, s), x in zip(shapes.items(), parts, strict=True)}
        output = workload.call(lambda *x: torch.func.functional_call(model, named, x), batch)
        return workload.objective(output, batch)

    gradient = torch.func.grad(loss)(at).numpy()
    return SimpleNamespace(at=at.numpy(), gradient=gradient, hessian=hessian(loss)(at).numpy())


def slots(directory: Path, record: Record, name: str) -> Any:
    state = checkpoint(directory, record)["optimizer_states"][0]["state"]
    return torch.cat([own[name].flatten() for own in state.values()]).double().numpy()


ON_A_FUNCTION = ["workload=quadratic", "workload.dimension=20", "trainer.max_steps=7", *QUIET]


def test_descent_on_a_quadratic(tmp_path: Path) -> None:
    lr = ["optimizer=sgd", "optimizer.lr=0.5"]
    (directory,) = train(tmp_path, [*ON_A_FUNCTION, *lr])
    _, found = measure(directory, FEW)
    known = exact(directory)
    assert (found.top, found.bottom) == (pytest.approx([1]), pytest.approx([0.01]))
    assert found.condition == pytest.approx(100)
    assert (found.trace, found.trace_error, found.probes) == (
        pytest.approx(known.hessian.trace()),
        0,
        0,
    )
    assert (found.edge, found.bound) == (pytest.approx(1), 4)
    assert found.noise_scale == 0
    cosine = abs(known.gradient @ np.linalg.eigh(known.hessian)[1][:, -1])
    cosine /= np.linalg.norm(known.gradient)
    assert found.gradient_alignment == pytest.approx(cosine, rel=1e-6)
    assert found.update_alignment == pytest.approx(cosine, rel=1e-6)  # against the gradient


@pytest.mark.slow
def test_adam_on_images(tmp_path: Path) -> None:
    """With more weights than are written out. 100 examples are all that are trained on."""
    run = [*SMALL, "optimizer=adam", "optimizer.lr=0.01", "workload.batch_size=50"]
    (directory,) = train(tmp_path, run)
    record, found = measure(directory, Options(examples=100, probes=40, coordinates=200))
    known = exact(directory)
    values, vectors = np.linalg.eigh(known.hessian)
    assert found.parameters == len(values) > 2000
    assert found.top == pytest.approx(values[-1:], rel=1e-6)
    assert found.bottom == pytest.approx(values[:1], rel=1e-6)
    assert np.isnan(found.condition) == (values[0] <= 0)
    assert abs(found.trace - values.sum()) < 4 * found.trace_error
    assert found.gradient_norm == pytest.approx(np.linalg.norm(known.gradient))

    m, v = slots(directory, record, "m"), slots(directory, record, "v")
    t = record.steps + 1
    first = (0.9 * m + 0.1 * known.gradient) / (1 - 0.9**t)
    second = (0.999 * v + 0.001 * known.gradient**2) / (1 - 0.999**t)
    update = first / (np.sqrt(second) + 1e-8)
    cosine = abs(update @ vectors[:, -1]) / np.linalg.norm(update)
    assert found.update_alignment == pytest.approx(cosine, rel=1e-4)

    scale = (np.sqrt(v / (1 - 0.999**9)) + 1e-8) ** -0.5
    preconditioned = scale[:, None] * known.hessian * scale
    assert found.edge == pytest.approx(np.linalg.eigvalsh(preconditioned)[-1], rel=1e-5)
    assert found.bound == pytest.approx(38 / 0.01 * (1 - 0.9**9))

    places = np.random.default_rng(0).choice(len(v), 200, replace=False)
    ranks = [x[places].argsort().argsort() for x in (v, known.hessian.diagonal())]
    assert found.state_correlation == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=0.02)  # ties


def test_the_noise_scale_is_that_of_two_sizes_of_batches() -> None:
    """McCandlish et al. 2018, appendix A.1: with batches of one example, and of all of them."""
    objective = objective_of(Small(name="small"))
    own = torch.stack([*objective.gradients(objective.examples.split(1))]).numpy()  # [n, P]
    n, small, big = len(own), np.square(own).sum(1).mean(), np.square(own.mean(0)).sum()
    length = (n * big - small) / (n - 1)
    spread = (small - big) / (1 - 1 / n)
    assert noise_scale(objective, []) == pytest.approx(spread / length)
    objective = objective_of(Small(name="small"), torch.arange(2))
    notes: list[str] = []
    found = noise_scale(objective, notes)
    assert found > 0 or "lost in its noise" in notes[0]


RATE = 0.1
BOUNDED = [
    ("sgd", {}),
    ("sgd", {"weight_decay": 0.5}),
    *[("momentum", {"form": form}) for form in ("velocity", "heavy_ball", "average")],
    *[("nesterov", {"form": form}) for form in ("velocity", "heavy_ball", "average")],
    ("rmsprop", {"eps": 1e6}),
    ("adagrad", {"eps": 1e6}),
    ("adam", {"eps": 1e6, "bias_correction": "false"}),
    ("amsgrad", {"eps": 1e6, "weight_decay": 0.5, "bias_correction": "false"}),
]


@pytest.mark.parametrize(("name", "options"), BOUNDED, ids=str)
def test_steps_are_stable_up_to_the_bound(name: str, options: dict[str, Any]) -> None:
    """On a quadratic of one dimension, by the rules themselves. An `eps` that large makes P one
    number."""
    given = [f"optimizer.{key}={value}" for key, value in options.items()]
    config = validate(compose("config", [f"optimizer={name}", f"optimizer.lr={RATE}", *given]))
    known = bound(config, 1)
    assert known.value is not None
    rule, h = RULES[name], SimpleNamespace(**config["optimizer"])
    curvatures = known.value * np.array([0.99, 1.01]) * (h.eps if known.slot else 1)
    curvatures -= known.weight_decay
    p, state, most = np.full(2, 1e-9), tuple(np.zeros(2) for _ in rule.slots), np.zeros(2)
    for t in range(1, 4001):
        c = SimpleNamespace(**rule.coefficients(h, t))
        gradient = torch.tensor((curvatures + known.weight_decay) * p)
        tensors = tuple(torch.as_tensor(x) for x in state)
        moved, state = rule.update(torch.tensor(p), gradient, tensors, c)
        p = np.clip(moved.numpy(), -1e-6, 1e-6)
        most = np.maximum(most, abs(p))
    assert most[0] < 1e-7
    assert abs(p[0]) < 1e-10
    assert most[1] == 1e-6


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (["optimizer=lion"], "no bound of lion's"),
        (["optimizer=adamw"], "decoupled weight decay"),
        (["optimizer=rmsprop", "optimizer.centred=true"], "centring"),
        (["optimizer=sgd", "optimizer.clip_norm=1"], "clipped"),
        (["optimizer=sgd", "schedule=linear", "schedule.total_steps=9"], "is 0"),
        (["optimizer=custom", "optimizer._target_=torch.optim.NAdam"], "no bound of"),
    ],
)
def test_a_bound_that_is_not_known_says_why(said: list[str], reason: str) -> None:
    config = validate(compose("config", said))
    known = bound(config, 10)
    assert known.value is None
    assert reason in str(known.reason)


def test_a_run_of_a_stack_says_what_its_checkpoint_lacks(tmp_path: Path) -> None:
    runs = [[*SMALL, "optimizer=adam", f"optimizer.lr={lr}"] for lr in (0.01, 0.02)]
    directory, _ = train(tmp_path, *runs)
    _, found = measure(directory, FEW)
    assert np.isnan([found.edge, found.update_alignment, found.state_correlation]).all()
    assert np.isfinite([*found.top, found.sampled_correlation]).all()
    assert sum("holds no state of adam" in note for note in found.notes) == 2


def test_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    (directory,) = train(tmp_path, [*SMALL, "optimizer=momentum", "workload.model.dropout=0.5"])
    one, again = (measure(directory, FEW)[1] for _ in range(2))
    one.seconds = again.seconds
    assert one == again or json.dumps(vars(one)) == json.dumps(vars(again))  # NaN is not NaN
    other = measure(directory, Options(examples=60, probes=8, coordinates=30, seed=1))[1]
    assert other.trace != one.trace


def test_the_command_measures_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        spread = ["workload.spread=0.1", f"seed={seed}", "optimizer=sgd", "optimizer.lr=0.5"]
        train(tmp_path / f"study/{seed}", [*ON_A_FUNCTION, *spread])
    (other,) = train(tmp_path / "study/other", [*SMALL, "trainer.enable_checkpointing=false"])
    assert curvature.main([str(tmp_path / "study"), "--probes", "8"]) == 0
    said, errors = capsys.readouterr()
    assert "skipped" in errors
    assert "enable_checkpointing=true" in errors
    assert "3 seeds" in said
    assert "largest eigenvalue" in said
    assert "(1 to 1)" in said
    files = sorted((tmp_path / "study").rglob("curvature*"))
    assert [path.parent.parent.name for path in files] == ["0", "1", "2"]
    content = json.loads(files[0].read_text())
    assert content.keys() == Curvature.__dataclass_fields__.keys()
    assert content["top"] == pytest.approx([1])
    assert content["update_alignment"] == pytest.approx(content["gradient_alignment"])
    assert curvature.main([str(other)]) == 1
    assert "enable_checkpointing=true" in capsys.readouterr().err


def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError("this operator has none")

    (directory,) = train(tmp_path, [*ON_A_FUNCTION, "optimizer=sgd", "optimizer.lr=1e-3"])
    with monkeypatch.context() as patch:
        patch.setattr("bench.landscape.objective.vjp", refuse)
        assert curvature.main([str(directory)]) == 1
        assert "cannot be differentiated twice" in capsys.readouterr().err
    path = directory / "record.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"status": "failed", "reason": "the disk was full"}))
    for given, expected in (
        ([directory], "the disk was full"),
        ([tmp_path / "nowhere"], "no run that has ended"),
        ([directory, "--along"], "trainer.curvature=20"),
    ):
        assert curvature.main([*map(str, given)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert expected in error
    path.write_text(json.dumps(content))
    weights = directory / "checkpoints/last.ckpt"
    state = torch.load(weights, weights_only=True)
    state["state_dict"]["model.at"].fill_(torch.nan)
    torch.save(state, weights)
    assert curvature.main([str(directory)]) == 1
    assert "weights are not finite" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        curvature.main([str(directory), "--probes", "1"])
    assert "whole number from 2" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*curvature*"))


def test_an_interval_stays_where_values_can_be() -> None:
    values = [0.9, 0.5, 0.99]
    mean, half = np.mean(values), 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
    assert cell("loss", values) == f"0.797 ({mean - half:.3g} to {mean + half:.3g})"
    assert cell("cosine, gradient", values) == f"0.797 ({mean - half:.3g} to 1)"
    assert cell("loss", [*values, np.nan]).endswith("of 3")
    assert cell("noise scale (examples)", values) == "from 0.5 to 0.99"
    assert cell("trace", [2.0], 0.25) == "2 ± 0.25"
    assert cell("loss", [1.0, 2.0]) == "1.5"
