"""What a run may be given beside the plain: smoothed labels, averaged weights, foreign optimizers
that are scored at another point than they train at, and a person's own callbacks and loggers."""

import csv
import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F

from bench import records, study
from bench.command_line import CONF
from bench.data import Prepared, epoch_order, prepare
from bench.records import Record
from bench.settings.identity import ADDED, digest, leaves, run_directory
from bench.settings.schema import validate
from tests.conftest import build_model, fake_dataset

pytestmark = pytest.mark.usefixtures("fake_data")

Shell = Callable[..., tuple[int, str]]
Train = Callable[..., tuple[Path, Record]]
SMALL = ["workload.val_size=1000", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]

OWN = '''
import json
from pathlib import Path

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger


def append(path, *values):
    with open(path, "a") as file:
        print(json.dumps(values), file=file)


class Steps(Callback):
    def __init__(self, path="steps"):
        self.path = path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        append(self.path, trainer.global_step)
        counted = trainer.fit_loop.epoch_loop._batches_that_stepped  # what Lightning logs by
        trainer.loggers[-1].log_metrics({"own": 0.5}, counted)


class Ends(Callback):
    def on_train_end(self, trainer, module):
        append("ends", trainer.global_step)


class Kinds(Callback):
    def __init__(self, numbers, options, other):
        append("kinds", type(numbers).__name__, type(options).__name__, type(other).__name__)


class Notes(Logger):
    name = version = "notes"

    def __init__(self, path="notes"):
        self.path = path

    def log_hyperparams(self, params):
        append(self.path, "hyperparameters", params["optimizer"]["lr"])

    def log_metrics(self, metrics, step=None):
        append(self.path, step, metrics)


class Modes(torch.optim.SGD):
    """Notes in which order it is called."""

    def train(self):
        append("calls", "train")

    def eval(self):
        append("calls", "eval")

    def step(self, closure=None):
        append("calls", "step")
        return super().step(closure)


class ScheduleFreeSGD(torch.optim.Optimizer):
    """Defazio et al. 2024, equations 3 to 5: parameters are y while it trains, else x."""

    def __init__(self, params, lr=1.0, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta, "steps": 0, "training": False})

    def train(self):
        self.move(True, lambda beta: 1 - beta)

    def eval(self):
        self.move(False, lambda beta: 1 - 1 / beta)

    @torch.no_grad()
    def move(self, training, weight):
        for group in self.param_groups:
            for p in group["params"]:
                if group["training"] != training and self.state[p]:
                    p.lerp_(self.state[p]["z"], weight(group["beta"]))
            group["training"] = training

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            if not group["training"]:
                raise RuntimeError("not in train mode")
            group["steps"] += 1
            beta = group["beta"]
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                x = p.lerp(z, 1 - 1 / beta)
                z.sub_(p.grad, alpha=group["lr"])
                x.lerp_(z, 1 / group["steps"])
                p.copy_(x.lerp(z, 1 - beta))
        return loss
'''


