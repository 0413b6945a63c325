"""``python -m bench``: Hydra composes the configuration, then one run or a sweep is made."""

import os
import sys
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
    from bench.command_line import choose_custom
    from bench.errors import BenchError
    from bench.messages import ConfigError, explain

    config.register()
    sys.argv[1:] = choose_custom(sys.argv[1:])
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(one_run)()
    except ConfigError as error:
        sys.exit(f"error: {explain(error)}")
    except BenchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)


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
