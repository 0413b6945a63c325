"""Hydra's sweepers of this project: which runs a sweep makes.

All of them read the same things, in Hydra's override grammar: ``params``, the values of each key;
``when``, what else holds for some of them; and the command line, which wins over both.

    params: {optimizer: "momentum,adam", seed: "0,1,2"}
    when:
      optimizer=momentum: {optimizer.lr: "0.01,0.1", optimizer.momentum: "0.9,0.99"}
      optimizer=adam: {optimizer.lr: "1e-4,1e-3"}

``grid`` makes every combination. ``random`` and ``optuna`` draw trials: values listed with commas
are still all made, each with the same number of trials; ``interval(a,b)``, ``choice(...)`` and
``range(...)`` are priors to draw from; every trial is repeated for each ``seed``. ``halving``
starts what ``grid`` makes, or where there is an interval what ``random`` draws, and ends few.

Hydra imports this file at every start, so it imports nothing heavy.
"""

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, product
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Optional, TypeVar, Union

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep, ValueType
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from bench.metrics import Metric
from bench.settings.jobs import Job
from bench.settings.jobs import plain_hydra as plain
from bench.settings.overrides import check, usable
from bench.settings.schema import accepts, checked
from bench.settings.workloads import workload_of

from .bench_launchers import SweepLauncher

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from bench.records import Record

Space = dict[str, Override]  # what was said of each key
Assignments = tuple[str, ...]  # "key=value"
T = TypeVar("T")


class SpaceSweeper(Sweeper):
    """Reads what is to be swept. ``sampler`` is how records call the way in which it chooses.

    Args:
        params: the values of each key.
        when: from conditions, such as ``optimizer=adam`` or ``workload=mnist_mlp optimizer=adam``,
            to params that hold where all of them do; later ones win over earlier ones.
    """

    sampler: ClassVar[str]

    def __init__(
        self,
        params: Optional[Mapping[str, Any]] = None,  # noqa: UP045
        when: Optional[Mapping[str, Mapping[str, Any]]] = None,  # noqa: UP045
    ) -> None:
        self.params = params or {}
        self.when = when or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra.core.plugins import Plugins

        checked(config.hydra.sweeper, "hydra.sweeper.")
        self.composed = config  # with what is not swept
        self.config_loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def spaces(self, arguments: Iterable[str]) -> Iterator[Space]:
        """What is to be swept, for each combination of the values that ``when`` depends on. An
        ``optimizer._target_`` beside several optimizers is that of ``custom`` among them.

        Raises:
            HydraException: ``when`` depends on a key that has no values, ``optimizer._target_`` is
                nobody's, or a sweep would lie within another.
        """
        said = self._parse(arguments)
        everywhere = self._parse(lines(self.params)) | said
        self._refuse_sweeps_within(everywhere)
        rules = [(set(key.split()), self._parse(lines(own))) for key, own in self.when.items()]
        deciding = {
            condition.partition("=")[0] for conditions, _ in rules for condition in conditions
        }
        if unknown := deciding - everywhere.keys():
            raise HydraException(
                f"hydra.sweeper.when: {min(unknown)} is not among what is swept; "
                "name it in hydra.sweeper.params"
            )
        if custom_only := whose_class(everywhere):
            deciding.add("optimizer")
        choices = [listed(everywhere, key) for key in everywhere if key in deciding]
        for choice in product(*choices):
            left_out = {TARGET} if custom_only and CUSTOM not in choice else set()
            space = without(left_out, everywhere)
            for conditions, own in rules:
                if conditions <= set(choice):
                    space = space | own
            yield space | without(left_out, said) | self._parse(choice)

    def launch(
        self, jobs: Iterable[tuple[Iterable[str], Mapping[str, str]]]
    ) -> Sequence[JobReturn]:
        """All at once: the launcher decides what runs side by side.

        Args:
            jobs: the overrides of each, and what was said of the keys that were searched for it.

        Raises:
            HydraException: there are too many.
        """
        assert self.launcher is not None
        some = at_most(MOST_RUNS, jobs, "this sweep")
        lines = [list(job) for job, _ in some]
        if isinstance(self.launcher, SweepLauncher):
            of_prior: dict[int, Mapping[str, Any]] = {}  # one for all jobs that share it
            self.launcher.searches = [
                of_prior.setdefault(id(prior), {"sampler": self.sampler, "prior": prior})
                for _, prior in some
            ]
            return self.launcher.launch(lines, initial_job_idx=0)
        return self._launch_by_others(self.launcher, lines)

    def launch_all(self, arguments: Iterable[str]) -> Sequence[JobReturn]:
        """Every combination of the values given."""
        return self.launch(
            (job, said)
            for space in self.spaces(arguments)
            for said in [as_said(space, set(ValueType) - {ValueType.ELEMENT})]
            for job in product(*(listed(space, key) for key in space))
        )

    def _launch_by_others(
        self, launcher: Launcher, lines_of_jobs: Sequence[list[str]]
    ) -> Sequence[JobReturn]:
        """By a launcher that is not ours, and shows nothing of the whole."""
        from bench.sweeps.composition import Composer
        from bench.sweeps.sweep import Launched

        composer = Composer(self.config_loader, self.composed)
        jobs = [composer.plan(said) for said in lines_of_jobs]
        said_of = dict(zip((job.directory for job in jobs), lines_of_jobs, strict=True))
        returned: list[JobReturn] = []

        def launch(some: Sequence[Job]) -> None:
            said = [said_of[job.directory] for job in some]
            made = launcher.launch(said, initial_job_idx=len(returned))
            returned.extend(made)
            for job in made:
                _ = job.return_value  # raises what went wrong

        name = str(self.composed.hydra.runtime.choices["hydra/launcher"])
        with Launched(launch, launcher=name, in_turn=name == "basic") as sweep:
            sweep.run(jobs)
        return returned

    def _parse(self, lines: Iterable[str]) -> Space:
        """By key; what is said later replaces what was said before."""
        parser = OverridesParser.create(config_loader=self.config_loader)
        parsed = parser.parse_overrides(list(lines))
        for override in parsed:
            check(override)
        return {override.get_key_element(): override for override in parsed}

    def _refuse_sweeps_within(self, space: Space) -> None:
        if "experiment" not in space or not space["experiment"].is_discrete_sweep():
            return
        for experiment in assignments(space["experiment"]):
            composed = self.config_loader.load_sweep_config(self.composed, usable(experiment))
            if composed.hydra.sweeper != self.composed.hydra.sweeper:
                raise HydraException(
                    f"{experiment}: is a sweep of its own, which would be lost within another; "
                    "name one experiment at a time"
                )


