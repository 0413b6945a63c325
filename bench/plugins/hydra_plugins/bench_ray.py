"""Hydra's launcher by Ray. Hydra imports this file at every start, so it imports nothing heavy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from hydra.core.config_store import ConfigStore

from bench.settings.schema import accepts

from .bench_launchers import STRATEGIES, SweepLauncher

if TYPE_CHECKING:
    from bench.sweeps.executors import Executor
    from bench.sweeps.executors.ray import RayExecutor
    from bench.sweeps.sweep import Sweep


class RayLauncher(SweepLauncher):
    """In processes of a Ray cluster."""

    def __init__(
        self,
        strategy: str,
        max_stack: Optional[int],  # noqa: UP045
        n_jobs: Optional[int],  # noqa: UP045
        **options: Any,
    ) -> None:
        super().__init__(strategy, max_stack)
        self.executed = {"workers": n_jobs, **options}
        self.open: Optional[RayExecutor] = None  # noqa: UP045

    def executor(self) -> "Executor":
        from importlib.util import find_spec

        from bench.errors import BenchError

        if find_spec("ray") is None:
            raise BenchError("hydra/launcher=ray needs Ray: pip install 'optimizer-bench[ray]'")
        from bench.sweeps.executors import ray_cluster

        ray_cluster.prepare(self.executed["address"])
        from bench.sweeps.executors.ray import RayExecutor

        self.open = RayExecutor(**self.executed)
        return self.open

    @contextmanager
    def one_sweep(self) -> Iterator["Sweep"]:
        outermost = self.whole is None
        try:
            with super().one_sweep() as sweep:
                yield sweep
        finally:
            if outermost and self.open is not None:
                self.open.close()


@dataclass
class RayLauncherConfig:
    """On a cluster at `address` (null: one of this machine, for the sweep alone), at most `n_jobs`
    tasks at a time (null: as many as there is room for) of `threads` threads, `cpus` CPUs (null:
    as many as threads) and `gpus` GPUs (null: one if the cluster has any), stacks of at most
    `max_stack` runs (null: as many as memory holds)."""

    strategy: str = accepts("auto", None, *STRATEGIES)
    _target_: str = "hydra_plugins.bench_ray.RayLauncher"
    address: Optional[str] = None  # noqa: UP045
    n_jobs: Optional[int] = accepts(None, "[1, 1024]", kind=int)  # noqa: UP045
    cpus: Optional[float] = accepts(None, "(0, 1024]")  # noqa: UP045
    gpus: Optional[float] = accepts(None, "[0, 64]")  # noqa: UP045
    threads: Optional[int] = accepts(None, "[1, 1024]", kind=int)  # noqa: UP045
    max_stack: Optional[int] = accepts(None, "[1, inf)", kind=int)  # noqa: UP045


ConfigStore.instance().store(
    group="hydra/launcher", name="ray", node=RayLauncherConfig, provider="optimizer-bench"
)
