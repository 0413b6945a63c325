"""What is typed after ``bench``: flags, overrides, and the places to look for configurations in.

Hydra's flags, and ours. Nothing heavy.
"""

import functools
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bench.errors import BenchError
from bench.settings import hydra

PLUGINS = Path(__file__).parent / "plugins"  # where Hydra finds `hydra_plugins`
SEARCH_PATH = "hydra.searchpath"
PROVIDER = "command-line"  # Hydra's name for whoever named a place there
COMMANDS = ("run", "multirun", "cfg", "info", "shell_completion")

own_places: list[str] = []  # beside ours; a plugin of ours tells Hydra of them
typed: list[str] = []  # what is being carried out, word by word


def conf() -> Path:
    """Our configurations: within the package where it is installed, else the repository's."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "conf"


CONF = conf()


class Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BenchError(f"{message}; python -m bench --help says what there is")


@functools.cache
def parser() -> Parser:
    """Hydra's flags and ours."""
    ours = Parser(parents=[hydra.flags()], conflict_handler="resolve", add_help=False)
    ours.add_argument(
        "--config-dir",
        "-cd",
        metavar="DIR",
        action="append",
        default=[],
        help="Take configurations from there, too; may be said several times",
    )
    ours.add_argument("--version", action="store_true", help="Show versions and exit")
    ours.add_argument(
        "--repeat",
        metavar="RUN",
        type=Path,
        help="Repeat a run from its directory or record.json, and compare the results",
    )
    ours.add_argument(
        "--anyway", action="store_true", help="Repeat though the code or the data are others now"
    )
    return ours


def read(arguments: Sequence[str]) -> Namespace:
    """What the arguments say, in whichever order. ``places`` are the person's own configurations.

    Raises:
        BenchError: flags that do not exist or do not go together, or a place that is not there.
        HydraException: ``hydra.searchpath`` is not understood.
    """
    said = parser().parse_intermixed_args(arguments)
    said.typed = list(arguments)
    commands = [
        f"--{c.replace('_', '-')}" for c in COMMANDS if getattr(said, c) not in (None, False)
    ]
    if len(commands) > 1:
        raise BenchError(f"{' and '.join(commands)}: one at a time")
    if said.resolve and not (said.cfg or said.help):
        raise BenchError("--resolve: goes with --cfg or --help")
    if said.experimental_rerun is not None:
        raise BenchError("--experimental-rerun: is not supported; --repeat RUN needs no pickle")
    if said.config_path is not None:
        raise BenchError(
            "--config-path: ours are needed; --config-dir adds yours, --repeat RUN repeats a run"
        )
    if said.anyway and said.repeat is None:
        raise BenchError("--anyway: goes with --repeat RUN")
    if said.repeat is not None and said.multirun:
        raise BenchError("--repeat and --multirun: a repeat is one run; leave one of them out")
    if said.overrides:
        from bench.settings.overrides import usable  # which knows all that can be said

        said.overrides = [line for each in choose_custom(said.overrides) for line in usable(each)]
    said.places = []
    for directory in said.config_dir:
        said.places += found([directory], f"--config-dir={directory}")
    said.config_dir = None  # what Hydra is to know of it
    take_places(said)
    return said


def take_places(said: Namespace) -> None:
    """Moves what ``hydra.searchpath`` names from the overrides to the places.

    Raises:
        BenchError: it is no list, or a place is not there.
        HydraException: it is not understood.
    """
    for override in [o for o in said.overrides if o.startswith(f"{SEARCH_PATH}=")]:
        said.overrides.remove(override)
        said.places += [p for p in found(places_in(override), override) if p not in said.places]


def choose_custom(arguments: list[str]) -> list[str]:
    """A ``_target_`` alone means any importable class, as in ``optimizer._target_=my.Own``: it is
    ``optimizer=custom``."""
    for group in ("workload", "optimizer", "schedule"):
        keys = [argument.partition("=")[0] for argument in arguments]
        target = f"{group}._target_"
        if target in keys and group not in keys:
            place = keys.index(target)
            arguments = [*arguments[:place], f"{group}=custom", *arguments[place:]]
    return arguments


def places_in(override: str) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (parsed,) = OverridesParser.create().parse_overrides([override])
    places = parsed.value()
    if not isinstance(places, list) or not all(isinstance(place, str) for place in places):
        raise BenchError(f"{override}: must be a list, such as {SEARCH_PATH}=[file://my_conf]")
    return places


def found(places: Sequence[str], said: str) -> list[str]:
    """Directories, from where the person stands, and packages (``pkg://``), as Hydra writes them.

    Raises:
        BenchError: one is not there, or holds a file that Hydra would pass over for ours.
    """
    whole = []
    for place in places:
        scheme, _, path = place.rpartition("://")
        if scheme in ("", "file"):
            scheme, path = "file", str(Path(path).expanduser().absolute())
        try:
            source = hydra.source(scheme, path)
        except ValueError as error:
            raise BenchError(f"{said}: must be a directory, file://... or pkg://...") from error
        if not source.available():
            what = "directory" if scheme == "file" else "package"
            raise BenchError(f"{said}: {path}: no such {what}")
        for ours in CONF.rglob("*.yaml"):
            name = ours.relative_to(CONF).with_suffix("").as_posix()
            if source.is_config(name):
                raise BenchError(f"{said}: {name}.yaml: we have one of that name; give it another")
        whole.append(f"{scheme}://{path}")
    return whole


def search_path(said: Mapping[str, Any]) -> list[str]:
    """``hydra.searchpath=[...]`` with the person's places, if a configuration of Hydra's names any:
    to be found again by whoever stands elsewhere."""
    sources = said["runtime"]["config_sources"]
    places = [f"{s['schema']}://{s['path']}" for s in sources if s["provider"] == PROVIDER]
    return [f"{SEARCH_PATH}=[{','.join(map(quoted, places))}]"] if places else []


def quoted(text: str) -> str:
    """As one value for Hydra."""
    return text if re.fullmatch(r"[\w:/.+-]+", text) else "'" + text.replace("'", r"\'") + "'"


def carry_out(said: Namespace, task: Callable[[Any], Any]) -> None:
    """Has Hydra compose what was said, and do with it what was asked for: ``task`` is one run.

    Raises:
        BenchError: shells cannot be completed as was asked for.
        HydraException: what was said is not understood or not accepted.
    """
    from hydra import version

    def to_the_end(composed: Any) -> Any:
        """Mistakes leave as an exit: an exception would have Hydra print lines of its own."""
        try:
            return task(composed)
        except BenchError as error:
            sys.exit(f"error: {error}")

    own_places[:], typed[:] = said.places, said.typed
    version.setbase("1.3")
    try:
        hydra.compose_and_run(
            to_the_end,
            args=said,
            args_parser=parser(),
            config_path=str(CONF),
            config_name="config",
        )
    except ValueError as error:
        if not said.shell_completion:
            raise
        raise BenchError(f"--shell-completion: {' '.join(str(error).split())}") from error
    finally:
        own_places.clear()
        typed.clear()