@pytest.fixture
def train(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Makes one run where a person's own module `own` lies; its directory and record."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    studies = iter(range(100))

    def run(*arguments: str, status: int = 0) -> tuple[Path, Record]:
        name = f"s{next(studies)}"
        code, output = shell(f"study={name}", *SMALL, *arguments)
        assert code == status, output
        (path,) = tmp_path.glob(f"runs/{name}/*/*/*/record.json")
        return path.parent, records.read(path)

    return run


def rows(directory: Path) -> list[dict[str, str]]:
    """metrics.csv without its times."""
    with open(directory / "metrics.csv", newline="") as file:
        found = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def noted(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(directory: Path, part: str = "model") -> dict[str, Tensor]:
    saved = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    return {
        name.removeprefix(f"{part}."): value
        for name, value in saved.items()
        if name.startswith(f"{part}.")
    }


def splits() -> Prepared:
    options = {"feature_scaling": "channel", "val_size": 1000, "split_seed": 0}
    return prepare(fake_dataset(), device=torch.device("cpu"), **options)


def loaded(record: Record, values: dict[str, Tensor]) -> nn.Module:
    model = build_model(record.config["workload"]["model"], (1, 28, 28), seed=0)
    model.load_state_dict(values)
    return model.eval()


def losses(record: Record, values: dict[str, Tensor]) -> dict[str, float]:
    """Mean cross-entropy of these weights on both splits."""
    data = splits()
    model = loaded(record, values)
    assert data.val is not None
    with torch.no_grad():
        return {
            f"{name}/loss": float(F.cross_entropy(model(split.images), split.labels))
            for name, split in (("val", data.val), ("test", data.test))
        }


def assert_scored_at(record: Record, values: dict[str, Tensor]) -> None:
    for name, loss in losses(record, values).items():
        assert record.metrics[name] == pytest.approx(loss, rel=1e-5), name


# -- labels ----------------------------------------------------------------------------------


def test_labels_are_smoothed_in_training_alone(train: Train) -> None:
    options = ["optimizer=sgd", "optimizer.lr=0.1", "workload.label_smoothing=0.2"]
    (one, record), (many, _) = (train(*options, f"trainer.steps_per_execution={n}") for n in (1, 7))
    (plain, _) = train(*options[:2])
    assert rows(one) == rows(many)
    assert record.hyperparameters["label_smoothing"] == 0.2
    assert rows(plain)[0]["train/loss"] != rows(one)[0]["train/loss"]
    assert_scored_at(record, weights(one))
    model = loaded(record, expected_by_hand(record, smoothing=0.2))
    for name, value in weights(one).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-6)


def batches(record: Record) -> list[tuple[Tensor, Tensor]]:
    """Those of every step, in order."""
    train = splits().train
    orders = [
        epoch_order(len(train), sampling="shuffle", seed=0, epoch=epoch)
        for epoch in range(int(record.epochs))
    ]
    return [
        (train.images[index], train.labels[index])
        for order in orders
        for index in order.split(record.config["workload"]["batch_size"])
    ]


def expected_by_hand(record: Record, *, smoothing: float) -> dict[str, Tensor]:
    """The weights after plain gradient descent on the mixture of label and uniform distribution."""
    model = build_model(record.config["workload"]["model"], (1, 28, 28), seed=0)
    for images, labels in batches(record):
        logarithms = model(images).log_softmax(1)
        targets = (1 - smoothing) * F.one_hot(labels, 10) + smoothing / 10
        model.zero_grad()
        (-(targets * logarithms).sum(1).mean()).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= record.hyperparameters["lr"] * p.grad
    return model.state_dict()


# -- averaged weights ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra",
    [[], pytest.param(["optimizer=momentum", "optimizer.lr=0.01"], marks=pytest.mark.slow)],
    ids=str,
)
def test_averaged_weights_are_scored_and_raw_ones_trained(train: Train, extra: list[str]) -> None:
    averages = [*extra, "trainer.ema_decay=0.9"]
    (one, record), (many, _) = (
        train(*averages, f"trainer.steps_per_execution={n}") for n in (1, 7)
    )
    (raw, _) = train(*extra)
    lightnings = "{_target_: pytorch_lightning.callbacks.EMAWeightAveraging, decay: 0.9}"
    _, theirs = train(*extra, f"trainer.callbacks=[{lightnings}]")
    assert rows(one) == rows(many)
    assert record.metrics == pytest.approx(theirs.metrics, rel=1e-4)  # another formula
    assert record.hyperparameters["ema_decay"] == 0.9
    for name, value in weights(raw).items():
        assert value.equal(weights(one)[name])
        assert not value.equal(weights(one, "averaged")[name])
    assert_scored_at(record, weights(one, "averaged"))


# -- optimizers that move between training and scoring ---------------------------------------


def test_a_schedule_free_method_is_scored_where_it_answers(train: Train) -> None:
    own = ["optimizer._target_=own.ScheduleFreeSGD", "optimizer.lr=0.05", "optimizer.beta=0.7"]
    (one, record), (many, _) = (train(*own, f"trainer.steps_per_execution={n}") for n in (1, 7))
    assert rows(one) == rows(many)
    model = build_model(record.config["workload"]["model"], (1, 28, 28), seed=0)
    parameters = list(model.parameters())
    x, z = ([p.detach().clone() for p in parameters] for _ in range(2))
    for t, (images, labels) in enumerate(batches(record), 1):
        with torch.no_grad():
            for p, xi, zi in zip(parameters, x, z, strict=True):
                p.copy_(0.3 * zi + 0.7 * xi)
        gradients = torch.autograd.grad(F.cross_entropy(model(images), labels), parameters)
        for xi, zi, gradient in zip(x, z, gradients, strict=True):
            zi -= 0.05 * gradient
            xi += (zi - xi) / t
    names = [name for name, _ in model.named_parameters()]
    wanted = losses(record, dict(zip(names, x, strict=True)))
    elsewhere = losses(record, {n: 0.3 * b + 0.7 * a for n, a, b in zip(names, x, z, strict=True)})
    for name, loss in wanted.items():
        assert record.metrics[name] == pytest.approx(loss, rel=1e-3)
        assert abs(elsewhere[name] - loss) > 0.01 * loss
    assert_scored_at(record, weights(one))  # the checkpoint is of the same point
    saved = torch.load(one / "checkpoints" / "last.ckpt", weights_only=False)
    assert saved["optimizer_states"][0]["param_groups"][0]["training"] is False


