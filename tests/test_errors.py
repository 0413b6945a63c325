"""What a person gets wrong on the command line: one line that names it, and nothing is left."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Shell = Callable[..., tuple[int, str]]

LIGHTNING = "pytorch_lightning"

# What is typed, and what the message must say.
WRONG: list[tuple[str, list[str]]] = [
    # keys that do not exist
    ("sed=1", ["sed", "seed"]),
    ("optimiser=adam", ["optimiser"]),
    ("optimizer.learning_rate=0.1", ["optimizer.learning_rate", "lr"]),
    ("optimizer.beta_1=0.9", ["optimizer.beta_1", "did you mean beta1"]),
    ("optimizer=sgd optimizer.momentum=0.9", ["optimizer.momentum", "weight_decay"]),
    ("workload.batchsize=64", ["workload.batchsize", "did you mean batch_size"]),
    ("workload.model.hidden=[64]", ["workload.model.hidden", "hidden_sizes"]),
    ("workload=mnist_mlp workload.model.channels=[8]", ["workload.model.channels"]),
    ("schedule=cosine schedule.warmup=10", ["schedule.warmup", "did you mean warmup_steps"]),
    ("trainer.epochs=3", ["trainer.epochs", "max_epochs"]),
    ("+optimizer.foo=1", ["optimizer.foo", "no such key"]),
    # keys that stand elsewhere
    ("lr=0.1", ["lr: no such key; use optimizer.lr"]),
    ("-m lr=0.1,0.2", ["lr: no such key; use optimizer.lr"]),
    ("momentum=0.9", ["use optimizer.momentum, which optimizer=momentum, nesterov"]),
    ("momentun=0.9", ["did you mean optimizer.momentum?"]),
    ("batch_size=64", ["use workload.batch_size"]),
    ("max_epochs=3", ["use trainer.max_epochs"]),
    ("beta1=0.9", ["use optimizer.beta1"]),
    ("channels=[8]", ["use workload.model.channels, which workload.model.family=cnn, resnet have"]),
    ("warmup=10", ["did you mean schedule.warmup_steps?"]),
    ("optimizer.max_epochs=3", ["use trainer.max_epochs"]),
    ("trainer.seed=3", ["use seed"]),
    ("schedule=cosine optimizer.schedule=3", ["optimizer.schedule", "use schedule"]),
    ("schedule=cosine schedule.every=3", ["schedule=step has it"]),
    ("optimizer=sgd optimizer.momentum=0.9", ["nesterov, rmsprop, muon have it"]),
    ("experiments=quickstart", ["did you mean experiment?"]),
    ("-m experiment=quickstart foo=3", ["foo: no such key; the configuration has data_dir"]),
    # keys that Hydra would add, or take away
    ("+seeds=1", ["seeds", "did you mean seed"]),
    ("++workload.shuffle=true", ["workload.shuffle", "sampling"]),
    ("+workload.model.depth=3", ["workload.model.depth", "hidden_sizes"]),
    ("+schedule.every=3", ["schedule.every", "warmup_steps"]),
    ("+trainer.gradient_clip_val=1.0", ["trainer.gradient_clip_val", "optimizer.clip_norm"]),
    ("+logger=wandb", ["logger", "use trainer.loggers"]),
    ("-m seed=0,1 +trainer.fast_dev_run=true", ["trainer.fast_dev_run", "trainer.max_steps=1"]),
    ("~seed", ["seed", "needed"]),
    ("~trainer", ["trainer", "needed"]),
    ("~trainer.max_steps", ["trainer.max_steps", "cannot be taken out"]),
    ("-m hydra/sweeper=basic seed=0,1", ["hydra/sweeper=basic", "take grid"]),
    # classes by path
    ("workload=custom", ["workload._target_", "a value is needed", "my_module.MyClass"]),
    ("schedule=custom", ["schedule._target_", "a value is needed"]),
    ("workload._target_=nowhere.X", ["workload._target_=nowhere.X", "cannot be imported"]),
    ("workload._target_=torch.nn.Linear", ["workload._target_", "no subclass of"]),
    ("workload._target_=bench.workloads.ImageClassifier", ["workload.model.family", "is needed"]),
    ("workload.model.family=rnn", ["workload.model.family='rnn'", "mlp"]),
    ("workload.dataset=nowhere.x trainer.max_steps=1", ["workload.dataset=nowhere.x", "imported"]),
    (
        "workload._target_=bench.workloads.ImageClassifier workload.model._target_=nowhere.Net",
        ["workload.model._target_=nowhere.Net", "cannot be imported"],
    ),
    ("schedule._target_=math.floor", ["schedule._target_", "math.floor"]),
    ("schedule._target_=nowhere.f", ["schedule._target_=nowhere.f", "cannot be imported"]),
    # another thing where a section or a choice belongs
    ("optimizer=3", ["optimizer=3", "choose from", "adam"]),
    ("optimizer=null", ["optimizer=null", "choose from", "adam"]),
    ("trainer=null", ["trainer=null", "default"]),
    ("workload=null", ["workload=null", "mnist_mlp"]),
    ("schedule=1.5", ["schedule=1.5", "cosine"]),
    ("-m optimizer=adam,3", ["optimizer=3", "choose from"]),
    ("workload.model=3", ["workload.model=3", "hidden_sizes"]),
    ("workload.model=null", ["workload.model=None", "hidden_sizes"]),
    ("workload.model.family=cnn", ["workload.model.family", "cnn", "mlp"]),
    ("workload.name=../x", ["workload.name=../x"]),
    ("optimizer._target_=../x", ["optimizer.name=../x"]),
    ("seed=${nope}", ["seed", "nope"]),
    ("optimizer.lr=${optimizer.lr}", ["optimizer.lr", "ecursive"]),
    # more than there can be
    ("workload.model.hidden_sizes=[1000000000]", ["hidden_sizes=[1000000000]", "GiB"]),
    ("workload.model.hidden_sizes=[10000000000,10000000000]", ["hidden_sizes=[10000000000"]),
    ("workload=cifar10_cnn workload.model.channels=[8,8,8,8,8,8]", ["channels=[8, 8", "3x32x32"]),
    ("trainer.threads=9999999999", ["trainer.threads=9999999999", "1024"]),
    ("trainer.devices=1000 trainer.accelerator=cpu", ["trainer.devices=1000", "processors"]),
    ("trainer.max_epochs=1000000000", ["trainer.max_epochs=1000000000", "100,000,000"]),
    # places that are ours
    ("hydra.run.dir=/proc/x", ["hydra.run.dir=/proc/x", "runs_dir"]),
    ("-m seed=0,1 hydra.sweep.dir=/proc/x", ["hydra.sweep.dir=/proc/x", "runs_dir"]),
    ("hydra.output_subdir=x", ["hydra.output_subdir=x", "runs_dir"]),
    # choices that do not exist
    ("workload=mnist_mpl", ["workload=mnist_mpl", "mnist_mlp"]),
    ("optimizer=sdg", ["optimizer=sdg", "did you mean sgd"]),
    ("schedule=cosin", ["schedule=cosin", "did you mean cosine"]),
    ("experiment=nothing", ["experiment=nothing", "quickstart"]),
    ("hydra/launcher=none", ["hydra/launcher=none", "parallel"]),
    ("optimizer=Adam", ["did you mean adam?"]),
    ("optimizer=cosine", ["did you mean schedule=cosine?"]),
    ("workload=mnist", ["did you mean mnist_mlp?"]),
    ("experiment=quikstart", ["did you mean quickstart?"]),
    ("-m optimizer=adam,sdg", ["optimizer=sdg", "did you mean sgd?"]),
    # wrong types
    ("seed=abc", ["seed", "abc"]),
    ("seed=1.5", ["seed", "1.5"]),
    ("optimizer.lr=fast", ["optimizer.lr", "fast"]),
    ("workload.l2=[1]", ["workload.l2"]),
    ("workload.model.hidden_sizes=128", ["workload.model.hidden_sizes", "list"]),
    ("workload.model.hidden_sizes=[a]", ["workload.model.hidden_sizes", "a"]),
    ("trainer.max_epochs=many", ["trainer.max_epochs", "many"]),
    ("diagnostics=perhaps", ["diagnostics", "perhaps"]),
    ("optimizer.bias_correction=3.5", ["optimizer.bias_correction", "3.5"]),
    # out of range
    ("seed=-1", ["seed=-1", "[0"]),
    ("optimizer.lr=-0.1", ["optimizer.lr=-0.1", "[0, inf)"]),
    ("optimizer.lr=nan", ["optimizer.lr=nan", "[0, inf)"]),
    ("optimizer.beta1=1", ["optimizer.beta1=1", "[0, 1)"]),
    ("optimizer=momentum optimizer.form=polyak", ["optimizer.form", "polyak", "heavy_ball"]),
    ("workload.batch_size=0", ["workload.batch_size=0", "full"]),
    ("workload.batch_size=all", ["workload.batch_size=all", "full"]),
    ("workload.batch_size=1000000", ["workload.batch_size=1000000", "55000"]),
    ("workload.val_size=60000", ["workload.val_size=60000", "60000"]),
    ("workload.feature_scaling=minmax", ["workload.feature_scaling", "minmax", "channel"]),
    ("workload.sampling=random", ["workload.sampling", "random", "replacement"]),
    ("workload.model.init=orthogonal", ["workload.model.init", "orthogonal", "kaiming"]),
    ("workload.model.dropout=1", ["workload.model.dropout=1", "[0, 1)"]),
    ("workload.model.hidden_sizes=[0]", ["workload.model.hidden_sizes=0"]),
    ("trainer.max_steps=0", ["trainer.max_steps=0"]),
    ("trainer.accumulate_grad_batches=0", ["trainer.accumulate_grad_batches=0", "[1, inf)"]),
    (
        "trainer.accumulate_grad_batches=2 workload.batch_size=full",
        ["trainer.accumulate_grad_batches=2", "workload.batch_size"],
    ),
    ("trainer.resume=maybe", ["trainer.resume", "maybe"]),
    ("trainer.patience=0", ["trainer.patience=0", "[1, inf)"]),
    ("trainer.patience=2 workload.val_size=0", ["trainer.patience=2", "workload.val_size"]),
    ("trainer.cuda_graph=maybe", ["trainer.cuda_graph", "maybe", "never"]),
    ("trainer.val_check_interval=1000", ["trainer.val_check_interval=1000", "430"]),
    ("trainer.ema_decay=1", ["trainer.ema_decay=1", "[0, 1)"]),
    ("trainer.ema_decay=0.9 trainer.precision=bf16-true", ["trainer.ema_decay=0.9", "bf16-mixed"]),
    ("workload.label_smoothing=1", ["workload.label_smoothing=1", "[0, 1)"]),
    ("trainer.callbacks=[3]", ["trainer.callbacks", "3", "_target_"]),
    ("trainer.callbacks=[null]", ["trainer.callbacks", "None", "_target_"]),
    ("trainer.callbacks=[{monitor:x}]", ["trainer.callbacks", "monitor", "_target_"]),
    ("trainer.callbacks=a.B", ["trainer.callbacks", "list"]),
    ("trainer.callbacks=null", ["trainer.callbacks"]),
    ("trainer.callbacks={early:{_target_:a.B}}", ["trainer.callbacks: ", "ListConfig"]),
    ("trainer.loggers=[[a.B]]", ["trainer.loggers", "a.B", "_target_"]),
    ("trainer.precision=8", ["trainer.precision", "8", "bf16-mixed"]),
    ("schedule=step schedule.every=0", ["schedule.every=0", "[1, inf)"]),
    ("study=a/b", ["study=a/b"]),
    ("study=..", ["study=.."]),
    ("optimizer.lr=1e-3,1e-2", ["optimizer.lr=1e-3,1e-2", "several values", "add -m"]),
    ("optimizer=adam,sgd", ["optimizer=adam,sgd", "add -m"]),
    # not understood at all
    ("adam", ["adam", "key=value", "did you mean optimizer=adam?"]),
    ("quickstart", ["quickstart", "did you mean experiment=quickstart?"]),
    ("study=it's", ["study=it's", "key=value", "quotes"]),
    ("optimizer.lr=[1,2", ["optimizer.lr=[1,2", "key=value"]),
    ("--config-name=other", ["other"]),
    # what is not there
    ("trainer.accelerator=quantum", ["trainer.accelerator=quantum"]),
    ("optimizer._target_=torch.optim.Nothing", ["torch.optim.Nothing"]),
    ("optimizer._target_=no.such.module", ["no.such.module"]),
    ("optimizer._target_=collections.OrderedDict", ["collections.OrderedDict"]),
    ("trainer.callbacks=[no.such]", ["trainer.callbacks", "no.such"]),
    ("trainer.callbacks=[os.path]", ["trainer.callbacks", "os.path"]),
    ("trainer.callbacks=[datetime.datetime.now]", ["trainer.callbacks", "datetime", "Callback"]),
    (f"trainer.callbacks=[{LIGHTNING}.callbacks.EarlyStopping]", ["EarlyStopping", "monitor"]),
    (
        f"trainer.callbacks=[{LIGHTNING}.callbacks.ModelCheckpoint,"
        f"{LIGHTNING}.callbacks.ModelCheckpoint]",
        ["error: trainer.callbacks: ", "ModelCheckpoint"],
    ),
    (
        f"trainer.callbacks=[{LIGHTNING}.callbacks.TQDMProgressBar,"
        f"{LIGHTNING}.callbacks.RichProgressBar]",
        ["error: trainer.callbacks: ", "progress bar"],
    ),
    (f"trainer.callbacks=[{LIGHTNING}.loggers.CSVLogger]", ["CSVLogger", "save_dir"]),
    (f"trainer.loggers=[{LIGHTNING}.callbacks.Timer]", ["trainer.loggers", "Timer", "Logger"]),
    (f"trainer.loggers=[{LIGHTNING}.loggers.Nothing]", ["trainer.loggers", "Nothing"]),
    # sweeps, checked whole before anything starts
    ("-m optimizer.lr=1e-3,-1", ["optimizer.lr=-1"]),
    ("-m seed=0,-1", ["seed=-1", "[0"]),
    ("-m seed=0,1 optimizer.lr=0.1,fast", ["optimizer.lr", "fast"]),
    ("-m optimizer=adam,sgd optimizer.momentum=0.9", ["optimizer.momentum", "weight_decay"]),
    ("-m optimizer=adam,sgdd", ["optimizer=sgdd"]),
    ("-m optimizer.lr=interval(0,1)", ["optimizer.lr", "interval"]),
    ("-m optimizer.lr=1e-3,0.001", ["lr=0.001", "same configuration"]),
    ("-m seed=0,1 trainer.callbacks=[3]", ["trainer.callbacks", "3"]),
    ("-m seed=0,1 trainer.callbacks=[no.such]", ["trainer.callbacks", "no.such"]),
    (f"-m seed=0,1 trainer.loggers=[{LIGHTNING}.callbacks.Timer]", ["trainer.loggers", "Timer"]),
    ("-m seed=0,1 workload.batch_sise=3", ["workload.batch_sise"]),
    ("-m seed=range(3,0)", ["seed=range(3,0)", "nothing to run"]),
    ("-m optimizer=glob(zz*)", ["optimizer=glob(zz*)", "nothing to run"]),
    ("-m seed=range(0,1e9)", ["seed=range(0,1e9)", "100,000"]),
    ("-m seed=shuffle(range(0,1000000000))", ["100,000"]),
    ("-m seed=range(0,1,0)", ["seed=range(0,1,0)"]),
    ("-m seed=range(0,1000) workload.split_seed=range(0,1000)", ["100,000"]),
    ("-m experiment=quickstart,schedules", ["experiment=quickstart", "a sweep of its own"]),
    ("-m optimizer=adam,sgd optimizer._target_=a.B", ["optimizer._target_=a.B", "custom"]),
    ("-m seed=0,1 hydra.launcher.n_jobs=-1", ["hydra.launcher.n_jobs=-1", "[1, 1024]"]),
    ("-m seed=0,1 hydra.launcher.threads=-1", ["hydra.launcher.threads=-1", "[1, 1024]"]),
    ("-m seed=0,1 hydra.launcher.max_stack=-1", ["hydra.launcher.max_stack=-1", "[1, inf)"]),
    ("-m seed=0,1 hydra.launcher.strategy=zz", ["hydra.launcher.strategy", "zz", "stacked"]),
    ("-m seed=0,1 hydra.launcher=2", ["hydra.launcher=2"]),
]


@pytest.mark.parametrize(("typed", "said"), WRONG, ids=[typed for typed, _ in WRONG])
def test_wrong_invocation(shell: Shell, tmp_path: Path, typed: str, said: list[str]) -> None:
    status, output = shell(*typed.split(" "))
    assert status != 0
    assert "Traceback" not in output
    *before, error = output.strip().splitlines()
    assert len(before) <= 2, output  # what was to be made, and where
    for part in said:
        assert part in error
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_of_any_optimizer(shell: Shell, tmp_path: Path, fake_data: None) -> None:
    status, output = shell("optimizer._target_=torch.optim.NAdam", "optimizer.nonsense=1")
    assert status != 0
    assert "torch.optim.NAdam" in output
    assert "nonsense" in output
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [[], ["-m", "seed=0,1"]])
def test_runs_dir_below_a_file(
    shell: Shell, tmp_path: Path, fake_data: None, mode: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    status, output = shell(*mode, "runs_dir=file/runs")
    assert status != 0
    assert "file" in output
    assert "runs_dir" in output
    assert "Traceback" not in output
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_unwritable_runs_dir(shell: Shell, tmp_path: Path, fake_data: None) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    status, output = shell("runs_dir=locked/runs")
    assert status != 0
    assert "locked" in output


def test_data_dir_is_a_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    status, output = shell("data_dir=data")
    assert status != 0
    assert "data" in output
    assert "Traceback" not in output
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
