"""One run from its configuration: build everything, train, evaluate, leave a record."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    Checkpoint,
    ModelCheckpoint,
    ProgressBar,
    RichModelSummary,
)
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor

from bench import continuation, interruption, provenance
from bench.errors import BenchError
from bench.interruption import Interrupted
from bench.kernels.fusion import fuse
from bench.records import Record
from bench.settings.identity import digest
from bench.settings.paths import found
from bench.settings.schema import multipliers
from bench.settings.workloads import workload_of
from bench.training import extensions
from bench.training.environment import environment
from bench.training.lightning import (
    StepProgressBar,
    end_others,
    known_checkpoints,
    leave_signals,
    processes_of_a_run,
    validate_within_epochs,
)
from bench.training.memory import is_light, keep_freed_memory, refuse_what_cannot_fit
from bench.training.module import Member, TrainingModule
from bench.training.plan import Plan
from bench.training.recorder import Recorder
from bench.training.reports import Report
from bench.training.resumption import Checkpoints, Paused, Saved, copy, is_of
from bench.training.solo import SoloModule
from bench.training.stack import StackModule
from bench.workloads.models import check_contract, drawn, loaded
from bench.workloads.workload import Place
from optimizers.rule import Matrixwise

TRAINER_KEYS = (
    "max_epochs", "max_steps", "accelerator", "devices", "strategy", "precision",
    "check_val_every_n_epoch", "deterministic", "enable_progress_bar",
)  # fmt: skip
log = logging.getLogger(__name__)

TRUE_DTYPES = {"64-true": torch.float64, "bf16-true": torch.bfloat16}
PLACEMENT_KEYS = ("accelerator", "devices", "strategy", "precision")
REDRAWS = 4  # of the progress bar in a second; each costs as much as five small steps


class Run:
    """One run, or a stack of several, ready to train: every part built, nothing written yet.

    Args:
        configs: the resolved configuration of each run, as plain containers. Those of a stack
            differ only in what `bench.sweeps.stacking` allows.
        directories: where each run is to leave its files; need not exist yet.
        tell: is told how far training is, as `Report` says.
        overrides: what was said on the command line for each run.
        searches: how each was chosen.
        made: which runs of a stack have their records already. They train along, and nothing of
            theirs is written.
        dropped: which of these a sweep has stopped: the stack goes on without them.
        stack: where a stack is saved; None for nowhere.
        until: the step after which they pause, once they are validated; None for nowhere.

    Attributes:
        saved: what there is to go on from, until it trains.
        start: the same for people, where there is something to say.
        goes_on: whether that is of these very runs, which were ended early.

    Raises:
        BenchError: a part cannot be built from what a configuration says.
    """

    def __init__(
        self,
        configs: Sequence[Mapping[str, Any]],
        directories: Sequence[Path],
        tell: Callable[[int, int], None] | None = None,
        *,
        overrides: Sequence[Sequence[str]] | None = None,
        searches: Sequence[Mapping[str, Any] | None] | None = None,
        made: Sequence[bool] | None = None,
        dropped: Sequence[bool] | None = None,
        stack: continuation.StackFiles | None = None,
        until: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.configs = configs
        self.threads = threads
        self.spare_core = False
        self.made = [False] * len(configs) if made is None else list(made)
        self.dropped = [False] * len(configs) if dropped is None else list(dropped)
        self.until = until
        self.runs = [digest(config) for config in configs]
        nothing_said: list[Sequence[str]] = [()] * len(configs)
        self.origins = list(
            zip(overrides or nothing_said, searches or [None] * len(configs), strict=True)
        )
        self.directories = directories
        config = configs[0]
        options = config["trainer"]
        self.workload = workload_of(config)
        if options["keep_freed_memory"]:
            keep_freed_memory()
        pl.seed_everything(config["seed"], verbose=False)
        # Deterministic algorithms would first fill all new memory with NaN, a tenth of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.make_optimizer = optimizer_factory(config["optimizer"])
        callbacks = extensions.callbacks(options)
        self.loggers = extensions.loggers(options, directories[0])
        self.trainer = make_trainer(
            options,
            directories[0],
            callbacks,
            validates=self.workload.validates,
            alone=len(configs) == 1,
        )
        if tell is not None:
            self.trainer.callbacks.append(Report(tell))  # type: ignore[attr-defined]
        refuse_what_cannot_fit(config, self.trainer.strategy.root_device.type)
        dtype = TRUE_DTYPES.get(options["precision"], torch.float32)
        loaded(self.workload, Place(self.trainer.strategy.root_device, dtype))
        self.plan = Plan.of(
            config,
            self.workload,
            seeds=[own["seed"] for own in configs],
            processes=self.trainer.world_size,
            acting_on_steps=extensions.acting_on_steps(callbacks),
        )
        self.models = [drawn(workload_of(own), own["seed"]) for own in configs]
        check_contract(self.workload, self.models[0], config["seed"])
        self.make_optimizer(self.models[0].named_parameters())  # what it refuses is said here
        self.stack = stack if len(configs) > 1 else None
        self.saved: Saved | None = None
        self.start = self._find_own_start()
        self.goes_on = self.saved is not None
        if options["resume"] and not self.goes_on:
            self.start = self._find_start()

    @property
    def _checkpoint(self) -> Path | None:
        """Where this training is saved."""
        if not self.configs[0]["trainer"]["enable_checkpointing"]:
            return None
        if len(self.configs) > 1:
            return None if self.stack is None else self.stack.checkpoint
        return self.directories[0] / continuation.CHECKPOINT

    def _find_own_start(self) -> continuation.Start | None:
        path = self._checkpoint
        if path is None or not path.is_file() or all(map(continuation.is_made, self.directories)):
            return None
        try:
            saved = Saved.read(path)
        except BenchError as error:
            return continuation.Start(None, f"starts from the beginning: {error}")
        reason = self._refusal(saved.state)
        if reason is not None:
            line = f"starts from the beginning: {path} cannot be continued: {reason}"
            return continuation.Start(None, line)
        self.saved = saved
        line = f"goes on from step {saved.state['steps']}, where it was interrupted"
        return continuation.Start(path.parent, line, saved.state["environment"]["threads"])

    def _refusal(self, state: Mapping[str, Any]) -> str | None:
        """Why a checkpoint is not what these runs would come by again."""
        try:
            if not is_of(self.runs, state):
                return "it is of another run"
            if any(then and not now for then, now in zip(state["made"], self.made, strict=True)):
                return "a run of it had a record then, and has none now"
            return continuation.changes(self._environment(), state["environment"])
        except (AttributeError, LookupError, TypeError, ValueError):
            return "it is not of this version"

    def _find_start(self) -> continuation.Start:
        if len(self.configs) > 1:
            return continuation.Start(None, "starts from the beginning: it trains in a stack")
        start = continuation.find(self.configs[0], self.directories[0], self._environment())
        if start.directory is not None:
            try:
                self.saved = Saved.read(start.directory / continuation.CHECKPOINT)
            except BenchError as error:
                return continuation.Start(None, f"starts from the beginning: {error}")
        return start

    def _recorder(
        self,
        config: Mapping[str, Any],
        directory: Path,
        overrides: Sequence[str],
        search: Mapping[str, Any] | None,
    ) -> Recorder:
        return Recorder(
            directory,
            config=config,
            workload=workload_of(config),
            overrides=overrides,
            search=search,
            others=self.loggers,
        )

    def _environment(self) -> dict[str, Any]:
        about = environment(self.trainer.strategy.root_device)
        return about | provenance.inputs(self.configs[0])

    @property
    def size(self) -> str:
        """Of one model, in words."""
        parameters = [p.numel() for p in self.models[0].parameters()]
        return f"model: {sum(parameters):,} parameters in {len(parameters)} tensors"

    @property
    def is_first_process(self) -> bool:
        """Whether this process is the one, of possibly several, that writes."""
        return self.trainer.is_global_zero

    def train(self) -> list[Record]:
        """Trains in the directories, which exist by now, and leaves a record in each.

        Returns:
            The records of those that were to be made; none in a process that is not the first of
            several.

        Raises:
            Interrupted: a signal asked for it; what was done is saved.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(self._threads() or threads)
        self.spare_core = torch.get_num_threads() == 1 < threads
        try:
            alone = self.trainer.world_size == 1
            with interruption.noting() if alone else interruption.raising():
                return self._train()
        except Interrupted:
            end_others(self.trainer)
            raise
        finally:  # other runs of this process have numbers of their own
            torch.set_num_threads(threads)

    def _threads(self) -> int | None:
        """As many as were asked for or began it; else one for what is light, and else None, for as
        many as there are. So the results of what is light do not depend on the machine's cores,
        nor its speed on what else they do: threads that share a step of a millisecond wait for
        the last of them at each operator."""
        said = self.configs[0]["trainer"]["threads"] or (self.start and self.start.threads)
        light = self.trainer.strategy.root_device.type == "cpu" and is_light(self.configs)
        return said or self.threads or (1 if light else None)

    def _train(self) -> list[Record]:
        log.info(self.size)
        if self.plan.reason is not None:
            log.info(self.plan.reason)
        trainer = self.trainer
        about = self._environment()
        members = [
            Member(
                config,
                self._recorder(config, directory, *origin)
                if self.is_first_process and not made
                else None,
                multipliers(config["schedule"], self.plan.total_steps),
            )
            for config, directory, origin, made in zip(
                self.configs, self.directories, self.origins, self.made, strict=True
            )
        ]
        if len(members) == 1:
            module: TrainingModule = SoloModule(
                members[0], self.workload, self.plan, fuse(self.models[0]), self.make_optimizer
            )
            recorder = members[0].recorder
            trainer.loggers = self.loggers if recorder is None else recorder.loggers
        else:
            module = StackModule(members, self.workload, self.plan, self.models)
        module.runs, module.made, module.environment = self.runs, self.made, about
        module.spare_core = self.spare_core
        for member, dropped in zip(members, self.dropped, strict=True):
            member.dropped = dropped  # only now: a stack begins with all, as its checkpoint did
        if trainer.world_size == 1:
            seconds = self.configs[0]["trainer"]["checkpoint_seconds"]
            module.checkpoints = Checkpoints(self._checkpoint, seconds, self.until)
            if self.stack is not None:
                describe = partial(self.stack.describe, environment=about)
                module.checkpoints.tell = describe
        path = None
        if self.saved is not None:
            self.saved.replay(module)
            if isinstance(module, StackModule):
                module.start = self.saved.content
            else:
                path = self.saved.path
            self.saved = None  # and with it the file, which is replaced as training goes on
        paused = False
        try:
            with known_checkpoints() if self.goes_on else nullcontext():
                trainer.fit(module, ckpt_path=path, weights_only=True)
        except Paused:
            paused = True
            for member in members:
                if member.recorder is not None:
                    member.recorder.paused(module.steps_done, self.plan.total_steps)
        else:
            self._end(module, members, path)
        records = [
            member.recorder.finish(
                steps=member.steps,
                epochs=member.steps / self.plan.steps_per_epoch,
                timing=module.timing(member, runs_together=len(members)),
                environment=about,
                stack=None if self.stack is None else self.stack.name,
            )
            for member in members
            if member.recorder is not None
        ]
        if self.stack is not None and not paused:
            self.stack.finish()
        return records

    def _end(self, module: TrainingModule, members: Sequence[Member], path: Path | None) -> None:
        """Tests what was trained to its end, and leaves its files.

        Args:
            path: of the checkpoint that it went on from.
        """
        trainer = self.trainer
        if path is not None and self._checkpoint is not None and self.is_first_process:
            copy(path, self.directories[0])
        if not all(member.diverged or member.dropped for member in members):
            if self.workload.validates and module.validated_at != module.steps_done:
                trainer.validate(module, verbose=False)  # max_steps ended within an epoch
            trainer.test(module, verbose=False)
            module.remark()
        if isinstance(module, StackModule) and self.configs[0]["trainer"]["enable_checkpointing"]:
            module.save_weights()
        for member in members:
            if member.way is not None and member.recorder is not None:
                member.way.write(member.recorder.directory)