TARGET, CUSTOM = "optimizer._target_", "optimizer=custom"


def whose_class(space: Space) -> bool:
    """Whether ``optimizer._target_`` is for one of several optimizers, ``custom``.

    Raises:
        HydraException: for none of several.
    """
    if TARGET not in space or "optimizer" not in space:
        return False
    optimizers = assignments(space["optimizer"])
    if len(optimizers) > 1 and CUSTOM not in optimizers:
        said = f"{space[TARGET].input_line}: beside {space['optimizer'].input_line}"
        raise HydraException(f"{said}, add custom, the optimizer whose class it is")
    return len(optimizers) > 1


def without(keys: Set[str], space: Space) -> Space:
    return {key: override for key, override in space.items() if key not in keys}


def listed(space: Space, key: str) -> list[str]:
    """``key=value`` for each value; a glob takes ``custom`` only where its class is named."""
    found = assignments(space[key])
    if TARGET not in space and isinstance(space[key].value(), Glob):
        return [assignment for assignment in found if assignment != CUSTOM]
    return found


NAMED = ("workload", "optimizer", "schedule", "seed")  # by fields of a record's own


def as_said(space: Space, types: Container[ValueType]) -> dict[str, str]:
    """What was said of the keys that are searched in one of these ways, word by word."""
    return {
        key: str(override.input_line).partition("=")[2]
        for key, override in space.items()
        if key not in NAMED and override.value_type in types
    }


def lines(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]


def assignments(override: Override) -> list[str]:
    """``key=value`` for each value of a key.

    Raises:
        HydraException: there is no value, or no end of them.
    """
    key = override.get_key_element()
    if override.is_interval_sweep():
        raise HydraException(
            f"{key}: an interval cannot be swept as a grid; give values, such as "
            f"{key}=1e-3,1e-2, or draw from it with hydra/sweeper=random or optuna"
        )
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in values(override)]
    return [f"{key}={override.get_value_element_as_str()}"]