@pytest.mark.parametrize("steps", ["1", "auto"])
@pytest.mark.parametrize("extra", [[], ["trainer.enable_checkpointing=false"]], ids=str)
def test_when_an_optimizer_is_told(
    train: Train, tmp_path: Path, steps: str, extra: list[str]
) -> None:
    own = [
        "optimizer._target_=own.Modes",
        "optimizer.lr=0.1",
        f"trainer.steps_per_execution={steps}",
    ]
    train(*own, *extra, "trainer.val_check_interval=20", "trainer.max_epochs=1")
    calls = [(name, len(list(found))) for (name,), found in groupby(noted(tmp_path / "calls"))]
    assert calls == [("train", 1), ("step", 20), ("eval", 1)] * 2


# -- callbacks and loggers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("callback", "steps", "seen"),
    [
        ("own.Steps", "auto", list(range(1, 81))),
        ("{_target_: own.Steps, path: steps}", "20", [20, 40, 60, 80]),
    ],
)
def test_a_callback_sees_the_steps(
    train: Train, tmp_path: Path, callback: str, steps: str, seen: list[int]
) -> None:
    options = [f"trainer.callbacks=[{callback}]", f"trainer.steps_per_execution={steps}"]
    directory, record = train(*options, "trainer.loggers=[own.Notes]")
    assert [step for (step,) in noted(tmp_path / "steps")] == seen
    logged = [step for step, values in noted(tmp_path / "notes") if values == {"own": 0.5}]
    assert logged == [step - 1 for step in seen]  # Lightning counts from 0
    plain, without = train()
    assert record.metrics == without.metrics
    assert rows(directory) == rows(plain)


def test_only_a_callback_that_acts_on_steps_has_them_taken_one_by_one(
    train: Train, tmp_path: Path
) -> None:
    said = "one by one, for Steps"
    (first, _), (second, _) = (train(f"trainer.callbacks=[own.{c}]") for c in ("Steps", "Ends"))
    assert said in (first / "run.log").read_text()
    assert "one by one" not in (second / "run.log").read_text()
    assert noted(tmp_path / "ends") == [[80]]


def test_arguments_are_plain_and_may_be_made_themselves(train: Train, tmp_path: Path) -> None:
    arguments = "numbers: [1, 2], options: {a: 1}, other: {_target_: own.Ends}"
    train(f"trainer.callbacks=[{{_target_: own.Kinds, {arguments}}}]", "trainer.max_steps=1")
    assert noted(tmp_path / "kinds") == [["list", "dict", "Ends"]]


def test_lightnings_callbacks_do_what_they_do(train: Train) -> None:
    early = "{_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/accuracy"
    _, record = train(f"trainer.callbacks=[{early}, mode: max, min_delta: 2, patience: 1}}]")
    assert record.steps == 80
    _, record = train(
        f"trainer.callbacks=[{early}, mode: max, min_delta: 2, patience: 1}}]",
        "trainer.max_epochs=5",
    )
    assert record.steps == 80


@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization:UserWarning")
@pytest.mark.parametrize(
    ("when", "steps"), [("evaluations=5", [1, 6, 18]), ("val_check_interval=15", [15, 30, 55])]
)
def test_lightnings_callbacks_act_at_each_validation(
    train: Train, when: str, steps: list[int]
) -> None:
    early = "{_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/accuracy"
    best = "{_target_: pytorch_lightning.callbacks.ModelCheckpoint, monitor: val/accuracy"
    directory, record = train(
        f"trainer.callbacks=[{early}, mode: max, min_delta: 2, patience: 2}},"
        f"{best}, mode: max, save_top_k: -1, filename: '{{step}}'}}]",
        "trainer.enable_checkpointing=false",
        f"trainer.{when}",
    )
    assert record.steps == steps[-1]
    made = {path.name for path in (directory / "checkpoints").iterdir()}
    assert made == {f"step={step}.ckpt" for step in steps}