def optimizer_factory(options: Mapping[str, Any]) -> Callable[[Any], torch.optim.Optimizer]:
    """From named parameters to the optimizer that ``options`` describe: ``_target_`` is its class,
    what remains beside ``name`` its arguments.

    Raises:
        BenchError: there is no such class; from the factory, that it refuses its arguments.
    """
    arguments = {key: value for key, value in options.items() if key not in ("name", "_target_")}
    target = options["_target_"]
    kind = found("optimizer._target_", target, "torch.optim.NAdam")
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise BenchError(f"optimizer._target_={target}: is not a torch.optim.Optimizer")

    by_name = issubclass(getattr(kind, "rule", object), Matrixwise)

    def make(named: Iterable[tuple[str, Tensor]]) -> torch.optim.Optimizer:
        try:
            return kind(named if by_name else [p for _, p in named], **arguments)
        except (TypeError, ValueError) as error:
            raise BenchError(f"optimizer={options['name']}: {error}") from error

    return make


class LastCheckpoint(ModelCheckpoint):
    """The state after the last epoch, where several processes share a run. Lightning tells
    callbacks apart by class and settings, and a person's own may have the same settings."""


def make_trainer(
    options: Mapping[str, Any],
    directory: Path,
    others: Sequence[Callback] = (),
    *,
    validates: bool,
    alone: bool,
) -> pl.Trainer:
    """Lightning's Trainer for the ``trainer`` section of the configuration.

    Args:
        others: callbacks of a person's own. A progress bar among them takes the place of ours.

    Raises:
        BenchError: what it asks for is not there, such as a GPU.
    """
    chosen = {key: options[key] for key in TRAINER_KEYS}
    shown = options["enable_progress_bar"]
    callbacks = [other for other in others if shown or not isinstance(other, ProgressBar)]
    if shown and not any(isinstance(other, ProgressBar) for other in others):
        callbacks.append(StepProgressBar(refresh_rate=REDRAWS))
    if options["enable_model_summary"] and alone:
        callbacks.append(RichModelSummary(max_depth=-1))
    try:
        trainer = pl.Trainer(
            **{key: value for key, value in chosen.items() if value is not None},
            callbacks=callbacks,
            logger=False,
            log_every_n_steps=1,  # ours counts optimizer steps, Lightning's counts its own
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            enable_model_summary=False,
            default_root_dir=directory,
            plugins=[processes_of_a_run(options)],
            num_sanity_val_steps=0,
            limit_val_batches=None if validates else 0,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        placement = ", ".join(f"trainer.{key}={options[key]}" for key in PLACEMENT_KEYS)
        given = "trainer.callbacks" if "callback" in said else placement
        raise BenchError(f"{given}: {said}") from error
    leave_signals(trainer)
    if options["enable_checkpointing"] and trainer.world_size > 1:
        last = LastCheckpoint(
            directory / "checkpoints",
            filename="last",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
        trainer.callbacks.append(last)  # type: ignore[attr-defined]
    if options["evaluations"] is not None or options["val_check_interval"] is not None:
        validate_within_epochs(trainer)
    cores = os.cpu_count() or 1
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cores:
        raise BenchError(f"trainer.devices={options['devices']}: there are {cores} processors")
    return trainer
