"""``--repeat RUN``: a run made again from what it left, and whether the results are the same.

What decides a result is taken from the run; where the repeat lies and what is shown of it is for
whoever repeats to say. No torch at the top, as in the rest of what plans.
"""

import csv
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from bench import provenance, records, single
from bench.command_line import take_places
from bench.errors import BenchError
from bench.records import Record
from bench.settings.identity import NEUTRAL, decisive
from bench.settings.jobs import choices, plain_hydra, plan
from bench.sweeps.composition import parse

STUDY = "repeat"
EXPERIMENT = "_repeat_"  # the name under which Hydra is given the configuration
NOT_TAKEN_OVER = {
    "": ("study", "runs_dir", "data_dir"),
    "trainer": ("enable_progress_bar", "resume"),
}
CURVES = "metrics.csv"


@dataclass(frozen=True)
class Original:
    """What a run left.

    Attributes:
        record: None where the run did not end; there is nothing to compare with then.
    """

    directory: Path
    config: dict[str, Any]
    overrides: Sequence[str]
    record: Record | None

    @property
    def environment(self) -> Mapping[str, Any]:
        return {} if self.record is None else self.record.environment


def read(run: Path) -> Original:
    """From a run's directory, or its ``record.json`` or ``.hydra``, wherever they lie now.

    Raises:
        BenchError: it is none of these or cannot be read, or the run failed.
    """
    directory = run if run.is_dir() and run.name != ".hydra" else run.parent
    path = run if run.is_file() else directory / records.FILE_NAME
    if path.is_file():
        record = records.read(path)
        if record.status == "failed":
            raise BenchError(f"{path}: failed ({record.reason}); there is no result to repeat")
        if record.status == "pruned":
            raise BenchError(f"{path}: {record.stopped}; there is no whole run to repeat")
        overrides = record.overrides or noted(directory, "overrides") or []
        return Original(directory, record.config, overrides, record)
    if not run.exists():
        raise BenchError(f"--repeat {run}: no such file or directory")
    config = noted(directory, "config")
    if config is None:
        raise BenchError(
            f"--repeat {run}: holds no {records.FILE_NAME} and no .hydra; give the directory of a "
            "run, such as runs/<study>/<workload>/<optimizer>/<run>"
        )
    return Original(directory, config, noted(directory, "overrides") or [], None)