def values(override: Override) -> list[str]:
    """
    Raises:
        HydraException: there is none, or too many.
    """
    sweep, said = override.value(), str(override.input_line)
    try:
        if isinstance(sweep, RangeSweep):  # to be shuffled, it would be listed whole
            at_most(MOST_RUNS, sweep.range(), said)
        found = at_most(MOST_RUNS, override.sweep_string_iterator(), said)
    except (ValueError, ArithmeticError) as error:
        raise HydraException(f"{said}: not a range ({error})") from error
    if not found:
        raise HydraException(f"{said}: no value, and so nothing to run")
    return found


MOST_RUNS = 100_000


def at_most(most: int, items: Iterable[T], said: str) -> list[T]:
    """
    Raises:
        HydraException: there are more.
    """
    some = list(islice(items, most + 1))
    if len(some) > most:
        raise HydraException(f"{said}: makes more than {most:,} runs; sweep over less")
    return some


class GridSweeper(SpaceSweeper):
    """Every combination of the values given, in the order of the command line.

    Unlike Hydra's basic sweeper it writes nothing itself and hands all jobs to the launcher at
    once, which composes each a single time.
    """

    sampler = "grid"

    def sweep(self, arguments: list[str]) -> Any:
        return self.launch_all(arguments)


@dataclass(frozen=True)
class Interval:
    """Uniform, or uniform in the logarithm, over ``[low, high]``; drawn to four digits."""

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, quantile: float) -> str:
        """The value that a share ``quantile`` of all draws, in [0, 1), lies below."""
        end = self.high + self.whole
        if self.log:
            return self.text(self.low * (end / self.low) ** quantile)
        return self.text(self.low + (end - self.low) * quantile)

    def text(self, value: float) -> str:
        rounded = int(value) if self.whole else float(f"{value:.4g}")
        return str(min(max(rounded, self.low), self.high))

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely; no order among them."""

    values: tuple[str, ...]

    def at(self, quantile: float) -> str:
        return self.values[int(quantile * len(self.values))]

    def text(self, value: str) -> str:
        return value

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)


Prior = Union[Interval, Choice]  # noqa: UP007


def prior(override: Override) -> Prior:
    """The distribution that an override states.

    Raises:
        HydraException: it is empty, or log-uniform from zero, or tagged with another word.
    """
    sweep, said = override.value(), override.input_line
    tags: set[str] = getattr(sweep, "tags", set())
    if not isinstance(sweep, IntervalSweep):
        if tags:
            raise HydraException(f"{said}: only an interval can be tagged")
        return Choice(tuple(map(str, values(override))))
    if tags - {"log"}:
        raise HydraException(f"{said}: unknown tag {min(tags - {'log'})}; an interval can have log")
    assert sweep.start is not None
    assert sweep.end is not None
    if not sweep.start < sweep.end:
        raise HydraException(f"{said}: an interval must start below its end")
    if tags and sweep.start <= 0:
        raise HydraException(f"{said}: an interval with tag log must start above 0")
    return Interval(sweep.start, sweep.end, log=bool(tags), whole=isinstance(sweep.start, int))


@dataclass(frozen=True)
class Search:
    """Trials of one kind: what they share, what is drawn for each, ``said`` word by word, and its
    repetitions."""

    fixed: Assignments
    optimizer: str
    priors: Mapping[str, Prior]
    said: Mapping[str, str]
    seeds: Sequence[Assignments]

    def runs(self, trial: Mapping[str, str]) -> list[Assignments]:
        """The runs of a trial, one for each seed."""
        return [(*self.fixed, *lines(trial), *seed) for seed in self.seeds]


class SearchSweeper(SpaceSweeper):
    """Draws ``n_trials`` trials for each combination of the values listed.

    Args:
        seed: of the draws; another one gives other trials.
    """

    def __init__(self, n_trials: int, seed: int, **space: Any) -> None:
        super().__init__(**space)
        self.n_trials = n_trials
        self.seed = seed

    def searches(self, arguments: Iterable[str]) -> list[Search]:
        """
        Raises:
            HydraException: there is nothing to draw.
        """
        return [search for space in self.spaces(arguments) for search in self._split(space)]

    def _split(self, space: Space) -> Iterator[Search]:
        seeds = [(seed,) for seed in assignments(space["seed"])] if "seed" in space else [()]
        settings = [said for key, said in space.items() if key != "seed"]
        drawn = {s.get_key_element(): prior(s) for s in settings if s.value_type in PRIORS}
        fixed_keys = [s.get_key_element() for s in settings if s.value_type not in PRIORS]
        for fixed in product(*(listed(space, key) for key in fixed_keys)):
            chosen = [text for text in fixed if text.startswith("optimizer=")]
            optimizer = chosen[0] if chosen else self._usual_optimizer()
            if not drawn:
                raise HydraException(
                    f"{optimizer}: nothing to draw; give a prior, such as "
                    "optimizer.lr=tag(log,interval(1e-5,1))"
                )
            yield Search(fixed, optimizer, drawn, as_said(space, PRIORS), seeds)

    def _usual_optimizer(self) -> str:
        return f"optimizer={self.composed.hydra.runtime.choices.optimizer}"


PRIORS = (ValueType.INTERVAL_SWEEP, ValueType.CHOICE_SWEEP, ValueType.RANGE_SWEEP)


def uniform(*identity: Any) -> float:
    """A number in [0, 1) that follows from ``identity`` alone."""
    digest = hashlib.sha256(repr(identity).encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53


class RandomSweeper(SearchSweeper):
    """Random search: trials drawn from the priors, independently.

    A value follows from (seed, optimizer, trial, key) alone: the same sweep draws the same trials,
    with more trials it goes on, and what else is swept or added moves none of them. A trial that
    was drawn before is left out, so that all are different.
    """

    sampler = "random"

    def sweep(self, arguments: list[str]) -> Any:
        return self.launch(
            (run, search.said)
            for search in self.searches(arguments)
            for trial in self.trials(search)
            for run in search.runs(dict(trial))
        )

    def trials(self, search: Search) -> Iterable[Iterable[tuple[str, str]]]:
        """
        Raises:
            HydraException: the priors do not have so many different trials.
        """
        different: dict[tuple[tuple[str, str], ...], None] = {}
        for index in range(1000 * self.n_trials):
            different[
                tuple(
                    (key, prior.at(uniform(self.seed, search.optimizer, index, key)))
                    for key, prior in search.priors.items()
                )
            ] = None
            if len(different) == self.n_trials:
                return different
        raise HydraException(
            f"hydra.sweeper.n_trials={self.n_trials}: {search.optimizer} has only "
            f"{len(different)} different trials"
        )


class HalvingSweeper(RandomSweeper):
    """Successive halving of the settings that `RandomSweeper` draws where an interval is among what
    is said, and of those that `GridSweeper` makes where none is.

    Args:
        eta, rungs: as `bench.sweeps.halving.Rule` has them.
    """

    sampler = "halving"

    def __init__(self, eta: int, rungs: int, **options: Any) -> None:
        super().__init__(**options)
        self.eta, self.rungs = eta, rungs

    def sweep(self, arguments: list[str]) -> Any:
        from bench.sweeps.halving import HalvedSweep, Rule

        if not isinstance(self.launcher, SweepLauncher):
            raise HydraException(
                "hydra/sweeper=halving needs the curves of its runs: choose a launcher of ours, "
                "such as hydra/launcher=auto"
            )
        self.launcher.kind = partial(HalvedSweep, rule=Rule(self.eta, self.rungs))
        drawn = any(s.is_interval_sweep() for each in self.spaces(arguments) for s in each.values())
        return super().sweep(arguments) if drawn else self.launch_all(arguments)


class OptunaSweeper(SearchSweeper):
    """Optuna's tree-structured Parzen estimator (TPE, Bergstra et al. 2011), one study for each
    combination of the values listed. It goes by the last validation value of the workload's
    metric, the mean over seeds, where a run that diverged has the worst there is (``worth``).

    All studies advance together, ``n_parallel`` trials at a time, so that the launcher always has
    enough to do. The records are its storage: proposals follow from the seed and from the results
    so far, so that a search started again proposes the same trials, finds most of them made, and
    goes on; with a larger ``n_trials``, too. A trial of which a run fails teaches it nothing, and
    the search goes on without it. There is no pruner: a trial that was cut short could not be
    compared with the others in the study's report. Divergence ends a run early anyway.
    """

    sampler = "tpe"

    def __init__(self, n_parallel: int, **options: Any) -> None:
        super().__init__(**options)
        self.n_parallel = n_parallel

    def sweep(self, arguments: list[str]) -> Any:
        import optuna

        if not isinstance(self.launcher, SweepLauncher):
            raise HydraException(
                "hydra/sweeper=optuna needs the records of its runs: choose a launcher of ours, "
                "such as hydra/launcher=auto"
            )
        own = {key: self.composed[key] for key in ("workload", "data_dir")}
        if not workload_of(plain(OmegaConf.create(own))).validates:
            size = OmegaConf.select(self.composed, "workload.val_size")
            said = "hydra/sweeper=optuna" if size is None else f"workload.val_size={size}"
            raise HydraException(f"{said}: a search needs validation data to choose by")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        studies = [
            (search, optuna.create_study(direction="maximize", sampler=self._sampler(search)))
            for search in self.searches(arguments)
        ]
        returned: list[JobReturn] = []
        with self.launcher.one_sweep() as sweep:
            for start in range(0, self.n_trials, self.n_parallel):
                n = min(self.n_parallel, self.n_trials - start)
                runs = sum(len(search.seeds) for search, _ in studies)
                sweep.more = (self.n_trials - start - n) * runs
                returned += self._advance([study for study in studies for _ in range(n)])
        return returned

    def _sampler(self, search: Search) -> Any:
        from optuna.samplers import TPESampler

        return TPESampler(seed=int(2**32 * uniform(self.seed, search.optimizer)))

    def _advance(self, turns: Sequence[tuple[Search, Any]]) -> Sequence[JobReturn]:
        """One more trial for each turn, all side by side."""
        from optuna.trial import TrialState

        asked = []
        jobs: dict[Assignments, Mapping[str, str]] = {}
        for search, study in turns:
            trial = study.ask({key: prior.distribution() for key, prior in search.priors.items()})
            drawn = {key: prior.text(trial.params[key]) for key, prior in search.priors.items()}
            asked.append((study, trial, search.runs(drawn)))
            jobs |= dict.fromkeys(search.runs(drawn), search.said)  # may propose one twice
        returned = self.launch(jobs.items())
        values = {
            job: worth(result.return_value) for job, result in zip(jobs, returned, strict=True)
        }
        for study, trial, runs in asked:
            worths = [value for run in runs if (value := values[run]) is not None]
            if len(worths) < len(runs):
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, fmean(worths))
        return returned


def worth(record: "Record") -> float | None:
    """What a run is worth to a search, None if it failed: the last validation value of the metric
    that selects, negated where lower is better, so that every study maximises; a run that diverged,
    or was not measured, is worth the least."""
    if record.status == "failed":
        return None
    metric = Metric(**record.metric)
    value = record.metrics.get(f"val/{metric.name}")
    if record.status == "completed" and value is not None:
        return metric.sign * value
    return metric.least


@dataclass
class SpaceConfig:
    params: dict[str, Any] = field(default_factory=dict)
    when: dict[str, Any] = field(default_factory=dict)


@dataclass
class GridSweeperConfig(SpaceConfig):
    _target_: str = "hydra_plugins.bench_search.GridSweeper"


@dataclass
class RandomSweeperConfig(SpaceConfig):
    _target_: str = "hydra_plugins.bench_search.RandomSweeper"
    n_trials: int = accepts(20, "[1, 100000]", kind=int)
    seed: int = accepts(0, "(-inf, inf)", kind=int)


@dataclass
class HalvingSweeperConfig(SpaceConfig):
    _target_: str = "hydra_plugins.bench_search.HalvingSweeper"
    eta: int = accepts(3, "[2, 1000]", kind=int)
    rungs: int = accepts(2, "[1, 20]", kind=int)
    n_trials: int = accepts(20, "[1, 100000]", kind=int)
    seed: int = accepts(0, "(-inf, inf)", kind=int)


@dataclass
class OptunaSweeperConfig(SpaceConfig):
    _target_: str = "hydra_plugins.bench_search.OptunaSweeper"
    n_trials: int = accepts(20, "[1, 100000]", kind=int)
    seed: int = accepts(0, "(-inf, inf)", kind=int)
    n_parallel: int = accepts(4, "[1, 1024]", kind=int)


for name, node in (
    ("grid", GridSweeperConfig),
    ("random", RandomSweeperConfig),
    ("optuna", OptunaSweeperConfig),
    ("halving", HalvingSweeperConfig),
):
    ConfigStore.instance().store(
        group="hydra/sweeper", name=name, node=node, provider="optimizer-bench"
    )
