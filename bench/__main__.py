"""``python -m bench``: Hydra composes the configuration, then one run or a sweep is made."""

import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

PLUGINS = Path(__file__).parent / "plugins"
CONF = Path(__file__).parents[1] / "conf"


def main() -> None:
    sys.path.append(str(PLUGINS))  # where Hydra finds `hydra_plugins`
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to us, to be said in one line
    import hydra

    from bench import config
    from bench.errors import BenchError
    from bench.messages import ConfigError, explain, first_line, is_hydras

    config.register()
    warnings.filterwarnings("ignore", r"\s*Running Hydra app with --multirun")  # in many lines
    if not sys.flags.safe_path:  # a person's own modules, as `python -m` does
        with suppress(FileNotFoundError):  # the directory is gone
            sys.path.insert(0, os.getcwd())
    try:
        sys.argv[1:] = accepted(choose_custom(sys.argv[1:]))
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(one_run)()
    except ConfigError as error:
        sys.exit(f"error: {explain(error)}")
    except BenchError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if not is_hydras(error):
            raise
        said = " ".join(sys.argv[1:])
        sys.exit(f"error: Hydra cannot use {said} ({type(error).__name__}: {first_line(error)})")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)


def accepted(arguments: list[str]) -> list[str]:
    """With overrides as Hydra can read them."""
    from hydra._internal.utils import get_args_parser

    from bench.overrides import usable

    said = get_args_parser().parse_known_args(arguments)[0].overrides
    read = {override: usable(override) for override in said}
    return [line for argument in arguments for line in read.get(argument, [argument])]


def choose_custom(arguments: list[str]) -> list[str]:
    """An ``optimizer._target_`` alone means any importable optimizer: ``optimizer=custom``."""
    keys = [argument.partition("=")[0] for argument in arguments]
    if "optimizer._target_" in keys and "optimizer" not in keys:
        place = keys.index("optimizer._target_")
        return [*arguments[:place], "optimizer=custom", *arguments[place:]]
    return arguments


def one_run(composed: "DictConfig") -> None:
    """Makes one run. Mistakes leave as an exit: an exception would have Hydra print lines of its
    own."""
    from hydra.core.hydra_config import HydraConfig

    from bench import single
    from bench.errors import BenchError
    from bench.jobs import plain_hydra, plan

    try:
        single.main(plan(composed, plain_hydra(HydraConfig.get())))
    except BenchError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
