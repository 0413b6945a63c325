"""``python -m bench``: Hydra composes the configuration, then one run or a sweep is made."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import warnings
from contextlib import suppress
from signal import SIGINT
from typing import TYPE_CHECKING

from bench import interruption
from bench.interruption import Interrupted

if TYPE_CHECKING:
    from argparse import Namespace

    from omegaconf import DictConfig

    from bench.records import Record


def main() -> None:
    interruption.heed_at_once()  # before what takes time to import
    atexit.register(
        gc.freeze
    )  # to look for garbage on the way out takes a second, and helps nobody
    try:
        answer()
    except (Interrupted, KeyboardInterrupt) as error:
        ended = error if isinstance(error, Interrupted) else Interrupted(SIGINT)
        print(f"interrupted{ended.where}", file=sys.stderr)
        sys.exit(ended.status)
    finally:
        interruption.heed()  # nothing is left to be ended


def answer() -> None:
    """Does what the command line says.

    Raises:
        Interrupted: a signal asked for an end.
    """
    from bench import letters
    from bench.command_line import CONF, PLUGINS, read

    letters.never_fail()
    sys.path.append(str(PLUGINS))
    if not sys.flags.safe_path:  # a person's own modules, as `python -m` does
        with suppress(FileNotFoundError):  # the directory is gone
            sys.path.insert(0, os.getcwd())
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to us, to be said in one line
    from bench import beside
    from bench.sweeps import forking

    forking.foresee(sys.argv[1:], CONF / "experiment")
    maker = beside.plan() if beside.foreseen(sys.argv[1:]) else None
    job = None if maker is None else maker.job()
    from bench import provenance
    from bench.errors import BenchError
    from bench.settings.messages import ConfigError, explain, first_line, is_hydras

    warnings.filterwarnings("ignore", r"\s*Running Hydra app with --multirun")  # in many lines
    try:
        if job is not None:
            from bench import single

            single.make(job)
            return
        said = read(sys.argv[1:])
        if said.version:
            print(provenance.summary())
        else:
            do(said)
        sys.stdout.flush()
    except ConfigError as error:
        sys.exit(f"error: {explain(error)}")
    except BenchError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # who reads has seen enough: bench --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not is_hydras(error):
            raise
        typed = " ".join(sys.argv[1:])
        sys.exit(f"error: Hydra cannot use {typed} ({type(error).__name__}: {first_line(error)})")


def do(said: Namespace) -> None:
    """What was asked for: most often one run, or a sweep."""
    from bench import beside, light_imports
    from bench.command_line import carry_out
    from bench.settings import schema

    elsewhere = said.multirun or beside.plans()
    if not (elsewhere or said.cfg or said.info or said.help or said.hydra_help):
        light_imports.fetch_libraries()
    schema.register()
    if said.repeat is None:
        carry_out(said, one_run)
    else:
        from bench import repeat

        carry_out(said, repeat.prepare(said))


def one_run(composed: DictConfig) -> Record | None:
    from hydra.core.hydra_config import HydraConfig

    from bench import single
    from bench.settings.jobs import plain_hydra, plan

    return single.main(plan(composed, plain_hydra(HydraConfig.get())))


if __name__ == "__main__":
    main()
