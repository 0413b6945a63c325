"""Hydra's plugins of this project: how a sweep is spread out, and how it is carried out.

Hydra imports this file at every start, so it imports nothing heavy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Every combination of the values given, in the order of the command line.

    Unlike Hydra's basic sweeper it writes nothing itself and hands all jobs to the launcher at
    once, which composes each a single time.
    """

    def __init__(self, params: Optional[dict[str, Any]] = None) -> None:  # noqa: UP045
        self.params = params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra.core.plugins import Plugins

        self.config_loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        parser = OverridesParser.create(config_loader=self.config_loader)
        given = [f"{key}={value}" for key, value in self.params.items()] + arguments
        choices: dict[str, list[str]] = {}  # what is said later replaces what was said before
        for override in parser.parse_overrides(given):
            key = override.get_key_element()
            if not override.is_sweep_override():
                choices[key] = [f"{key}={override.get_value_element_as_str()}"]
            elif override.is_discrete_sweep():
                choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                raise HydraException(
                    f"{key}: an interval cannot be swept as a grid; give values, such as "
                    f"{key}=1e-3,1e-2"
                )
        jobs = [list(combination) for combination in product(*choices.values())]
        assert self.launcher is not None
        return self.launcher.launch(jobs, initial_job_idx=0)


class MachineLauncher(Launcher):
    """Runs the jobs of a sweep in processes of this machine: each alone (``parallel``), those that
    differ only in numbers as stacks (``stacked``), or as was measured to be faster (``auto``)."""

    def __init__(
        self,
        strategy: str,
        n_jobs: Optional[int],  # noqa: UP045
        threads: Optional[int],  # noqa: UP045
        max_stack: Optional[int],  # noqa: UP045
    ) -> None:
        self.options = {
            "strategy": strategy,
            "workers": n_jobs,
            "threads": threads,
            "max_stack": max_stack,
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config_loader = hydra_context.config_loader
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from bench import sweep
        from bench.jobs import plan, split

        composed = (
            self.config_loader.load_sweep_config(self.config, list(overrides))
            for overrides in job_overrides
        )
        jobs = [plan(*split(config)) for config in composed]
        records = sweep.run(jobs, **self.options)  # type: ignore[arg-type]
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=record)
            for overrides, record in zip(job_overrides, records, strict=True)
        ]


@dataclass
class GridSweeperConfig:
    _target_: str = "hydra_plugins.bench_plugins.GridSweeper"
    params: Optional[dict[str, Any]] = None  # noqa: UP045


@dataclass
class MachineLauncherConfig:
    """`n_jobs` processes (null: as many as the cores allow) of `threads` threads each, stacks of at
    most `max_stack` runs (null: as many as memory holds)."""

    strategy: str
    _target_: str = "hydra_plugins.bench_plugins.MachineLauncher"
    n_jobs: Optional[int] = None  # noqa: UP045
    threads: Optional[int] = None  # noqa: UP045
    max_stack: Optional[int] = None  # noqa: UP045


store = ConfigStore.instance().store
store(group="hydra/sweeper", name="grid", node=GridSweeperConfig, provider="optimizer-bench")
for name in ("parallel", "stacked", "auto"):
    node = MachineLauncherConfig(strategy=name)
    store(group="hydra/launcher", name=name, node=node, provider="optimizer-bench")