def noted(directory: Path, name: str) -> Any:
    """What ``.hydra`` holds under this name; None if it is not there.

    Raises:
        BenchError: it cannot be read.
    """
    path = directory / ".hydra" / f"{name}.yaml"
    if not path.is_file():
        return None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BenchError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def prepare(said: Namespace) -> partial[None]:
    """Turns ``--repeat`` into what Hydra is to compose; returns what is to be done with that.

    Raises:
        BenchError: there is no such run, or code or data are others than they were, or what is
            said beside it would make it another run.
    """
    original = read(said.repeat)
    for override in chain.from_iterable(map(parse, said.overrides)):
        if override.get_key_element() not in NEUTRAL and not override.is_hydra_override():
            raise BenchError(
                f"{override.input_line}: not beside --repeat, which takes only what decides no "
                f"result: {', '.join(sorted(NEUTRAL))}"
            )
    try:
        chosen = list(chain(*choices(original.config)))
        inputs = provenance.inputs(original.config)
        own = taken_over(original.config)
    except (KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{original.directory}: holds no configuration of a run") from error
    now = provenance.code() | inputs
    others = differences(original.environment, now)
    if others and not said.anyway:
        raise BenchError(
            f"{original.directory}: not repeated, since it was made with {'; '.join(others)} "
            "(--anyway repeats it with what is here)"
        )
    ConfigStore.instance().store(
        group="experiment", name=EXPERIMENT, node=DictConfig(own), package="_global_"
    )
    recorded = Namespace(overrides=list(map(str, original.overrides)), places=list(said.places))
    take_places(recorded)
    said.places = recorded.places
    place = [f"study={STUDY}", *said.overrides]
    said.overrides = [*chosen, f"experiment={EXPERIMENT}", *place, "hydra.mode=RUN"]
    return partial(make, original, others, [*recorded.overrides, *place], anyway=said.anyway)


def taken_over(config: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """What a repeat takes from the configuration of a run."""
    return {
        key: taken_over(value, key) if key in NOT_TAKEN_OVER else value
        for key, value in config.items()
        if key not in NOT_TAKEN_OVER[group]
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what code and data differ, as far as ``then`` tells."""
    apart = ("source", "git_commit", "git_dirty", "classes")
    then, now = ({**about, **about.get("classes", {})} for about in (then, now))
    found = [
        f"{key} {then[key]}, now {value}"
        for key, value in now.items()
        if key not in apart and key in then and then[key] != value
    ]
    if "source" in then:
        other = then["source"] != now["source"]
    else:
        commit, unsure = then.get("git_commit"), then.get("git_dirty") or now.get("git_dirty")
        other = commit is not None and (commit != now["git_commit"] or bool(unsure))
    return [f"{tree(then)}, now {tree(now)}", *found] if other else found


def tree(about: Mapping[str, Any]) -> str:
    """Which code of ours, in the words that tell a person most."""
    commit, changes = about.get("git_commit"), about.get("git_dirty")
    named = f"commit {str(commit)[:10]}" if commit is not None else "code of no commit"
    source = f" (source {about['source']})" if "source" in about else ""
    return f"{named}{' with changes' if changes else ''}{source}"


def make(
    original: Original,
    others: Sequence[str],
    overrides: Sequence[str],
    composed: DictConfig,
    *,
    anyway: bool,
) -> None:
    """Makes the run, and prints what came of it and how that compares.

    Raises:
        BenchError: the configuration is not what it was, or the run cannot be made, or failed.
    """
    hydra = plain_hydra(HydraConfig.get())
    hydra["overrides"]["task"] = list(overrides)
    job = plan(composed, hydra)
    changed = changes(original.config, job.config)
    if changed and not anyway:
        raise BenchError(
            f"{original.directory}: not repeated, since its configuration would be another: "
            f"{'; '.join(changed)} (--anyway repeats it with that)"
        )
    if job.finished() is not None:
        raise BenchError(f"{job.directory}: holds a run already; repeat in another: study=...")
    if (
        single.main(replace(job, threads=threads_of(original.environment))) is None
    ):  # another process writes
        return
    made = records.read(job.directory / records.FILE_NAME)
    tell(original, made, job.directory, [*others, *changed])


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The keys that decide a result and do not have the value that they had."""
    before, after = decisive(then), decisive(now)
    missing = object()
    return [
        f"{key}={after.get(key)} ({f'was {before[key]}' if key in before else 'new since'})"
        for key in before | after
        if before.get(key, missing) != after.get(key, missing)
    ]


def threads_of(environment: Mapping[str, Any]) -> int | None:
    """With how many a run was made, where that is known."""
    threads = environment.get("threads")
    return threads if isinstance(threads, int) and threads > 0 else None


def tell(original: Original, made: Record, directory: Path, others: Sequence[str]) -> None:
    """Whether the results are the same, or by how much they differ and what was not the same."""
    console = Console()

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    if original.record is None:
        return say(f"repeat of {original.directory}, which has no record to compare with")
    before, after = results(original.record), results(made)
    names = [name for name in before | after if before.get(name) != after.get(name)]
    part = parting(original.directory / CURVES, directory / CURVES)
    if not names and part is None:
        say(f"repeat of {original.directory}: the same to the last bit")
    else:
        say(f"repeat of {original.directory}: not the same to the last bit")
        if names:
            console.print(compared(names, before, after))
        say("curves:  the same" if part is None else f"curves:  differ from step {part} on")
    for reason in reasons(original.record, made, others):
        say(f"differs: {reason}", "dim")
    return None


def results(record: Record) -> dict[str, Any]:
    """All in a record that a repeat is to find again: no times."""
    best = {f"best/{name}": value for name, value in record.best.items()}
    return {
        "status": record.status,
        "steps": record.steps,
        **record.metrics,
        **best,
        "steps to target": record.target.get("step"),
    }


def parting(then: Path, now: Path) -> str | None:
    """The first step at which curves differ in what both have; None where they do not, or are not
    there."""
    if not (then.is_file() and now.is_file()):
        return None
    nothing: dict[str, str] = {}
    for row, other in zip_longest(rows(then), rows(now), fillvalue=nothing):
        if any(row[name] != other[name] for name in row.keys() & other) or not (row and other):
            return row.get("step") or other.get("step")
    return None


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Of ``metrics.csv``, without times."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {key: value for key, value in row.items() if key != "seconds"}


def compared(names: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    table = Table("result", "was", "is", "difference")
    for name in names:
        was, now = before.get(name), after.get(name)
        if isinstance(was, int | float) and isinstance(now, int | float):
            difference = f"{now - was:+.2g}"
        else:
            difference = ""
        table.add_row(name, str(was), str(now), difference)
    return table


def reasons(then: Record, now: Record, others: Sequence[str]) -> Iterator[str]:
    """What was not the same: code, data and settings, as found before; the machine; the company."""
    yield from others
    for key in ("platform", "device", "threads"):
        if key in then.environment and then.environment[key] != now.environment[key]:
            yield f"{key} {then.environment[key]}, now {now.environment[key]}"
    if (together := then.timing.get("runs_together") or 1) > 1:
        yield f"trained in a stack of {together:g}, now alone: the same within rounding"