@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization:UserWarning")
@pytest.mark.parametrize("ours", ["true", "false"])
def test_checkpoints_of_a_persons_own(train: Train, ours: str) -> None:
    lightnings = "pytorch_lightning.callbacks.ModelCheckpoint"
    twice = f"[{lightnings},{{_target_: {lightnings}, every_n_train_steps: 30, save_top_k: -1}}]"
    directory, _ = train(f"trainer.callbacks={twice}", f"trainer.enable_checkpointing={ours}")
    names = {"epoch=1-step=80.ckpt", "epoch=0-step=30.ckpt", "epoch=1-step=60.ckpt"}
    assert {path.name for path in (directory / "checkpoints").iterdir()} == (
        names | ({"last.ckpt"} if ours == "true" else set())
    )


@pytest.mark.parametrize("shown", ["true", "false"])
def test_a_progress_bar_takes_the_place_of_ours(train: Train, shown: str) -> None:
    bar = "pytorch_lightning.callbacks.RichProgressBar"
    train(f"trainer.callbacks=[{bar}]", f"trainer.enable_progress_bar={shown}")


def test_a_logger_is_told_what_ours_are(train: Train, tmp_path: Path) -> None:
    directory, _ = train("trainer.loggers=[own.Notes]", "trainer.steps_per_execution=7")
    (_, lr), *told = noted(tmp_path / "notes")
    assert lr == 0.001
    with open(directory / "metrics.csv", newline="") as file:
        wanted = [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
    assert [{**values, "step": float(step)} for step, values in told] == wanted


def test_lightnings_loggers_write_below_the_run(train: Train, tmp_path: Path) -> None:
    csv_logger, tensorboard = (
        f"pytorch_lightning.loggers.{n}Logger" for n in ("CSV", "TensorBoard")
    )
    elsewhere = f"{{_target_: {csv_logger}, save_dir: elsewhere}}"
    directory, _ = train(f"trainer.loggers=[{csv_logger},{tensorboard},{elsewhere}]")
    for place in (directory, tmp_path / "elsewhere"):
        assert rows(place / "lightning_logs" / "version_0") == rows(directory)
    found = study.read(directory.parents[2])
    assert (len(found.runs), found.unfinished, found.problems) == (1, [], [])


def test_the_size_of_the_model(train: Train, shell: Shell) -> None:
    size = "118,282 parameters in 6 tensors"
    directory, _ = train()
    assert size in (directory / "run.log").read_text()
    _, plain = shell("study=plain", *SMALL)
    _, whole = shell("study=whole", *SMALL, "trainer.enable_model_summary=true")
    assert size in plain
    assert "Sequential" not in plain
    assert "model.1" in whole
    assert "Linear" in whole


# -- what they are called --------------------------------------------------------------------


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return validate(compose("config", list(overrides)))


@pytest.mark.parametrize(
    ("override", "decides"),
    [
        ("workload.label_smoothing=0.1", True),
        ("trainer.ema_decay=0.99", True),
        ("trainer.callbacks=[a.B]", True),
        ("trainer.loggers=[a.B]", False),
        ("trainer.enable_model_summary=true", False),
    ],
)
def test_what_makes_another_run(override: str, decides: bool) -> None:
    plain, changed = composed(), composed(override)
    assert (digest(changed) != digest(plain)) == decides
    assert (run_directory(changed, plain) != run_directory(plain, plain)) == decides


def test_a_path_alone_is_the_same_as_its_description() -> None:
    short, long = (
        composed("trainer.callbacks=[a.B]"),
        composed("trainer.callbacks=[{_target_: a.B}]"),
    )
    assert short == long
    described = composed("trainer.callbacks=[{_target_: a.B, c: [1, 2]}, d.E]")
    name = run_directory(described, composed()).name
    assert name == "lr=0.001,callbacks=a.B-c_1_2_-d.E,seed=0"


def test_an_older_record_says_the_same_without_the_keys(train: Train) -> None:
    directory, record = train()
    older = {key: value for key, value in leaves(record.config) if key not in ADDED}
    assert digest(older) == record.id == digest(record.config)
    other = directory.parent / "older"
    other.mkdir()
    content = json.loads((directory / "record.json").read_text())
    for key in ADDED:
        *groups, name = key.split(".")
        place = content["config"]
        for group in groups:
            place = place[group]
        place.pop(name, None)  # an MLP has no kernels
        content["hyperparameters"].pop(name, None)
    (other / "record.json").write_text(json.dumps(content | {"id": "0" * 16, "seed": 1}))
    found = study.read(directory.parents[2])
    assert found.settings == []
    assert list(found.runs["label_smoothing"]) == [0.0, 0.0]
