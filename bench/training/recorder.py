"""What one run reports while it trains, and the record it leaves.

A recorder knows nothing of Lightning's loops: the module tells it numbers, so that a run trained
alone and a run trained in a stack are recorded by the same code.
"""

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from bench.board import events
from bench.records import Record, Status, write
from bench.settings.identity import record_fields, shown_settings
from bench.settings.schema import as_yaml
from bench.training.rows import Rows
from bench.workloads.workload import Workload


class EventLogger(TensorBoardLogger):
    """One event file in the run's directory, without the ``hparams.yaml`` Lightning adds: the
    configuration is in ``.hydra`` already."""

    def save(self) -> None:
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        """Called after each of fit, validate and test; a closed writer would start another file."""
        self.experiment.flush()


class Recorder:
    """Logs one run to TensorBoard and ``metrics.csv``, and ends it with ``record.json``.

    Args:
        directory: the run's directory; it exists.
        config: the resolved configuration.
        workload: what it describes.
        overrides: what was said on the command line.
        search: how the run was chosen.
        others: loggers of a person's own, which are told the same.
    """

    def __init__(
        self,
        directory: Path,
        *,
        config: Mapping[str, Any],
        workload: Workload,
        overrides: Sequence[str] = (),
        search: Mapping[str, Any] | None = None,
        others: Sequence[Logger] = (),
    ) -> None:
        self.directory = directory
        self.identity = record_fields(config, overrides, search)
        self.csv = CSVLogger(str(directory), name="", version="")
        self.events = EventLogger(
            str(directory), name="", version="", default_hp_metric=False, max_queue=1000
        )
        self.status: Status = "completed"
        self.reason: str | None = None
        self.stopped: str | None = None
        self.metrics: dict[str, float] = {}
        self.rows = Rows()
        self.units, self.metric = workload.units, workload.metric
        self.selects = f"val/{self.metric.name}"
        self.best: dict[str, float | None] = {self.selects: None, "epoch": None}
        self.target: Any = {
            "metric": self.selects,
            "value": workload.target,
            "step": None,
            "seconds": None,
        }
        self.started = time.perf_counter()
        with warnings.catch_warnings():  # that the directory holds the configuration already
            warnings.filterwarnings("ignore", "Experiment logs directory", UserWarning)
            _ = self.csv.experiment
        lines = as_yaml(dict(config)).splitlines()
        indented = "\n".join(f"    {line}" for line in lines)  # Markdown's code block
        self.events.experiment.add_text("config", indented)
        self.others = list(others)
        for logger in self.others:
            logger.log_hyperparams(dict(config))

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self.started

    @property
    def loggers(self) -> list[Logger]:
        return [self.events, self.csv, *self.others]

    def trained(self, step: int, *, epoch: float, seconds: float, **values: float) -> None:
        """One row of training values (``loss``, ``lr``, norms) at a step.

        Args:
            step: optimizer steps taken so far.
            epoch: epochs done so far, with their fraction.
            seconds: training time so far.
        """
        named = {name if name == "lr" else f"train/{name}": value for name, value in values.items()}
        self._log(step, named, epoch=epoch, seconds=seconds)

    def validated(
        self, step: int, values: Mapping[str, float], *, epoch: float, seconds: float
    ) -> None:
        """The loss and the metrics, by name, over the validation split."""
        named = {f"val/{name}": value for name, value in values.items()}
        self._log(step, named, epoch=epoch, seconds=seconds)
        self.csv.save()
        self._follow(step, named[self.selects], epoch=epoch, seconds=seconds)

    def curved(
        self, step: int, values: Mapping[str, float], *, epoch: float, seconds: float
    ) -> None:
        """What was measured of the Hessian of the training loss, by name."""
        named = {f"curvature/{name}": value for name, value in values.items()}
        self._log(step, named, epoch=epoch, seconds=seconds)

    def _follow(self, step: int, value: float, *, epoch: float, seconds: float) -> None:
        sign, best, target = self.metric.sign, self.best[self.selects], self.target
        if best is None or sign * value > sign * best:
            self.best = {self.selects: value, "epoch": epoch}
        aimed = target["value"] is not None and target["step"] is None
        if aimed and sign * value >= sign * target["value"]:
            self.target |= {"step": step, "seconds": seconds}

    def replay(self, rows: Iterable[Mapping[str, float]], *, total_seconds: float) -> None:
        """Takes over the rows of a run so far, which took so many seconds, as if these were the
        last ones."""
        began = time.time() - total_seconds
        self.started -= total_seconds
        for row in rows:
            values = dict(row)
            step, epoch, seconds = int(values.pop("step")), values.pop("epoch"), row["seconds"]
            del values["seconds"]
            self._log(step, values, epoch=epoch, seconds=seconds, walltime=began + seconds)
            if self.selects in values:
                self._follow(step, values[self.selects], epoch=epoch, seconds=seconds)
        self.csv.save()

    def tested(
        self, step: int, values: Mapping[str, float], *, epoch: float, seconds: float
    ) -> None:
        """The same over the test split, once, at the end."""
        named = {f"test/{name}": value for name, value in values.items()}
        self._log(step, named, epoch=epoch, seconds=seconds)

    def remarked(
        self, step: int, values: Mapping[str, float], *, epoch: float, seconds: float
    ) -> None:
        """What else the workload says of the trained model, by whole names."""
        self._log(step, values, epoch=epoch, seconds=seconds)

    def diverged(self, step: int, reason: str) -> None:
        """The first step whose loss was not finite."""
        self.status, self.reason = "diverged", f"{reason} at step {step}"

    def paused(self, step: int, steps: int) -> None:
        """After so many of all steps; unless it has ended by itself."""
        if self.status == "completed":
            self.status, self.stopped = "pruned", f"pruned at step {step}"
            self.reason = f"stopped at step {step:,} of {steps:,}, to go on with better settings"

    def finish(
        self,
        *,
        steps: int,
        epochs: float,
        timing: Mapping[str, float | None],
        environment: Mapping[str, Any],
        stack: str | None = None,
    ) -> Record:
        """Writes what TensorBoard's HParams page reads, closes the loggers, writes the record."""
        ended = time.time()
        values = events.session(
            shown_settings(self.identity["config"]),
            status=self.status,
            seconds=(ended - self.seconds, ended),
        )
        values += events.outcome(self.best, self.target)
        self.events.experiment.file_writer.add_summary(events.together(values), steps)
        self.csv.save()
        self.events.experiment.close()
        record = Record(
            **self.identity,
            status=self.status,
            reason=self.reason,
            stopped=self.stopped,
            steps=steps,
            epochs=epochs,
            metrics=dict(self.metrics),
            metric=self.metric.description,
            units=self.units,
            best=self.best,
            target=self.target,
            timing={**timing, "total_seconds": self.seconds},
            stack=stack,
            environment=dict(environment),
        )
        write(record, self.directory)
        return record

    def _log(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        epoch: float,
        seconds: float,
        walltime: float | None = None,
    ) -> None:
        values = {name: float(value) for name, value in values.items()}
        self.rows.append({"step": step, **values, "epoch": epoch, "seconds": seconds})
        self.metrics |= {name: value for name, value in values.items() if name != "lr"}
        for name, value in values.items():
            tag = "train/lr" if name == "lr" else name  # HParams has an lr of its own
            self.events.experiment.add_scalar(tag, value, step, walltime)
        row = {**values, "epoch": epoch, "seconds": seconds}
        for logger in (self.csv, *self.others):
            logger.log_metrics(row, step)
