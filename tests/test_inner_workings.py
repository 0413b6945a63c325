"""What we lean on inside Lightning and Hydra is still there, and does the same."""

import signal

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pytorch_lightning.demos.boring_classes import BoringModel, RandomDataset

from bench.command_line import CONF
from bench.settings import hydra
from bench.sweeps.composition import parse
from bench.training import lightning


def test_global_step_is_what_was_counted() -> None:
    trainer = lightning.pl.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    module = lightning.pl.LightningModule()
    module.automatic_optimization = False
    trainer.strategy.connect(module)
    assert trainer.global_step == 0
    lightning.count_steps(trainer, 50)
    lightning.count_steps(trainer, 1)
    assert trainer.global_step == 51
    lightning.go_on(trainer, epochs=3, steps=70)
    assert (trainer.global_step, trainer.current_epoch) == (70, 3)


def test_what_loggers_go_by_and_when_validation_comes() -> None:
    trainer = lightning.pl.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 0
    lightning.name_step(trainer, 50)
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 49
    lightning.validate_after_this(trainer, True)
    assert trainer.val_check_batch == 1
    lightning.validate_after_this(trainer, False)
    assert trainer.val_check_batch > 10**9


def test_signals_are_left_to_whoever_has_the_process() -> None:
    def handlers(leave: bool) -> set[object]:
        """Of SIGTERM while something trains."""
        seen = set()

        class Module(BoringModel):
            def on_train_start(self) -> None:
                seen.add(signal.getsignal(signal.SIGTERM))

        trainer = lightning.pl.Trainer(
            logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, max_steps=1, limit_val_batches=0, accelerator="cpu",
        )  # fmt: skip
        if leave:
            lightning.leave_signals(trainer)
        trainer.fit(Module(), torch.utils.data.DataLoader(RandomDataset(32, 2)))
        return seen

    before = signal.getsignal(signal.SIGTERM)
    assert handlers(leave=True) == {before}
    assert handlers(leave=False) != {before}
    assert signal.getsignal(signal.SIGTERM) == before


def test_callbacks_ask_whether_validation_ends_an_epoch() -> None:
    early = lightning.pl.callbacks.EarlyStopping("loss", check_on_train_epoch_end=None)
    trainer = lightning.pl.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[early]
    )
    module = lightning.pl.LightningModule()
    early.setup(trainer, module, "fit")
    assert early._check_on_train_epoch_end
    early._check_on_train_epoch_end = None
    lightning.validate_within_epochs(trainer)
    early.setup(trainer, module, "fit")
    assert not early._check_on_train_epoch_end


def test_hydra_parses_finds_and_sets() -> None:
    said = hydra.flags().parse_args(["-m", "a=1"])
    assert (said.multirun, said.overrides) == (True, ["a=1"])
    assert hydra.source("file", str(CONF)).is_config("config.yaml")
    with pytest.raises(ValueError, match="nowhere"):
        hydra.source("nowhere", "x")
    config = OmegaConf.create({"a": {"b": 1}})
    hydra.set_values(parse("a.b=2"), config)
    assert config.a.b == 2
    name = hydra.directory_name(parse("a.b=2"), kv_sep="=", item_sep=",", exclude_keys=[])
    assert name == "a.b=2"


def test_a_workloads_file_has_every_key_of_its_class() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        workload = compose("config", ["workload=mnist_mlp", "workload.l2=1"]).workload
        assert (workload.sampling, workload.l2, workload.model.dropout) == ("shuffle", 1.0, 0.0)
