"""Hydra's launchers of this project: how a sweep is carried out.

Hydra imports this file at every start, so it imports nothing heavy.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Optional

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig

from bench.settings.schema import accepts, checked

if TYPE_CHECKING:
    from bench.sweeps.executors import Executor
    from bench.sweeps.sweep import Sweep

STRATEGIES = ("parallel", "stacked", "auto")


class SweepLauncher(Launcher):
    """Has the jobs of a sweep made by one of our executors: each alone (``parallel``), those that
    differ only in numbers as stacks (``stacked``), or as was measured to be faster (``auto``).

    Attributes:
        searches: how each of the jobs that come next was chosen, if the sweeper says.
        kind: what makes them a sweep, if the sweeper says.
    """

    searches: Sequence[Mapping[str, Any]] = ()

    def __init__(self, strategy: str, max_stack: Optional[int]) -> None:  # noqa: UP045
        self.options: dict[str, Any] = {"strategy": strategy, "max_stack": max_stack}
        self.kind: Optional[Callable[..., Sweep]] = None  # noqa: UP045
        self.whole: Optional[Sweep] = None  # noqa: UP045

    def executor(self) -> "Executor":
        """What is to make the runs."""
        raise NotImplementedError

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from bench.sweeps.composition import Composer

        checked(config.hydra.launcher, "hydra.launcher.")
        self.composer = Composer(hydra_context.config_loader, config)

    @contextmanager
    def one_sweep(self) -> Iterator["Sweep"]:
        """Whatever is launched herein is shown and summed up as one."""
        from bench.sweeps.sweep import Sweep

        if self.whole is not None:
            yield self.whole
            return
        try:
            with (self.kind or Sweep)(self.executor(), **self.options) as self.whole:
                yield self.whole
        finally:
            self.whole = None

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from rich.progress import track

        with self.one_sweep() as sweep:
            tracked = track(
                job_overrides,
                f"{len(job_overrides):,} runs: reading their settings",
                console=sweep.console,
                transient=True,
                disable=sweep.display.live.is_started or not sweep.display.is_live,
            )
            jobs = [
                self.composer.plan(overrides, search)
                for overrides, search in zip_longest(tracked, self.searches)
            ]
            records = sweep.run(jobs)
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=record)
            for overrides, record in zip(job_overrides, records, strict=True)
        ]


class MachineLauncher(SweepLauncher):
    """In processes of this machine."""

    def __init__(
        self,
        strategy: str,
        n_jobs: Optional[int],  # noqa: UP045
        threads: Optional[int],  # noqa: UP045
        max_stack: Optional[int],  # noqa: UP045
    ) -> None:
        super().__init__(strategy, max_stack)
        self.workers, self.threads = n_jobs, threads

    def executor(self) -> "Executor":
        from bench.sweeps.executors.local import LocalExecutor

        return LocalExecutor(workers=self.workers, threads=self.threads)


class SlurmLauncher(SweepLauncher):
    """In jobs of a Slurm cluster."""

    def __init__(
        self,
        strategy: str,
        max_stack: Optional[int],  # noqa: UP045
        n_jobs: Optional[int],  # noqa: UP045
        bundle: Optional[int],  # noqa: UP045
        threads: Optional[int],  # noqa: UP045
        gpu_memory: Optional[str],  # noqa: UP045
        **wanted: Any,
    ) -> None:
        super().__init__(strategy, max_stack)
        self.own: dict[str, Any] = {
            "n_jobs": n_jobs,
            "bundle": bundle,
            "threads": threads,
            "gpu_memory": gpu_memory,
        }
        self.wanted = wanted

    def executor(self) -> "Executor":
        from bench.sweeps.executors.slurm import SlurmExecutor, Wanted

        return SlurmExecutor(Wanted(**self.wanted), **self.own)


@dataclass
class MachineLauncherConfig:
    """`n_jobs` processes (null: as many as the cores allow) of `threads` threads each, stacks of at
    most `max_stack` runs (null: as many as memory holds)."""

    strategy: str = accepts(MISSING, None, *STRATEGIES)
    _target_: str = "hydra_plugins.bench_launchers.MachineLauncher"
    n_jobs: Optional[int] = accepts(None, "[1, 1024]", kind=int)  # noqa: UP045
    threads: Optional[int] = accepts(None, "[1, 1024]", kind=int)  # noqa: UP045
    max_stack: Optional[int] = accepts(None, "[1, inf)", kind=int)  # noqa: UP045


@dataclass
class SlurmLauncherConfig:
    """Jobs of at most `time` (minutes, or HH:MM:SS), each with `cpus` processors (null: one for
    each thread), `gpus` GPUs of at least `gpu_memory`, and `memory`; `n_jobs` at a time (null: as
    many as the cluster gives), each of `bundle` runs or stacks (null: as many as last some
    minutes). `setup` are lines of its script, `extra` parameters of sbatch."""

    strategy: str = accepts("auto", None, *STRATEGIES)
    _target_: str = "hydra_plugins.bench_launchers.SlurmLauncher"
    partition: Optional[str] = None  # noqa: UP045
    time: str = "60"
    cpus: Optional[int] = accepts(None, "[1, 1024]", kind=int)  # noqa: UP045
    gpus: Optional[int] = accepts(None, "[0, 64]", kind=int)  # noqa: UP045
    memory: Optional[str] = None  # noqa: UP045
    gpu_memory: Optional[str] = None  # noqa: UP045
    n_jobs: Optional[int] = accepts(None, "[1, 100000]", kind=int)  # noqa: UP045
    bundle: Optional[int] = accepts(None, "[1, inf)", kind=int)  # noqa: UP045
    threads: Optional[int] = accepts(None, "[1, 1024]", kind=int)  # noqa: UP045
    max_stack: Optional[int] = accepts(None, "[1, inf)", kind=int)  # noqa: UP045
    setup: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


store = ConfigStore.instance().store
for name in STRATEGIES:
    node = MachineLauncherConfig(strategy=name)
    store(group="hydra/launcher", name=name, node=node, provider="optimizer-bench")
store(group="hydra/launcher", name="slurm", node=SlurmLauncherConfig, provider="optimizer-bench")
